//go:build linux

// Command bench measures Kerngate and other proxies side by side: in one lab, on the same
// node, in interleaved rounds, with one CPU for the proxy and the rest for client and pods.
// What counts is requests per second of CPU time that the proxy used, because that is what a
// node pays; latency is told beside it. scripts/bench builds what it needs and calls it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

type options struct {
	bin, out string
	rounds   int
	duration time.Duration
	proxies  string
	only     string
	pods     int
	idle     int
	skMsg    bool
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "folder with the binaries")
	flag.StringVar(&o.out, "o", "", "also write the tables to this file, as Markdown")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of each scenario and proxy")
	flag.DurationVar(&o.duration, "duration", 3*time.Second, "of a round")
	flag.StringVar(&o.proxies, "proxies", "kerngate,nginx,haproxy", "what to measure; ratios are those of the first to the others")
	flag.StringVar(&o.only, "only", "", "run only scenarios whose name contains this")
	flag.IntVar(&o.pods, "pods", 2, "pods behind the service")
	flag.IntVar(&o.idle, "idle", 10_000, "connections that stand idle while memory is measured")
	flag.BoolVar(&o.skMsg, "sk-msg", false, "measure --sk-msg beside Kerngate without it, and no other proxies")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	if missing := lab.Missing(); missing != "" {
		return fmt.Errorf("it needs %s", missing)
	}
	if runtime.NumCPU() < 2 {
		return errors.New("it needs two CPUs: one for the proxy and one for client and pods")
	}
	for _, tool := range []string{"wrk", "h2load"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w; scripts/setup bench installs it", err)
		}
	}
	nodes := 1
	if o.skMsg {
		nodes = 2
	}
	l, err := lab.New(lab.Options{Nodes: nodes})
	if err != nil {
		return err
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	done := make(chan error, 1)
	go func() { done <- measureAll(l, o) }()
	select {
	case err = <-done:
	case s := <-interrupted:
		err = fmt.Errorf("stopped by signal %s", s)
	}
	return errors.Join(err, l.Close())
}

// measureAll runs every scenario over every proxy, round by round, and prints tables.
func measureAll(l *lab.Lab, o options) error {
	open, list := newBench, scenarios
	if o.skMsg {
		open, list = newSkMsgBench, skMsgScenarios
	}
	b, err := open(l, o)
	if err != nil {
		return err
	}
	var out io.Writer = os.Stdout
	if o.out != "" {
		file, err := os.Create(o.out)
		if err != nil {
			return err
		}
		defer file.Close()
		out = io.MultiWriter(os.Stdout, file)
	}
	if o.skMsg {
		fmt.Fprint(out, b.skMsgPreamble(o))
	} else {
		fmt.Fprint(out, b.preamble(o))
	}
	for _, s := range list {
		if !strings.Contains(s.name, o.only) {
			continue
		}
		measure := b.measureScenario
		if o.skMsg {
			measure = b.measureSkMsg
		}
		table, err := measure(s, o)
		if err != nil {
			return fmt.Errorf("%s, %w", s.name, err)
		}
		fmt.Fprint(out, table)
	}
	if !o.skMsg && strings.Contains(memoryTitle, o.only) {
		table, err := b.measureMemory(o.idle)
		if err != nil {
			return fmt.Errorf("%s: %w", memoryTitle, err)
		}
		fmt.Fprint(out, table)
	}
	return nil
}

// measureScenario runs a scenario over every proxy, in turn, so that drift meets all alike.
func (b *bench) measureScenario(s scenario, o options) (string, error) {
	results, plain := make([][]sample, len(b.proxies)), make([][]sample, len(b.proxies))
	for range o.rounds {
		for i, p := range b.proxies {
			got, err := b.measure(p, s.load, o.duration)
			if err != nil {
				return "", fmt.Errorf("%s: %w", p.name, err)
			}
			results[i] = append(results[i], got)
			if s.plain == nil {
				continue
			}
			if got, err = b.measure(p, s.plain, o.duration); err != nil {
				return "", fmt.Errorf("%s, plain: %w", p.name, err)
			}
			plain[i] = append(plain[i], got)
		}
	}
	var summaries []summary
	for i, p := range b.proxies {
		m := summarise(p.name, results[i])
		if s.plain != nil {
			m.cost = cost(results[i], plain[i])
		}
		summaries = append(summaries, m)
	}
	return markdown(s, summaries), nil
}

// bench is the lab with all proxies running. Those that are not measured stand idle.
type bench struct {
	lab     *lab.Lab
	node    *lab.Node
	bin     string
	proxies []*contender
	rest    []int // CPUs for everything but the proxies

	ecdsa, rsa *lab.Certificate
}

// contender is a proxy under measurement.
type contender struct {
	name, version string
	plain, secure netip.AddrPort // where it speaks HTTP, and HTTPS
	processes     func() ([]int, error)
	restart       func() error
	enter         func() error // leads the client to it; nil: it is there anyway
}

