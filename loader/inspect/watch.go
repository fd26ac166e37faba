package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/pins"
	"github.com/kerngate/kerngate/loader/state"
)

// ErrWatched is what OpenWatch fails with while somebody else reads events.
var ErrWatched = errors.New("somebody watches this node already, and events have one reader: end the other kerngatectl watch or top first")

// A watcher says each second that it is still there; the programs stop when it has not.
const (
	watchFor   = 3 * time.Second
	watchRenew = time.Second
)

// Reason is why a program ended, as a counter and an event name it.
type Reason struct {
	Program string // "kg_xdp"
	Name    string // "denied"
}

// watchedPrograms are those that make events.
var watchedPrograms = []string{"kg_xdp", "kg_ingress"}

// WatchedReasons returns the reasons of which there are events.
func WatchedReasons() (out []Reason) {
	for n := range abi.Reasons {
		program, name := abi.ReasonNames(n)
		// Counted on the way, not an end.
		if slices.Contains(watchedPrograms, program) && name != "node_arrived" {
			out = append(out, Reason{program, name})
		}
	}
	return out
}

// notDropped are the reasons of kg_xdp and kg_ingress for which a packet is not dropped.
var notDropped = []string{"not_ip", "not_ours", "passed", "allowed", "malformed", "l4_forwarded", "l4_new", "l4_icmp",
	"l4_fragment", "l4_fragment_lost", "l4_no_backend", "node_backend", "node_owner", "node_second", "node_left", "node_arrived", "cookie_sent"}

// refusals are the reasons of the other programs for which a connection or datagram is.
var refusals = []Reason{{"kg_lookup", "no_proxy"}, {"kg_lookup", "no_worker"}, {"kg_lookup", "assign_failed"}, {"kg_lookup", "l4"}, {"kg_lookup", "closed"}, {"kg_quic", "no_worker"}}

// Drops reports whether what ends so is dropped.
func (r Reason) Drops() bool {
	if !slices.Contains(watchedPrograms, r.Program) {
		return slices.Contains(refusals, r)
	}
	return !slices.Contains(notDropped, r.Name)
}

// WatchOptions say which events are asked for.
type WatchOptions struct {
	Reasons   []Reason
	PerSecond uint32 // events of each reason on each CPU, at most
}

// Event is what became of one packet. Addresses are those that it had at the end.
type Event struct {
	Time        time.Time
	Reason      Reason
	Interface   uint32 // index
	Source      netip.AddrPort
	Destination netip.AddrPort // the ingress address, if it is known
	Backend     netip.AddrPort // the pod that the packet goes to, if it is of an L4 flow
	Service     string         // of L4, if it is known
	Protocol    uint8          // IANA's number
	Length      uint32         // bytes, from the Ethernet header on
	Skipped     uint32         // packets with the same end since the CPU's last event that made none
}

// Watch reads what kg_xdp and kg_ingress tell about single packets. There is one per node.
type Watch struct {
	lock   *os.File
	maps   *datapath.Events
	reader *ringbuf.Reader
	want   abi.Watch

	stop chan struct{} // ends renew
	once sync.Once     // of Close
	done sync.WaitGroup
	mu   sync.Mutex
	err  error // of renew
}

// OpenWatch begins to watch a running node.
func OpenWatch(bpffs string, o WatchOptions) (_ *Watch, err error) {
	if bpffs == "" {
		bpffs = pins.DefaultBPFFS
	}
	folder, err := pins.Folder(bpffs)
	if err != nil {
		return nil, err
	}
	w := &Watch{maps: new(datapath.Events), stop: make(chan struct{})}
	defer func() {
		if err != nil {
			w.release()
		}
	}()
	maps, err := datapath.OpenEvents(folder)
	if err != nil {
		return nil, err
	}
	w.maps = maps
	if w.lock, err = LockWatch(folder); err != nil {
		return nil, err
	}
	if w.reader, err = ringbuf.NewReader(w.maps.Events.Map()); err != nil {
		return nil, fmt.Errorf("read kg_events: %w", err)
	}
	w.want = abi.Watch{SinceNS: datapath.Monotonic(), PerSecond: o.PerSecond}
	for n := range abi.Reasons {
		program, name := abi.ReasonNames(n)
		if slices.Contains(o.Reasons, Reason{program, name}) {
			w.want.Reasons[n/64] |= 1 << (n % 64)
		}
	}
	if err := w.ask(); err != nil {
		return nil, err
	}
	w.done.Go(w.renew)
	return w, nil
}

