//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// result is what one attack on one product came to.
type result struct {
	attack  *attack
	product string
	visits  visits
	sent    map[string]int64 // by attackers, by counter
	memory  memory
	counted map[string]float64 // how the product's counters moved
}

// memory of a product's processes, in bytes of RssAnon.
type memory struct {
	before, peak, after int64
	back                time.Duration // after which it was at most backTo of before; 0: never
}

// backTo is how much of the memory before an attack a product may keep.
const backTo = 1.2

// run runs an attack on each product, one after the other.
func (s *site) run(a *attack, o options) (results []*result, err error) {
	var recoveries sync.WaitGroup
	defer recoveries.Wait()
	failed := make(chan error, len(s.products))
	for _, p := range s.products {
		if a.only != "" && a.only != p.name {
			continue
		}
		if err := p.restart(); err != nil {
			return nil, fmt.Errorf("start %s: %w", p.name, err)
		}
		if err := s.warmUp(p); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		quiet := tcpMemory()
		r, err := s.attack(a, p, o)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		results = append(results, r)
		// While its memory comes back the next product is attacked, but not before the kernel has
		// closed the connections of this attack: all products, and their pods, share it.
		recoveries.Go(func() {
			if err := r.recover(p, o.patience); err != nil {
				failed <- err
			}
		})
		settle(quiet)
	}
	recoveries.Wait()
	select {
	case err := <-failed:
		return nil, err
	default:
		return results, nil
	}
}

// settleTime bounds how long one product waits for what the attack on another has left.
const settleTime = 10 * time.Second

// settle waits until the kernel's memory for TCP is nearly as little as before an attack.
func settle(before int64) {
	const near = 2048 // pages
	for end := time.Now().Add(settleTime); tcpMemory() > before+near && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
}

// tcpMemory returns how many pages all TCP sockets of the machine hold, 0 if that is not known.
func tcpMemory() (pages int64) {
	text, _ := os.ReadFile("/proc/net/sockstat")
	_, rest, _ := strings.Cut(string(text), "\nTCP: ")
	line, _, _ := strings.Cut(rest, "\n")
	_, value, _ := strings.Cut(line, " mem ")
	pages, _ = strconv.ParseInt(value, 10, 64)
	return pages
}

// attack runs an attack on a product, beside an honest client.
func (s *site) attack(a *attack, p *product, o options) (*result, error) {
	r := &result{attack: a, product: p.name, sent: map[string]int64{}}
	before, err := p.count()
	if err != nil {
		return nil, err
	}
	if r.memory.before, err = p.memory(); err != nil {
		return nil, err
	}
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() { r.memory.peak = p.peak(stop) })
	defer func() {
		close(stop)
		watching.Wait()
	}()

	parts := attackers
	if a.from == fromOne {
		parts = 1
	}
	var processes []*lab.Process
	var said []*bytes.Buffer
	const lead = 500 * time.Millisecond
	for i := range parts {
		out := new(bytes.Buffer)
		process, err := s.start(s.attackers[i], 10, out, role{
			name: roleAttacker, attack: a.name, plain: p.plain.String(), secure: p.secure.String(), parts: parts,
			sources: join(a.from.addresses(i)), duration: o.duration + 2*lead,
		})
		if err != nil {
			return nil, err
		}
		processes, said = append(processes, process), append(said, out)
	}
	time.Sleep(lead)
	out := new(bytes.Buffer)
	client, err := s.start(s.lab.Client, 0, out, role{name: roleClient, plain: p.plain.String(), secure: p.secure.String(), duration: o.duration, http3: a.http3})
	if err != nil {
		return nil, err
	}
	if err := finish(client, out, &r.visits); err != nil {
		return nil, err
	}
	for i, process := range processes {
		var counts map[string]int64
		if err := finish(process, said[i], &counts); err != nil {
			return nil, err
		}
		for name, n := range counts {
			r.sent[name] += n
		}
	}
	after, err := p.count()
	if err != nil {
		return nil, err
	}
	r.counted = moved(before, after)
	return r, nil
}

// Each product is asked warmUpRate times a second for warmUpTime before each attack, again if it
// does not answer nearly all.
const (
	warmUpRate  = 300
	warmUpTime  = 2 * time.Second
	warmUpTries = 8
)

