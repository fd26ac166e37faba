package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/inspect"
	"github.com/kerngate/kerngate/userspace/look/explain"
)

// topRows is how many sources and services are shown.
const topRows = 10

// topEvents is how many events of each reason top asks for, per second and CPU.
const topEvents = 200

// load is what `kerngatectl top` shows of one interval.
type load struct {
	Seconds  float64       `json:"seconds"` // how long the interval was
	Packets  []packetRate  `json:"packets"`
	Sampled  bool          `json:"sampled"` // sources and new flows are estimates from samples
	Sources  []sourceRate  `json:"sources"`
	Services []serviceRate `json:"services"`
}

// packetRate is one counter of kg_counters.
type packetRate struct {
	Program   string  `json:"program"`
	Reason    string  `json:"reason"`
	Dropped   bool    `json:"dropped"`
	PerSecond float64 `json:"perSecond"`
}

// sourceRate is what was dropped of one source.
type sourceRate struct {
	Source    string   `json:"source"`
	PerSecond float64  `json:"perSecond"`
	Reasons   []string `json:"reasons"`
}

// serviceRate is the load of a service: requests by the proxies, flows by the kernel.
type serviceRate struct {
	Name     string  `json:"name"`
	Requests float64 `json:"requestsPerSecond"`
	NewFlows float64 `json:"newFlowsPerSecond"` // L4
}

func newTop(e env, o *options) *cobra.Command {
	var rounds int
	var interval time.Duration
	c := &cobra.Command{
		Use:   "top",
		Short: "Show the load of this node: packets, drops and their sources, services",
		Long: `top shows, for each interval: packets per second by program and reason, drops first; the
sources with the most dropped packets; and the services with the most requests (in the
proxies) and new flows (of L4 services).

Packets and requests are exact counts. Sources and new flows are estimates: a few hundred
packets per second are sampled for each reason, and scaled to the exact counts.

Only one watch or top can sample on a node at a time; while a watch runs, top shows only
the exact counts.`,
		Example: `  kerngatectl top
  kerngatectl top -n 1 --interval 10s -o json`,
		Args: atMost(0),
		RunE: func(c *cobra.Command, _ []string) error {
			if interval < 100*time.Millisecond || rounds < 0 {
				return usageError{errors.New("--interval must be at least 100ms, and -n must not be negative")}
			}
			return top(c.Context(), e, o, rounds, interval)
		},
	}
	c.Flags().IntVarP(&rounds, "rounds", "n", 0, "number of intervals to show; 0: until interrupted")
	c.Flags().DurationVar(&interval, "interval", time.Second, "length of one interval")
	return c
}

// isTerminal reports whether standard output is shown to a person.
func isTerminal() bool {
	_, err := unix.IoctlGetTermios(int(os.Stdout.Fd()), unix.TCGETS)
	return err == nil
}

// What a terminal understands (ECMA-48, and xterm's second screen).
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	clearScreen = "\x1b[H\x1b[2J"
)

