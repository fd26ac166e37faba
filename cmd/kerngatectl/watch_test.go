package main

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/loader/inspect"
	"github.com/kerngate/kerngate/userspace/look/explain"
)

// script is an eventReader that has some events, and whose clock goes on when it is waited
// for more.
type script struct {
	now    time.Time
	events []inspect.Event
	asked  inspect.WatchOptions
	closed bool
}

func (s *script) Read(deadline time.Time) (inspect.Event, error) {
	if len(s.events) == 0 {
		s.now = deadline
		return inspect.Event{}, os.ErrDeadlineExceeded
	}
	e := s.events[0]
	s.events = s.events[1:]
	return e, nil
}

func (s *script) Close() error { s.closed = true; return nil }

func (s *script) use(e *env) {
	e.now = func() time.Time { return s.now }
	e.openWatch = func(_ string, o inspect.WatchOptions) (eventReader, error) {
		s.asked = o
		return s, nil
	}
	e.interfaceName = func(uint32) string { return "eth0" }
	e.isTerminal = func() bool { return false }
}

func watched() *script {
	at := func(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }
	denied := inspect.Reason{Program: "kg_xdp", Name: "denied"}
	return &script{now: noon, events: []inspect.Event{
		{Time: noon, Reason: denied, Source: at("198.51.100.7:4000"), Destination: at("192.0.2.10:443"), Protocol: 6, Length: 60},
		{Time: noon.Add(time.Millisecond), Reason: denied, Source: at("198.51.100.7:0"), Destination: at("192.0.2.10:0"), Protocol: 1, Length: 98, Skipped: 41},
		{Time: noon.Add(2 * time.Millisecond), Reason: inspect.Reason{Program: "kg_ingress", Name: "l4_new"}, Source: at("[2001:db8::7]:4000"),
			Destination: at("[2001:db8::10]:53"), Backend: at("[fd00::5]:5353"), Service: "shop/info:http", Protocol: 17, Length: 80},
		{Time: noon.Add(3 * time.Millisecond), Reason: inspect.Reason{Program: "kg_xdp", Name: "bad_port"}, Source: at("203.0.113.5:0"), Destination: at("192.0.2.10:80"), Protocol: 6, Length: 60},
		{Time: noon.Add(4 * time.Millisecond), Reason: inspect.Reason{Program: "kg_xdp", Name: "node_header"}, Length: 60},
	}}
}

func TestWatchLines(t *testing.T) {
	s := watched()
	status, out, errs := ctl(t, s.use, "watch", "--count", "5")
	if status != 0 || errs != "" || !s.closed {
		t.Errorf("status %d, closed %v, %s", status, s.closed, errs)
	}
	golden(t, "watch", out)
	if s.asked.PerSecond != 100 || len(s.asked.Reasons) < 20 {
		t.Errorf("asked for %+v", s.asked)
	}
	for _, r := range s.asked.Reasons {
		if !r.Drops() && r.Name != "l4_new" {
			t.Errorf("asked for %+v by default", r)
		}
	}

	s = watched()
	_, out, _ = ctl(t, s.use, "watch", "--count", "1", "--reason", "bad_port,denied", "--program", "kg_xdp", "--source", "203.0.113.0/24", "--rate", "7", "-o", "json")
	var row eventRow
	if err := json.Unmarshal([]byte(out), &row); err != nil || strings.Count(out, "\n") != 1 {
		t.Fatalf("%v: %q", err, out)
	}
	want := eventRow{Time: "2026-03-01T12:00:00.003Z", Program: "kg_xdp", Reason: "bad_port", Interface: "eth0",
		Source: "203.0.113.5", Destination: "192.0.2.10:80", Protocol: "TCP", Length: 60}
	if row != want {
		t.Errorf("event %+v, want %+v", row, want)
	}
	if len(s.asked.Reasons) != 2 || s.asked.PerSecond != 7 {
		t.Errorf("asked for %+v", s.asked)
	}
}