// LockWatch locks a folder beside the pins (bpffs has no plain files) until it is closed.
func LockWatch(folder string) (*os.File, error) {
	path := filepath.Join(folder, pins.WatchLock)
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the lock of the watchers: %w", err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the watchers: %w", err)
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		dir.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrWatched
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return dir, nil
}

// ask tells the programs what is watched, for some seconds.
func (w *Watch) ask() error {
	w.want.UntilNS = datapath.Monotonic() + uint64(watchFor)
	return w.maps.Watch.Put(0, w.want)
}

func (w *Watch) renew() {
	tick := time.NewTicker(watchRenew)
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-tick.C:
		}
		if err := w.ask(); err != nil {
			w.mu.Lock()
			w.err = err
			w.mu.Unlock()
			return
		}
	}
}

// Read returns the next event. It fails with os.ErrDeadlineExceeded if there is none by
// then. Only one goroutine may read.
func (w *Watch) Read(deadline time.Time) (Event, error) {
	w.reader.SetDeadline(deadline)
	var record ringbuf.Record
	for {
		w.mu.Lock()
		err := w.err
		w.mu.Unlock()
		if err != nil {
			return Event{}, err
		}
		if err := w.reader.ReadInto(&record); err != nil {
			return Event{}, err
		}
		e, ok := abi.EventOf(record.RawSample)
		// One that an earlier watcher has left behind is not ours.
		if ok && e.TimeNS >= w.want.SinceNS && int(e.Reason) < abi.Reasons {
			return w.event(&e), nil
		}
	}
}

// event puts an event into words, with what the maps know about it.
func (w *Watch) event(e *abi.Event) Event {
	program, name := abi.ReasonNames(int(e.Reason))
	out := Event{
		Time:        time.Now().Add(-time.Duration(datapath.Monotonic() - e.TimeNS)),
		Reason:      Reason{program, name},
		Interface:   e.Ifindex,
		Source:      netip.AddrPortFrom(e.Source.Addr(), abi.PortOf(e.SourcePort)),
		Destination: netip.AddrPortFrom(e.Destination.Addr(), abi.PortOf(e.DestinationPort)),
		Protocol:    e.Protocol,
		Length:      e.Length,
		Skipped:     e.Skipped,
	}
	if e.Source == (abi.Address{}) {
		out.Source, out.Destination = netip.AddrPort{}, netip.AddrPort{}
		return out
	}
	if name == "cookie_sent" { // the packet has become the answer
		out.Source, out.Destination = out.Destination, out.Source
	}
	if strings.HasPrefix(name, "l4_") && !out.Reason.Drops() {
		w.untranslate(&out, e)
	}
	key := abi.MakeListenerKey(out.Destination, e.Protocol)
	if l, err := w.maps.Listeners.Get(key); err == nil && state.Mode(l.Mode) == state.L4 {
		if service, err := w.maps.ServiceNames.Get(l.Service); err == nil {
			out.Service = service.String()
		}
	}
	return out
}

// untranslate finds the ingress address of a packet that is on its way to a pod: the one
// that the pod's replies get.
func (w *Watch) untranslate(out *Event, e *abi.Event) {
	key := abi.FlowKey{Source: e.Destination, SourcePort: e.DestinationPort, Destination: e.Source,
		DestinationPort: e.SourcePort, Protocol: e.Protocol, Direction: abi.ToClient}
	for _, table := range []datapath.Map[abi.FlowKey, abi.Flow]{w.maps.Opening, w.maps.Flows, w.maps.Loose} {
		if flow, err := table.Get(key); err == nil {
			out.Backend = out.Destination
			out.Destination = netip.AddrPortFrom(flow.Address.Addr(), abi.PortOf(flow.Port))
			return
		}
	}
}

// Close ends the watch, and a Read under way with os.ErrClosed. A second time it does
// nothing.
func (w *Watch) Close() (err error) {
	w.once.Do(func() {
		close(w.stop)
		w.done.Wait()
		err = errors.Join(w.maps.Watch.Put(0, abi.Watch{}), w.release())
	})
	return err
}

// Abandon stops asking for events and leaves everything else as it is, as the death of the process
// would: for tests. release does what the kernel does then.
func (w *Watch) Abandon() (release func() error) {
	release = func() error { return nil }
	w.once.Do(func() {
		close(w.stop)
		w.done.Wait()
		release = w.release
	})
	return release
}

func (w *Watch) release() error {
	var errs []error
	if w.reader != nil {
		errs = append(errs, w.reader.Close())
	}
	errs = append(errs, w.maps.Close())
	if w.lock != nil {
		errs = append(errs, w.lock.Close())
	}
	return errors.Join(errs...)
}
