//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

const memoryTitle = "user memory of idle connections"

// measureMemory opens many connections to each proxy, makes one request on each, and tells
// how much more memory of its own the proxy's processes then have, per connection. The
// kernel's memory for sockets is the same for all.
func (b *bench) measureMemory(connections int) (string, error) {
	var text strings.Builder
	fmt.Fprintf(&text, "\n## %s, %d at a time\n\n", memoryTitle, connections)
	fmt.Fprint(&text, "Growth of the processes' anonymous memory (RssAnon) from a moment with few connections to ten seconds after the last request, per connection.\n\n"+
		"| proxy | HTTP/1.1 | HTTP/1.1 over TLS | HTTP/2 over TLS |\n| --- | --- | --- | --- |\n")
	for _, p := range b.proxies {
		fmt.Fprintf(&text, "| %s |", p.name)
		for _, protocol := range []string{"http", "https", "h2"} {
			perConnection, err := b.idleMemory(p, protocol, connections)
			if err != nil {
				return "", fmt.Errorf("%s, %s: %w", p.name, protocol, err)
			}
			fmt.Fprintf(&text, " %.1f KiB |", perConnection/1024)
		}
		fmt.Fprintln(&text)
	}
	return text.String(), nil
}

// settle is how long a proxy has to give back what opening the connections took.
const settle = 10 * time.Second

// idleMemory returns bytes per connection.
func (b *bench) idleMemory(p *contender, protocol string, connections int) (float64, error) {
	// A process that has had as many connections before would reuse their memory.
	if err := p.restart(); err != nil {
		return 0, err
	}
	// All of its processes are there, and have what they need for the first requests.
	if _, err := b.run(p, wrk{size: 128, connections: 16}, time.Second); err != nil {
		return 0, err
	}
	pids, err := p.processes()
	if err != nil {
		return 0, err
	}
	before, err := ownMemory(pids)
	if err != nil {
		return 0, err
	}
	address := p.plain
	if protocol != "http" {
		address = p.secure
	}
	ready := filepath.Join(b.lab.Dir, "idle.ready")
	if err := os.RemoveAll(ready); err != nil {
		return 0, err
	}
	client, err := b.lab.Client.Start(lab.Command{
		Path: filepath.Join(b.bin, "client"), Name: "idle", CPUs: b.rest,
		Args: []string{"-mode=idle", "-protocol=" + protocol, "-address=" + address.String(), "-host=" + benchHost,
			fmt.Sprintf("-connections=%d", connections), "-duration=5m", "-ready=" + ready},
	})
	if err != nil {
		return 0, err
	}
	err = lab.Until(4*time.Minute, fmt.Sprintf("%d idle connections", connections), func() error {
		select {
		case <-client.Done():
			return nil
		default:
		}
		_, err := os.Stat(ready)
		return err
	})
	if err != nil {
		return 0, err
	}
	select {
	case <-client.Done():
		return 0, errors.New(client.LogTail(3))
	case <-time.After(settle):
	}
	after, err := ownMemory(pids)
	if err != nil {
		return 0, err
	}
	if err := client.Stop(10 * time.Second); err != nil {
		return 0, err
	}
	if client.ExitCode() != 0 {
		return 0, errors.New(client.LogTail(3))
	}
	return float64(after-before) / float64(connections), nil
}

// ownMemory is the anonymous memory of the processes, in bytes.
func ownMemory(pids []int) (sum int64, err error) {
	if len(pids) == 0 {
		return 0, errors.New("no process of it runs")
	}
	for _, pid := range pids {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, err
		}
		_, rest, found := strings.Cut(string(status), "\nRssAnon:")
		value, _, ok := strings.Cut(strings.TrimSpace(rest), " kB")
		n, err := strconv.ParseInt(value, 10, 64)
		if !found || !ok || err != nil {
			return 0, fmt.Errorf("/proc/%d/status has no RssAnon", pid)
		}
		sum += n << 10
	}
	return sum, nil
}