// A node whose counters grow between two looks.
func growing(s *script, e *env) {
	s.use(e)
	looks := uint64(0)
	e.readLoad = func(string) (*explain.Maps, error) {
		maps, _ := node()
		maps.Counters = []explain.Counter{
			{Program: "kg_xdp", Reason: "passed", Count: 1000 + 5000*looks},
			{Program: "kg_xdp", Reason: "denied", Count: 70 + 200*looks},
			{Program: "kg_xdp", Reason: "bad_port", Count: 3 * looks},
			{Program: "kg_lookup", Reason: "no_proxy", Count: 2 * looks},
			{Program: "kg_ingress", Reason: "l4_new", Count: 8 * looks},
			{Program: "kg_egress", Reason: "not_ours", Count: 9},
		}
		maps.Backends[0].Requests += 30 * looks
		maps.Backends[1].Requests += 12 * looks
		looks++
		return maps, nil
	}
}

func TestTop(t *testing.T) {
	for name, args := range map[string][]string{
		"top":      {"top", "-n", "1", "--interval", "2s"},
		"top-json": {"top", "-n", "1", "--interval", "2s", "-o", "json"},
	} {
		s := watched()
		status, out, errs := ctl(t, func(e *env) { growing(s, e) }, args...)
		if status != 0 || errs != "" || !s.closed {
			t.Errorf("%s: status %d, %s", name, status, errs)
		}
		golden(t, name, out)
	}
	// Beside a watch the counters are shown alone.
	status, out, errs := ctl(t, func(e *env) {
		s := watched()
		growing(s, e)
		e.now = time.Now
		e.openWatch = func(string, inspect.WatchOptions) (eventReader, error) { return nil, inspect.ErrWatched }
	}, "top", "-n", "1", "--interval", "100ms")
	if status != 0 || !strings.Contains(out, "denied") || strings.Contains(out, "198.51.100.7") || !strings.Contains(errs, "somebody watches") {
		t.Errorf("beside a watch: status %d, %s\n%s", status, errs, out)
	}
}

// On a terminal each round replaces the one before, and the terminal is left as it was.
func TestTopOnATerminal(t *testing.T) {
	s := watched()
	status, out, _ := ctl(t, func(e *env) {
		growing(s, e)
		e.isTerminal = func() bool { return true }
	}, "top", "-n", "2")
	if status != 0 || strings.Count(out, clearScreen) != 2 || !strings.HasPrefix(out, enterScreen) || !strings.HasSuffix(out, leaveScreen) {
		t.Errorf("status %d, %q", status, out)
	}
}

// Interrupted, both end well.
func TestWatchIsInterrupted(t *testing.T) {
	for _, name := range []string{"watch", "top"} {
		s := watched()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		e := env{stdout: os.Stderr, stderr: os.Stderr}
		growing(s, &e)
		if err := run(ctx, e, []string{name}); err != nil || !s.closed {
			t.Errorf("%s: %v, closed %v", name, err, s.closed)
		}
	}
}

func TestWatchWrongUse(t *testing.T) {
	for args, says := range map[string]string{
		"watch --reason denid":       `--reason "denid": unknown; want one of allowed, bad_flags,`,
		"watch --program kg_lookup":  "want kg_xdp or kg_ingress",
		"watch --source 192.0.2.300": "neither an address nor a prefix",
		"watch --rate 0":             "--rate must be at least 1",
		"watch -o yaml":              "table or json",
		"top --interval 1ms":         "--interval must be at least 100ms",
	} {
		status, _, errs := ctl(t, watched().use, strings.Fields(args)...)
		if status != 2 || !strings.Contains(errs, says) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: status %d, %q; want one line with %q", args, status, errs, says)
		}
	}
	if status, _, errs := ctl(t, func(e *env) {
		e.openWatch = func(string, inspect.WatchOptions) (eventReader, error) { return nil, inspect.ErrWatched }
	}, "watch"); status != 1 || !strings.Contains(errs, "end the other kerngatectl watch or top first") {
		t.Errorf("a second watcher: status %d, %s", status, errs)
	}
}
