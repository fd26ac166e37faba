package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kerngate/kerngate/loader/inspect"
	"github.com/kerngate/kerngate/loader/state"
)

// eventReader reads events of a node; see inspect.Watch.
type eventReader interface {
	Read(deadline time.Time) (inspect.Event, error)
	Close() error
}

func openWatch(bpffs string, o inspect.WatchOptions) (eventReader, error) {
	w, err := inspect.OpenWatch(bpffs, o)
	if err != nil {
		return nil, err // not w: a nil *inspect.Watch is no nil eventReader
	}
	return w, nil
}

// interfaceName returns an interface's name, its index if it has none any more.
func interfaceName(index uint32) string {
	i, err := net.InterfaceByIndex(int(index))
	if err != nil {
		return fmt.Sprint(index)
	}
	return i.Name
}

// readStep is how long a wait for events lasts before somebody is asked whether to go on.
const readStep = 200 * time.Millisecond

// eventRow is one event as `kerngatectl watch` prints it.
type eventRow struct {
	Time        string `json:"time"` // RFC 3339, UTC
	Program     string `json:"program"`
	Reason      string `json:"reason"`
	Interface   string `json:"interface"`
	Source      string `json:"source,omitempty"`
	Destination string `json:"destination,omitempty"`
	Backend     string `json:"backend,omitempty"`
	Protocol    string `json:"protocol,omitempty"`
	Length      uint32 `json:"length"` // bytes
	Service     string `json:"service,omitempty"`
	Skipped     uint32 `json:"skipped"` // with the same reason, left out before this one
}

// watchFlags are the flags of `kerngatectl watch`.
type watchFlags struct {
	reasons []string
	program string
	source  string
	count   int
	rate    uint32

	prefix netip.Prefix // source
}

func newWatch(e env, o *options) *cobra.Command {
	f := &watchFlags{}
	c := &cobra.Command{
		Use:   "watch",
		Short: "Show individual packets that the kernel programs drop or forward",
		Long: `watch prints one line for each packet that kg_xdp or kg_ingress drops, and for the first
packet of each L4 flow; --reason selects other packets. A line shows the source, the
destination, the interface and the reason.

At most --rate events per second are emitted for each reason and CPU; "skipped" shows how
many were left out before an event. --source filters the emitted events. The counters
(kerngatectl status, kerngate_kernel_packets_total) include every packet.

Only one watch or top can run on a node at a time.`,
		Example: `  kerngatectl watch
  kerngatectl watch --reason denied,rate_packets --source 198.51.100.0/24
  kerngatectl watch --count 100 -o json`,
		Args: atMost(0),
		RunE: func(c *cobra.Command, _ []string) error {
			want, err := f.check(o)
			if err != nil {
				return usageError{err}
			}
			return watch(c.Context(), e, o, f, want)
		},
	}
	flags := c.Flags()
	flags.StringSliceVar(&f.reasons, "reason", nil, "reasons of the packets to show (default all drops, and l4_new)")
	flags.StringVar(&f.program, "program", "", "`name` of the program whose packets to show: kg_xdp or kg_ingress (default both)")
	flags.StringVar(&f.source, "source", "", "show only packets from this address or `prefix`; empty: from all")
	flags.IntVar(&f.count, "count", 0, "number of events after which to end; 0: until interrupted")
	flags.Uint32Var(&f.rate, "rate", 100, "largest number of events per second for each reason and CPU")
	return c
}

// check returns what the flags ask for.
func (f *watchFlags) check(o *options) (want inspect.WatchOptions, err error) {
	if o.output == "yaml" {
		return want, errors.New(`-o "yaml": want table or json, the formats of watch`)
	}
	if f.rate == 0 || f.count < 0 {
		return want, errors.New("--rate must be at least 1, and --count must not be negative")
	}
	if f.source != "" {
		if f.prefix, err = parseSource(f.source); err != nil {
			return want, err
		}
	}
	var names []string
	for _, r := range inspect.WatchedReasons() {
		if !slices.Contains(names, r.Name) {
			names = append(names, r.Name)
		}
		if f.wants(r) {
			want.Reasons = append(want.Reasons, r)
		}
	}
	for _, name := range f.reasons {
		if !slices.Contains(names, name) {
			slices.Sort(names)
			return want, fmt.Errorf("--reason %q: unknown; want one of %s", name, strings.Join(names, ", "))
		}
	}
	if len(want.Reasons) == 0 {
		return want, fmt.Errorf("--program %q: want kg_xdp or kg_ingress", f.program)
	}
	want.PerSecond = f.rate
	return want, nil
}

func (f *watchFlags) wants(r inspect.Reason) bool {
	if f.program != "" && f.program != r.Program {
		return false
	}
	if len(f.reasons) > 0 {
		return slices.Contains(f.reasons, r.Name)
	}
	return r.Drops() || r.Name == "l4_new"
}

func parseSource(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Prefix(a.BitLen())
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("--source %q is neither an address nor a prefix", text)
	}
	return p.Masked(), nil
}

// watch prints events until there are enough or somebody interrupts.
func watch(ctx context.Context, e env, o *options, f *watchFlags, want inspect.WatchOptions) error {
	r, err := e.openWatch(o.bpffs, want)
	if err != nil {
		return err
	}
	defer r.Close()
	for n := 0; ctx.Err() == nil && (f.count == 0 || n < f.count); {
		event, err := r.Read(e.now().Add(readStep))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		if f.prefix.IsValid() && !f.prefix.Contains(event.Source.Addr()) {
			continue
		}
		n++
		if err := makeEventRow(e, &event).print(e.stdout, o); err != nil {
			return err
		}
	}
	return nil
}

func makeEventRow(e env, event *inspect.Event) *eventRow {
	row := &eventRow{
		Time: event.Time.UTC().Format("2006-01-02T15:04:05.000Z07:00"), Program: event.Reason.Program, Reason: event.Reason.Name,
		Interface: e.interfaceName(event.Interface), Length: event.Length, Service: event.Service, Skipped: event.Skipped,
	}
	if event.Source.IsValid() {
		row.Source, row.Destination = endpoint(event.Source), endpoint(event.Destination)
		row.Protocol = transportName(event.Protocol)
	}
	if event.Backend.IsValid() {
		row.Backend = endpoint(event.Backend)
	}
	return row
}

// endpoint leaves out a port that was not found, or that the protocol has not.
func endpoint(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}

func transportName(protocol uint8) string {
	switch protocol {
	case 1:
		return "ICMP"
	case 58:
		return "ICMPv6"
	}
	return protocolName(state.Protocol(protocol))
}

func (r *eventRow) print(w io.Writer, o *options) error {
	if o.output == "json" {
		return json.NewEncoder(w).Encode(r)
	}
	line := fmt.Sprintf("%s %s %s %s", r.Time, r.Program, r.Reason, r.Interface)
	if r.Source != "" {
		line += fmt.Sprintf(" %s -> %s", r.Source, r.Destination)
		if r.Backend != "" {
			line += " -> " + r.Backend
		}
		line += " " + r.Protocol
	}
	line += fmt.Sprintf(" %d bytes", r.Length)
	if r.Service != "" {
		line += " " + r.Service
	}
	if r.Skipped > 0 {
		line += fmt.Sprintf(" (%d skipped)", r.Skipped)
	}
	_, err := fmt.Fprintln(w, line)
	return err
}