func top(ctx context.Context, e env, o *options, rounds int, interval time.Duration) error {
	want := inspect.WatchOptions{PerSecond: topEvents}
	for _, r := range inspect.WatchedReasons() {
		if r.Drops() || r.Name == "l4_new" {
			want.Reasons = append(want.Reasons, r)
		}
	}
	r, err := e.openWatch(o.bpffs, want)
	switch {
	case errors.Is(err, inspect.ErrWatched):
		fmt.Fprintln(e.stderr, "note: neither sources nor new flows:", err)
		r = nil
	case err != nil:
		return err
	default:
		defer r.Close()
	}
	before, err := e.readLoad(o.bpffs)
	if err != nil {
		return mapsError(o, err)
	}
	redraw := o.output == "table" && rounds != 1 && e.isTerminal()
	if redraw {
		fmt.Fprint(e.stdout, enterScreen)
		defer fmt.Fprint(e.stdout, leaveScreen)
	}
	for n := 0; rounds == 0 || n < rounds; n++ {
		start := e.now()
		events, err := collect(ctx, e, r, start.Add(interval))
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		after, err := e.readLoad(o.bpffs)
		if err != nil {
			return mapsError(o, err)
		}
		l := makeLoad(before, after, events, e.now().Sub(start).Seconds())
		l.Sampled = r != nil
		before = after
		var screen bytes.Buffer // written at once, so that it does not flicker
		if redraw {
			screen.WriteString(clearScreen)
		} else if n > 0 && o.output == "yaml" {
			screen.WriteString("---\n")
		} else if n > 0 && o.output == "table" {
			screen.WriteString("\n")
		}
		if err := show(&screen, o, l, l.table); err != nil {
			return err
		}
		if _, err := e.stdout.Write(screen.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// collect reads events until a time; without a reader it waits until then.
func collect(ctx context.Context, e env, r eventReader, end time.Time) (events []inspect.Event, err error) {
	if r == nil {
		select {
		case <-ctx.Done():
		case <-time.After(end.Sub(e.now())):
		}
		return nil, nil
	}
	for ctx.Err() == nil && e.now().Before(end) {
		deadline := e.now().Add(readStep)
		if end.Before(deadline) {
			deadline = end
		}
		event, err := r.Read(deadline)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read events: %w", err)
		}
		events = append(events, event)
	}
	return events, nil
}

// makeLoad computes rates from counters and samples.
func makeLoad(before, after *explain.Maps, events []inspect.Event, seconds float64) *load {
	l := &load{Seconds: seconds, Packets: []packetRate{}}
	had := map[inspect.Reason]uint64{}
	for _, c := range before.Counters {
		had[inspect.Reason{Program: c.Program, Name: c.Reason}] = c.Count
	}
	rates := map[inspect.Reason]float64{}
	for _, c := range after.Counters {
		r := inspect.Reason{Program: c.Program, Name: c.Reason}
		if c.Count <= had[r] {
			continue
		}
		rates[r] = float64(c.Count-had[r]) / seconds
		l.Packets = append(l.Packets, packetRate{c.Program, c.Reason, r.Drops(), rates[r]})
	}
	slices.SortStableFunc(l.Packets, func(a, b packetRate) int {
		if a.Dropped != b.Dropped {
			if a.Dropped {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.PerSecond, a.PerSecond)
	})

	// An event stands for as many packets as were counted for each event of its reason.
	seen := map[inspect.Reason]float64{}
	for _, e := range events {
		seen[e.Reason]++
	}
	sources, flows := map[netip.Addr]*sourceRate{}, map[string]float64{}
	for _, e := range events {
		share := rates[e.Reason] / seen[e.Reason]
		if !e.Reason.Drops() {
			flows[e.Service] += share
			continue
		}
		if !e.Source.IsValid() {
			continue
		}
		s := sources[e.Source.Addr()]
		if s == nil {
			s = &sourceRate{Source: e.Source.Addr().String()}
			sources[e.Source.Addr()] = s
		}
		s.PerSecond += share
		if !slices.Contains(s.Reasons, e.Reason.Name) {
			s.Reasons = append(s.Reasons, e.Reason.Name)
		}
	}
	l.Sources = []sourceRate{}
	for _, s := range sources {
		slices.Sort(s.Reasons)
		l.Sources = append(l.Sources, *s)
	}
	slices.SortFunc(l.Sources, func(a, b sourceRate) int {
		return cmp.Or(cmp.Compare(b.PerSecond, a.PerSecond), strings.Compare(a.Source, b.Source))
	})
	l.Sources = l.Sources[:min(len(l.Sources), topRows)]
	l.Services = serviceRates(before, after, flows, seconds)
	return l
}

// serviceRates are the busiest services. A pod of two services counts for both.
func serviceRates(before, after *explain.Maps, flows map[string]float64, seconds float64) []serviceRate {
	out := []serviceRate{}
	had, have := backendsByID(before), backendsByID(after)
	for _, s := range after.Services {
		r := serviceRate{Name: s.Name, NewFlows: flows[s.Name]}
		for _, id := range unique(s.Backends) {
			// Fewer than before: a proxy has ended, with what it had counted.
			if b := have[id]; b.Requests > had[id].Requests {
				r.Requests += float64(b.Requests-had[id].Requests) / seconds
			}
		}
		if r.Requests > 0 || r.NewFlows > 0 {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b serviceRate) int {
		return cmp.Or(cmp.Compare(b.Requests+b.NewFlows, a.Requests+a.NewFlows), strings.Compare(a.Name, b.Name))
	})
	return out[:min(len(out), topRows)]
}

func (l *load) table(w io.Writer) {
	var rows [][]string
	for _, p := range l.Packets {
		fate := ""
		if p.Dropped {
			fate = "dropped"
		}
		rows = append(rows, []string{p.Program, p.Reason, fate, rateText(p.PerSecond)})
	}
	columns(w, "PROGRAM REASON FATE PACKETS/S", rows)
	if l.Sampled {
		rows = nil
		for _, s := range l.Sources {
			rows = append(rows, []string{s.Source, rateText(s.PerSecond), strings.Join(s.Reasons, ",")})
		}
		fmt.Fprintln(w, "\nsources of what is dropped, estimated from samples:")
		columns(w, "SOURCE PACKETS/S REASONS", rows)
	}
	rows = nil
	for _, s := range l.Services {
		rows = append(rows, []string{s.Name, rateText(s.Requests), rateText(s.NewFlows)})
	}
	fmt.Fprintln(w)
	columns(w, "SERVICE REQUESTS/S NEW-FLOWS/S", rows)
}

// rateText is a rate as people read it; none is none.
func rateText(rate float64) string {
	switch {
	case rate == 0:
		return ""
	case rate < 10:
		return fmt.Sprintf("%.1f", rate)
	}
	return fmt.Sprintf("%.0f", rate)
}