// The hosts that are asked for: benchHost and grpcHost have a certificate with an ECDSA key,
// rsaHost one with an RSA key.
const (
	proxyCPU  = 0
	benchHost = "bench.example.com"
	grpcHost  = "grpc.bench.example.com"
	rsaHost   = "rsa.bench.example.com"
	// rulesHost has its path rewritten, three header rules and a limit of the rate, which
	// is never reached.
	rulesHost = "rules.bench.example.com"
)

// emptyBench is a bench without proxies.
func emptyBench(l *lab.Lab, o options) *bench {
	b := &bench{lab: l, node: l.Nodes[0], bin: o.bin}
	for cpu := range runtime.NumCPU() {
		if cpu != proxyCPU {
			b.rest = append(b.rest, cpu)
		}
	}
	return b
}

func newBench(l *lab.Lab, o options) (*bench, error) {
	b := emptyBench(l, o)
	if err := b.makeCertificates(); err != nil {
		return nil, err
	}
	web, err := b.addPods("backend", "bench", o.pods)
	if err != nil {
		return nil, err
	}
	grpc, err := b.addPods("grpcpod", "grpc", o.pods)
	if err != nil {
		return nil, err
	}
	add := map[string]func(web, grpc []*lab.Pod) error{"kerngate": func(web, grpc []*lab.Pod) error { return b.addKerngate(web, grpc) }, "nginx": b.addNginx, "haproxy": b.addHAProxy}
	for _, name := range strings.Split(o.proxies, ",") {
		if add[name] == nil {
			return nil, fmt.Errorf("-proxies: %q is none of kerngate, nginx and haproxy", name)
		}
		if err := add[name](web, grpc); err != nil {
			return nil, fmt.Errorf("start %s: %w", name, err)
		}
	}
	return b, nil
}

func (b *bench) makeCertificates() error {
	authority, err := lab.NewAuthority("bench")
	if err != nil {
		return err
	}
	if b.ecdsa, err = authority.Issue(lab.Request{Names: []string{benchHost, grpcHost}}); err != nil {
		return err
	}
	if b.rsa, err = authority.Issue(lab.Request{Names: []string{rsaHost}, Kind: lab.RSA}); err != nil {
		return err
	}
	// The others read chain and key from one file.
	for name, c := range map[string]*lab.Certificate{"ecdsa.pem": b.ecdsa, "rsa.pem": b.rsa} {
		if err := os.WriteFile(filepath.Join(b.lab.Dir, name), slices.Concat(c.Chain, c.Key), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// addPods starts pods that run one of the benchmark's servers.
func (b *bench) addPods(server, service string, n int) ([]*lab.Pod, error) {
	var pods []*lab.Pod
	for i := range n {
		pod, err := b.node.AddPod(fmt.Sprintf("%s-%d", service, i+1))
		if err != nil {
			return nil, err
		}
		if _, err := pod.Start(lab.Command{Path: filepath.Join(b.bin, server), Env: []string{"GOMAXPROCS=1", "GOGC=400"}, CPUs: b.rest}); err != nil {
			return nil, err
		}
		if err := b.node.WaitListening(netip.AddrPortFrom(pod.IPv4, lab.PodPort)); err != nil {
			return nil, err
		}
		pods = append(pods, pod)
	}
	return pods, nil
}

// preamble says what was measured, on what, and how.
func (b *bench) preamble(o options) string {
	var text strings.Builder
	fmt.Fprintf(&text, "# Benchmark\n\nWritten by `make bench` on %s; do not edit.\n\n", time.Now().UTC().Format("2 January 2006"))
	fmt.Fprintf(&text, "- Machine: %d x %s, Linux %s, %s\n", runtime.NumCPU(), cpuModel(), kernelRelease(), runtime.Version())
	for _, p := range b.proxies {
		fmt.Fprintf(&text, "- %s: %s\n", p.name, p.version)
	}
	fmt.Fprintf(&text, "- Each proxy has CPU %d to itself; client (wrk, h2load, or one of our own) and %d pods share CPU(s) %v; all in network namespaces joined by veth.\n", proxyCPU, o.pods, b.rest)
	fmt.Fprintf(&text, "- %d rounds of %s for each scenario, the proxies in turn; medians, with the range of the rounds in brackets.\n", o.rounds, o.duration)
	fmt.Fprintf(&text, "- TLS: version 1.3 with X25519 and AES-128-GCM everywhere; certificates of this run, ECDSA P-256 unless it says RSA. HTTP/2 and gRPC go over TLS to the proxy; gRPC goes on in clear text.\n")
	fmt.Fprintf(&text, "- \"per proxy CPU-second\": requests (or handshakes) per second of user and system time of the proxy's processes. "+
		"\"per total CPU-second\": per second that any CPU of the machine was busy, client and pods included.\n")
	return text.String()
}

func cpuModel() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, model, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return runtime.GOARCH
}

func kernelRelease() string {
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(string(release))
}

// median of values, and their range.
func median(values []float64) (middle, low, high float64) {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0, 0, 0
	}
	middle = sorted[n/2]
	if n%2 == 0 {
		middle = (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return middle, sorted[0], sorted[n-1]
}
