//go:build linux

// Command flood measures what clients get while SYNs come from everywhere: with Kerngate's SYN
// cookies, without them, and without the kernel's either. scripts/bench-flood runs it.
//
// Attacker, client, nodes and pod share one machine, so a flood takes CPU from the client by
// being sent and carried alone. What that costs is measured too, by frames of the same number
// and length that no program knows; the defence is to be judged by that.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/kerngate/kerngate/test/lab"
	"github.com/kerngate/kerngate/test/lab/flood"
)

var (
	bin      = flag.String("bin", "", "folder with kerngate-agent, kerngate-proxy and the rest; empty: they are built")
	rounds   = flag.Int("rounds", 5, "rounds; in each every way is measured once")
	duration = flag.Duration("duration", 3*time.Second, "of a measurement")
	rate     = flag.Int("rate", 20000, "SYNs a second")
	clients  = flag.Int("clients", 300, "well-behaved clients a second")
)

const host = "flood.example.com"

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "flood:", err)
		os.Exit(1)
	}
}

// way is one situation in which clients ask.
type way struct {
	name  string
	node  int // in the lab
	flood bool
	noise bool

	goodput []float64 // percent of well-behaved clients that are answered in time
	took    []float64 // ms until then, of them all
	short   []float64 // requests a second, a connection for each, as fast as answers come
	sent    []float64 // SYNs a second that went out
	cost    []float64 // us of the machine's CPU for one of them, while no client asks
}

func run() (err error) {
	if *rounds < 1 || *rounds > 100 || *rate < 100 || *rate > 200_000 || *duration < time.Second || *duration > 20*time.Second || *clients < 10 || *clients > 2000 {
		return errors.New("-rounds: 1 to 100; -rate: 100 to 200000; -duration: 1s to 20s; -clients: 10 to 2000")
	}
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		return fmt.Errorf("%w (scripts/setup bench)", err)
	}
	dir := *bin
	if dir == "" {
		if dir, err = lab.TempDir(); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if _, err = lab.BuildAll(dir); err != nil {
			return err
		}
	}
	l, err := lab.New(lab.Options{Nodes: 4, NoIPv6: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	for i, n := range []struct{ cookies, kernel string }{{"auto", "1"}, {"off", "1"}, {"off", "0"}} {
		if err := layOut(l, l.Nodes[i], lab.Binaries(dir), n.cookies, n.kernel); err != nil {
			return err
		}
	}
	ways := []*way{
		{name: "no flood"},
		{name: "frames that nobody knows, at the flood's rate", flood: true, noise: true},
		{name: "SYN flood, `--syn-cookies=auto`", flood: true},
		{name: "SYN flood, `--syn-cookies=off`: the kernel's own cookies", flood: true, node: 1},
		{name: "SYN flood, no cookies at all (`tcp_syncookies=0`)", flood: true, node: 2},
	}
	for range *rounds {
		for _, w := range ways {
			if err := w.measure(l, wrk); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
		}
	}
	report(ways)
	return nil
}

// layOut starts an agent and a pod on a node.
func layOut(l *lab.Lab, node *lab.Node, binaries lab.Binaries, cookies, kernel string) error {
	// Clients are new to the node: without cookies it would prefer those whose round trip it knows.
	err := errors.Join(node.SetSysctl("ipv4/tcp_syncookies", kernel), node.SetSysctl("ipv4/tcp_no_metrics_save", "1"))
	if err != nil {
		return err
	}
	pod, err := node.AddPod("pod-" + node.Name)
	if err != nil {
		return err
	}
	if _, err := pod.Serve(binaries.Path("pod"), "web"); err != nil {
		return err
	}
	k, err := node.NewKerngate(binaries)
	if err != nil {
		return err
	}
	k.Args = []string{"--syn-cookies=" + cookies}
	err = k.Manifests.Write("web.yaml", lab.IngressClass(), lab.Ingress("web", lab.Path{Host: host, Service: "web"}),
		lab.Service("web"), lab.EndpointSlice("web", pod.Endpoint(false)))
	if err != nil {
		return err
	}
	if err := errors.Join(l.RouteVIPs(node), k.Start()); err != nil {
		return err
	}
	return k.WaitServing(l.Client, 20*time.Second)
}

// lead is how long a flood is on its way before anything is measured: the queues are full then,
// and the agent has seen it. For alone it is measured without clients.
const lead, alone = 2 * time.Second, 3 * time.Second

// idle waits for the lead, and then measures what the flood costs.
func (w *way) idle() (us float64, err error) {
	time.Sleep(lead)
	before, err := busy()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	time.Sleep(alone)
	after, err := busy()
	syns := time.Since(began).Seconds() * float64(*rate)
	return float64((after - before).Microseconds()) / syns, err
}

// busy returns the time for which the machine's CPUs have worked.
func busy() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	var user, nice, system, idle, wait, irq, softirq int64
	if _, err := fmt.Sscanf(string(text), "cpu %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &wait, &irq, &softirq); err != nil {
		return 0, fmt.Errorf("/proc/stat: %w", err)
	}
	const tick = time.Second / 100 // USER_HZ
	return time.Duration(user+nice+system+irq+softirq) * tick, nil
}