// warmUp has a product serve for a while, so that the memory before an attack is not that of a
// process that has just started.
func (s *site) warmUp(p *product) error {
	var v visits
	// The pods may still be busy with what another product has asked of them.
	for range warmUpTries {
		v = visits{}
		out := new(bytes.Buffer)
		client, err := s.start(s.lab.Client, 0, out, role{name: roleClient, plain: p.plain.String(), secure: p.secure.String(), duration: warmUpTime, rate: warmUpRate})
		if err != nil {
			return err
		}
		if err := finish(client, out, &v); err != nil {
			return err
		}
		if v.share() >= answeredAim {
			return nil
		}
	}
	if v.Answered == 0 {
		return fmt.Errorf("without an attack none of %d requests was answered: %v", v.Asked, v.Failed)
	}
	return nil
}

// start starts this program in a role.
func (s *site) start(host *lab.Host, nice int, out *bytes.Buffer, r role) (*lab.Process, error) {
	path, err := exec.LookPath("nice")
	if err != nil {
		return nil, err
	}
	return host.Start(lab.Command{
		Path: path, Args: append([]string{"-n", strconv.Itoa(nice), s.self}, r.args()...), Name: r.name, CPUs: s.rest, Stdout: out,
	})
}

// finish waits for a process and reads what came of it.
func finish(p *lab.Process, out *bytes.Buffer, into any) error {
	if err := p.Wait(); err != nil {
		return fmt.Errorf("%w\n%s", err, p.LogTail(5))
	}
	return json.Unmarshal(out.Bytes(), into)
}

func join(addresses []netip.Addr) string {
	list := make([]string, len(addresses))
	for i, a := range addresses {
		list[i] = a.String()
	}
	return strings.Join(list, ",")
}

// lacks says by the attackers' counters what is missing of the attack; "": nothing.
func (r *result) lacks() string {
	for _, name := range slices.Sorted(maps.Keys(r.attack.least)) {
		if want := r.attack.least[name]; r.sent[name] < want {
			return fmt.Sprintf("%d %s, want at least %d", r.sent[name], name, want)
		}
	}
	return ""
}

func (r *result) recover(p *product, patience time.Duration) error {
	m := &r.memory
	for began := time.Now(); ; time.Sleep(250 * time.Millisecond) {
		var err error
		if m.after, err = p.memory(); err != nil {
			return err
		}
		if float64(m.after) <= backTo*float64(m.before) {
			m.back = max(time.Since(began), time.Millisecond)
			return nil
		}
		if time.Since(began) >= patience {
			return nil
		}
	}
}

func (p *product) count() (map[string]float64, error) {
	if p.counters == nil {
		return nil, nil
	}
	return p.counters()
}

// memory is the anonymous memory of the product's processes, in bytes.
func (p *product) memory() (sum int64, err error) {
	pids, err := p.processes()
	if err != nil {
		return 0, err
	}
	if len(pids) == 0 {
		return 0, errors.New("no process of it runs: it did not live through an attack")
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

// peak returns the largest memory until stop is closed.
func (p *product) peak(stop chan struct{}) (most int64) {
	for {
		if n, err := p.memory(); err == nil {
			most = max(most, n)
		}
		select {
		case <-stop:
			return most
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// countersOf reads the proxy's metrics.
func countersOf(node *lab.Host) (map[string]float64, error) {
	address, err := netip.ParseAddrPort(lab.ProxyMetricsAddress)
	if err != nil {
		return nil, err
	}
	client := node.HTTPClient(address)
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + lab.ProxyMetricsAddress + "/metrics")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics: status %d", response.StatusCode)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	return parseCounters(string(text)), nil
}

// parseCounters returns the counters of a metrics page, by name and labels.
func parseCounters(text string) map[string]float64 {
	counters := map[string]float64{}
	for line := range strings.Lines(text) {
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		name, _, _ := strings.Cut(line[:at], "{")
		if value, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64); err == nil && strings.HasSuffix(name, "_total") {
			counters[line[:at]] += value
		}
	}
	return counters
}

// moved returns by how much counters have grown.
func moved(before, after map[string]float64) map[string]float64 {
	grown := map[string]float64{}
	for name, n := range after {
		if n > before[name] {
			grown[name] = n - before[name]
		}
	}
	return grown
}
