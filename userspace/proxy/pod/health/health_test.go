package health_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/loader/view"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/pod/health"
)

const ids = 64 // of backends

// node is the kernel's tables and what a proxy reads from the feed.
type node struct {
	view   *view.View
	config atomic.Pointer[config.Snapshot]
	next   uint32 // backend id
}

func newNode(t *testing.T, services ...*feedpb.Service) *node {
	t.Helper()
	n := &node{next: 1, view: &view.View{
		Services: make([]abi.Service, 16), Slots: make([]abi.Slot, 256), Backends: make([]abi.Backend, ids),
		Loads:       make([]abi.BackendLoad, abi.Generations*ids),
		Generations: make([]abi.Generation, abi.Generations),
	}}
	snapshot, err := config.Empty().Apply(&feedpb.Config{Version: 1, Snapshot: true, Services: services})
	if err != nil {
		t.Fatal(err)
	}
	n.config.Store(snapshot)
	return n
}

// publish gives a service its pods and returns the id of the first; known ones come by id.
func (n *node) publish(service uint32, addresses []string, known ...uint32) uint32 {
	first, at := n.next, service*16
	for _, a := range addresses {
		p := netip.MustParseAddrPort(a)
		n.view.Backends[n.next] = abi.Backend{Address: abi.AddressOf(p.Addr()), Port: abi.PortOf(p.Port()), Protocol: 6, Flags: abi.BackendInUse, Generation: 1}
		for g := range uint32(abi.Generations) {
			n.view.Load(g, n.next).Generation = 1
		}
		known = append(known, n.next)
		n.next++
	}
	for i, id := range known {
		n.view.Slots[at+uint32(i)] = abi.Slot{Backend: id, Generation: 1}
	}
	n.view.Services[service] = abi.Service{Block: uint64(abi.MakeBlock(at, uint16(len(known)), 1)), Flags: abi.ServiceInUse}
	return first
}

// start runs the monitor of a generation until the test ends.
func (n *node) start(t *testing.T, generation uint32, serving func() bool) *health.Monitor {
	t.Helper()
	m := health.New(n.view, generation, &n.config, serving, zerolog.New(zerolog.NewTestWriter(t)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); m.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return m
}

func always() bool { return true }

// health and verdict of a backend.
func (n *node) health(generation, id uint32) uint32 {
	return atomic.LoadUint32(&n.view.Load(generation, id).Health)
}
func (n *node) verdict(generation, id uint32) uint32 {
	return atomic.LoadUint32(&n.view.Load(generation, id).Verdict)
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 15 s", what)
		}
	}
}

// pods are addresses at which nobody needs to be.
func pods(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("127.0.0.1:%d", 20000+i))
	}
	return all
}

// fail reports failures in a row until the pod is ejected.
func (n *node) eject(t *testing.T, m *health.Monitor, service state.ServiceID, id uint32) {
	t.Helper()
	s := n.config.Load().Service(service)
	eventually(t, fmt.Sprintf("ejecting backend %d", id), func() bool {
		m.Ended(s, state.BackendID(id), 1, true)
		return n.verdict(1, id)&abi.HealthEjected != 0
	})
}

func TestOutliersAreEjectedAndReturn(t *testing.T) {
	n := newNode(t, &feedpb.Service{Id: 1, Name: "a/b:80", Outlier: &feedpb.Outlier{Consecutive: 5, EjectionMs: 300, MostPercent: 40}})
	first := n.publish(1, pods(5))
	m := n.start(t, 1, always)
	s := n.config.Load().Service(1)

	// Four failures between successes are no reason.
	for range 50 {
		for range 4 {
			m.Ended(s, state.BackendID(first), 1, true)
		}
		m.Ended(s, state.BackendID(first), 1, false)
	}
	n.eject(t, m, 1, first+1)
	if n.health(1, first) != 0 {
		t.Error("a pod that answers every fifth request is ejected")
	}
	if n.health(1, first+1) != abi.HealthEjected {
		t.Errorf("health of the ejected pod is %d", n.health(1, first+1))
	}
	began := time.Now()
	n.eject(t, m, 1, first+2)
	// A third would be more than 40 % of five.
	for range 100 {
		m.Ended(s, state.BackendID(first+3), 1, true)
	}
	eventually(t, "noting what is kept", func() bool { return m.Metrics.Kept.Load() > 0 })
	if n.health(1, first+3) != 0 {
		t.Error("more pods are ejected than the service allows")
	}
	eventually(t, "return", func() bool { return n.health(1, first+1) == 0 })
	if late := time.Since(began); late > 5*time.Second {
		t.Errorf("the first ejection lasted %s, want 300 ms", late)
	}
	// A second ejection soon after lasts longer.
	n.eject(t, m, 1, first+1)
	if e := atomic.LoadUint32(&n.view.Load(1, first+1).Ejections); e != 2 {
		t.Errorf("ejections of late are %d, want 2", e)
	}
}