func (w *way) measure(l *lab.Lab, wrk string) error {
	node := l.Nodes[w.node]
	if err := l.RouteVIPs(node); err != nil {
		return err
	}
	if w.flood {
		f, err := flood.Start(l.Nodes[3].Host, flood.Target{Node: node, Address: netip.AddrPortFrom(l.VIP4, 80), Noise: w.noise}, *rate)
		if err != nil {
			return err
		}
		began := time.Now()
		defer func() {
			if sent, err := f.Stop(); err == nil {
				w.sent = append(w.sent, float64(sent)/time.Since(began).Seconds())
			}
		}()
		cost, err := w.idle()
		if err != nil {
			return err
		}
		w.cost = append(w.cost, cost)
	}
	v := visit(l, *clients, *duration)
	w.goodput, w.took = append(w.goodput, 100*float64(v.answered)/float64(v.asked)), append(w.took, v.took...)
	if v.answered == 0 { // wrk would wait for its first connection until the flood is over
		w.short = append(w.short, 0)
		return nil
	}
	short, err := ask(l, wrk)
	w.short = append(w.short, short)
	return err
}

var rateOf = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)

// ask has eight clients ask as fast as they are answered, each time by a new connection, and
// returns requests a second.
func ask(l *lab.Lab, wrk string) (float64, error) {
	out, err := l.Client.Run(lab.Command{Path: wrk, Args: []string{
		"-t1", "-c8", fmt.Sprintf("-d%.0fs", duration.Seconds()), "-H", "Host: " + host, "-H", "Connection: close", "http://" + l.VIP4.String() + "/",
	}})
	if err != nil {
		return 0, err
	}
	found := rateOf.FindStringSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("wrk's output is not understood:\n%s", out)
	}
	return strconv.ParseFloat(found[1], 64)
}

// report prints medians with their ranges, and what part they are of those that the flood's
// mere being sent leaves.
func report(ways []*way) {
	fmt.Println("| while there is | SYNs/s sent | CPU us per SYN | clients answered within 1 s | ms, median | 99 % | requests/s as fast as can be | of the baseline |")
	fmt.Println("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	base := ways[1]
	for _, w := range ways {
		sent, cost, took, slowest := "-", "-", "-", "-"
		if len(w.sent) > 0 {
			sent = fmt.Sprintf("%.0f", median(w.sent))
			cost = fmt.Sprintf("%.1f (%.1f-%.1f)", median(w.cost), slices.Min(w.cost), slices.Max(w.cost))
		}
		if len(w.took) > 0 {
			took, slowest = fmt.Sprintf("%.1f", median(w.took)), fmt.Sprintf("%.1f", quantile(w.took, 0.99))
		}
		fmt.Printf("| %s | %s | %s | %.1f %% (%.1f-%.1f) | %s | %s | %s | %s |\n", w.name, sent, cost,
			median(w.goodput), slices.Min(w.goodput), slices.Max(w.goodput), took, slowest,
			spread(w.short), share(w.short, base.short))
	}
}

func median(values []float64) float64 { return quantile(values, 0.5) }

func quantile(values []float64, q float64) float64 {
	return slices.Sorted(slices.Values(values))[int(q*float64(len(values)-1)+0.5)]
}

func spread(values []float64) string {
	return fmt.Sprintf("%.0f (%.0f-%.0f)", median(values), slices.Min(values), slices.Max(values))
}

// share is the median of the rounds' own ratios: neighbours in time are measured alike.
func share(values, base []float64) string {
	var ratios []float64
	for i := range values {
		ratios = append(ratios, values[i]/base[i])
	}
	return fmt.Sprintf("%.0f %% (%.0f-%.0f)", 100*median(ratios), 100*slices.Min(ratios), 100*slices.Max(ratios))
}
