//go:build linux

// Command benchcontrol measures how long a change of an Ingress takes to be answered by the
// proxy, and what many Ingresses cost: in a lab, with the real agent, proxy and kernel maps,
// from a folder of manifests and from a real API server. scripts/bench-control builds and runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/test/lab"
	"github.com/kerngate/kerngate/test/lab/load"
)

const (
	stableHost = "stable.bench.test"
	perService = 10                    // Ingresses that lead to one Service
	every      = 10 * time.Millisecond // between changes: 100 a second
	answerTime = 30 * time.Second      // in which each change must be answered
)

// source is where the agent gets its objects from.
type source interface {
	name() string
	args() []string
	// fill makes the objects that there are at first: n Ingresses, and what they need.
	fill(ctx context.Context, n int) error
	// publish makes one more Ingress.
	publish(ctx context.Context, name, host string) error
	stop()
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "benchcontrol:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	bin := flag.String("bin", "", "folder of the executables")
	folder := flag.String("folder", "5000,20000,100000", "numbers of Ingresses in a folder of manifests")
	cluster := flag.String("cluster", "5000,20000", "numbers of Ingresses in a cluster")
	changes := flag.Int("changes", 300, "changes to make, one at a time, at most 100 a second")
	flag.Parse()
	fmt.Print("| source | Ingresses | start to answer, s | agent, MiB | proxy, MiB | change to answer p50, ms | p99, ms | changes/s | other requests | failed |\n" +
		"| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	for _, kind := range []struct {
		sizes string
		make  func(*lab.Lab, *lab.Kerngate) (source, error)
	}{{*folder, newFolder}, {*cluster, newCluster}} {
		for _, text := range strings.FieldsFunc(kind.sizes, func(c rune) bool { return c == ',' }) {
			n, err := strconv.Atoi(text)
			if err != nil {
				return err
			}
			if err := measure(ctx, lab.Binaries(*bin), kind.make, n, *changes); err != nil {
				return fmt.Errorf("%d Ingresses: %w", n, err)
			}
		}
	}
	return nil
}

// measure prints one row.
func measure(ctx context.Context, bin lab.Binaries, newSource func(*lab.Lab, *lab.Kerngate) (source, error), n, changes int) (err error) {
	l, err := lab.New(lab.Options{Nodes: 1, NoIPv6: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	pod, err := l.Nodes[0].AddPod("web-1")
	if err != nil {
		return err
	}
	if _, err := pod.Serve(bin.Path("pod"), "web"); err != nil {
		return err
	}
	k, err := l.Nodes[0].NewKerngate(bin)
	if err != nil {
		return err
	}
	s, err := newSource(l, k)
	if err != nil {
		return err
	}
	defer s.stop()
	fmt.Fprintf(os.Stderr, "benchcontrol: %s, %d Ingresses: filling\n", s.name(), n)
	if err := s.fill(ctx, n); err != nil {
		return err
	}
	k.Args = append(k.Args, s.args()...)
	start := time.Now()
	if err := k.Start(); err != nil {
		return err
	}
	vip := netip.AddrPortFrom(l.VIP4, 80)
	client := l.Client.HTTPClient(vip)
	client.Timeout = time.Second
	if err := lab.Until(3*time.Minute, "the last host's answer", func() error { return answered(client, hostOf(n-1)) }); err != nil {
		return fmt.Errorf("%w\n%s", err, k.Agent.LogTail(10))
	}
	cold := time.Since(start)
	others := load.Start(load.Options{
		Dial:        func(ctx context.Context) (net.Conn, error) { return l.Client.Dial(ctx, "tcp", vip.String()) },
		Connections: 2, Rate: 200, Limit: 10 * time.Minute, Requests: []load.Request{{Host: stableHost, Path: "/"}},
	})
	var took []time.Duration
	begin := time.Now()
	for i := range changes {
		due := begin.Add(time.Duration(i) * every)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Until(due)):
		}
		host := fmt.Sprintf("new-%d.bench.test", i)
		if err := answered(client, host); err == nil {
			return fmt.Errorf("%s is answered before it is published", host)
		}
		at := time.Now()
		if err := s.publish(ctx, fmt.Sprintf("new-%d", i), host); err != nil {
			return err
		}
		for err := errors.New(""); err != nil; err = answered(client, host) {
			if time.Since(at) > answerTime {
				return fmt.Errorf("%s is not answered: %w", host, err)
			}
		}
		took = append(took, time.Since(at))
	}
	rate := float64(changes) / time.Since(begin).Seconds()
	report := others.Stop()
	proxies, err := k.ProxyPIDs()
	if err != nil || len(proxies) != 1 {
		return fmt.Errorf("proxies %v, %w", proxies, err)
	}
	agent, err := residentMiB(k.Agent.PID)
	proxy, err2 := residentMiB(proxies[0])
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	slices.Sort(took)
	ms := func(share float64) float64 {
		return float64(took[min(len(took)-1, int(share*float64(len(took))))].Microseconds()) / 1000
	}
	fmt.Printf("| %s | %d | %.1f | %d | %d | %.1f | %.1f | %.0f | %d | %d |\n",
		s.name(), n, cold.Seconds(), agent, proxy, ms(0.5), ms(0.99), rate, report.Requests, report.Failed)
	return nil
}

func hostOf(i int) string { return fmt.Sprintf("host-%d.bench.test", i) }

// answered asks for a host, and reports an error unless its pod has answered.
func answered(client *http.Client, host string) error {
	response, err := client.Get("http://" + host + "/")
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// residentMiB is a process's own memory (RssAnon).
func residentMiB(pid int) (int, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(raw), "RssAnon:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, errors.New("no RssAnon in /proc/PID/status")
	}
	kib, err := strconv.Atoi(fields[0])
	return kib / 1024, err
}