func TestTheOnlyPodIsKept(t *testing.T) {
	n := newNode(t, &feedpb.Service{Id: 1, Name: "a/b:80"}, &feedpb.Service{Id: 2, Name: "a/off:80", Outlier: &feedpb.Outlier{Off: true}})
	only := n.publish(1, pods(1))
	off := n.publish(2, []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"})
	m := n.start(t, 1, always)
	for range 100 {
		m.Ended(n.config.Load().Service(1), state.BackendID(only), 1, true)
		m.Ended(n.config.Load().Service(2), state.BackendID(off), 1, true)
	}
	eventually(t, "noting what is kept", func() bool { return m.Metrics.Kept.Load() > 0 })
	if n.verdict(1, only) != 0 || n.verdict(1, off) != 0 {
		t.Errorf("verdicts are %d of the only pod and %d where detection is off", n.verdict(1, only), n.verdict(1, off))
	}
}

// pod is a real server whose mood can change.
type pod struct {
	*httptest.Server
	mood atomic.Pointer[string]
}

func newPod(t *testing.T) *pod {
	p := &pod{}
	p.be("well")
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch *p.mood.Load() {
		case "503":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "hang":
			<-r.Context().Done()
		case "reset":
			c, _, _ := w.(http.Hijacker).Hijack()
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		default:
			if r.URL.Path != "/healthz" || r.Host != "checked.example" {
				w.WriteHeader(http.StatusNotFound)
			}
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *pod) be(mood string) { p.mood.Store(&mood) }

func (p *pod) address() string { return p.Listener.Addr().String() }

// checked is a service that is asked ten times a second.
func checked(id uint32, h *feedpb.HealthCheck) *feedpb.Service {
	h.IntervalMs, h.TimeoutMs, h.Unhealthy, h.Healthy = 100, 300, 2, 2
	return &feedpb.Service{Id: id, Name: "a/checked:80", Health: h}
}

func TestChecksFindIllPods(t *testing.T) {
	n := newNode(t, checked(1, &feedpb.HealthCheck{Path: "/healthz", Host: "checked.example"}))
	one, two, three := newPod(t), newPod(t), newPod(t)
	first := n.publish(1, []string{one.address(), two.address(), three.address()})
	m := n.start(t, 1, always)
	eventually(t, "first checks", func() bool { return m.Metrics.Passed.Load() > 6 })
	for _, mood := range []string{"503", "hang", "reset"} {
		one.be(mood)
		eventually(t, mood, func() bool { return n.health(1, first) == abi.HealthCheck })
		if got := m.Services(); len(got) != 1 || got[0].Failed != 1 || got[0].Pods != 3 || got[0].Ignored {
			t.Errorf("%s: summary is %+v", mood, got)
		}
		one.be("well")
		eventually(t, "recovery from "+mood, func() bool { return n.health(1, first) == 0 })
	}
	if n.verdict(1, first+1)|n.verdict(1, first+2) != 0 {
		t.Error("pods that are well are judged ill")
	}

	// Of three pods two are ill: verdicts stay readable, but are not in force.
	one.be("503")
	two.be("503")
	eventually(t, "panic", func() bool {
		return n.verdict(1, first) == abi.HealthCheck && n.verdict(1, first+1) == abi.HealthCheck && n.health(1, first)|n.health(1, first+1) == 0
	})
	eventually(t, "summary", func() bool { s := m.Services(); return len(s) == 1 && s[0].Ignored })
	two.be("well")
	eventually(t, "end of the panic", func() bool { return n.health(1, first) == abi.HealthCheck && n.health(1, first+1) == 0 })
}

// A service of one pod, as a StatefulSet has for each, does not protect it in the large one.
func TestPanicOfOneServiceIsNotThatOfAnother(t *testing.T) {
	n := newNode(t, &feedpb.Service{Id: 1, Name: "a/all:80"}, &feedpb.Service{Id: 2, Name: "a/one:80"})
	first := n.publish(1, pods(5))
	n.publish(2, nil, first)
	m := n.start(t, 1, always)
	n.eject(t, m, 1, first)
	eventually(t, "verdict in force", func() bool { return n.health(1, first) == abi.HealthEjected })
}

func TestAGenerationTakesVerdictsOver(t *testing.T) {
	n := newNode(t, checked(1, &feedpb.HealthCheck{Path: "/healthz", Host: "checked.example"}))
	ill := newPod(t)
	ill.be("503")
	first := n.publish(1, append([]string{ill.address()}, newPod(t).address(), newPod(t).address()))
	serving := func(number uint32) func() bool {
		return func() bool {
			return atomic.LoadUint64((*uint64)(generation(n.view, number)))>>48 == abi.GenerationServing
		}
	}
	set := func(number uint32, s uint16) {
		atomic.StoreUint64((*uint64)(generation(n.view, number)), uint64(number)|1<<32|uint64(s)<<48)
	}
	set(1, abi.GenerationServing)
	set(2, abi.GenerationStarting)
	old := n.start(t, 1, serving(1))
	next := n.start(t, 2, serving(2))
	eventually(t, "the new generation copies", func() bool { return n.health(2, first) == abi.HealthCheck })
	if asked := next.Metrics.Passed.Load() + next.Metrics.Failed.Load(); asked != 0 {
		t.Errorf("a generation that does not serve has asked %d times", asked)
	}
	set(1, abi.GenerationDraining)
	set(2, abi.GenerationServing)
	eventually(t, "the new generation asks", func() bool { return next.Metrics.Failed.Load() > 2 })
	if n.health(2, first) != abi.HealthCheck {
		t.Error("the verdict was lost when the generation began to serve")
	}
	asked := old.Metrics.Passed.Load() + old.Metrics.Failed.Load()
	ill.be("well")
	eventually(t, "recovery in both", func() bool { return n.health(1, first)|n.health(2, first) == 0 })
	if again := old.Metrics.Passed.Load() + old.Metrics.Failed.Load(); again > asked+3 { // those under way
		t.Errorf("the draining generation has asked %d times more", again-asked)
	}
}
