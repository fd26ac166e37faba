package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader"
	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/loader/view"
	"github.com/kerngate/kerngate/userspace/control/compile"
	"github.com/kerngate/kerngate/userspace/feed"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/look/status"
	"github.com/kerngate/kerngate/userspace/model"
)

// faultyDatapath stands for a kernel that fails on demand, which a real one does not. It
// writes down what it is told.
type faultyDatapath struct {
	mu          sync.Mutex
	calls       []string
	fail        int // the next so many applies
	services    map[string]state.ServiceID
	generations map[uint32]uint16
	last        uint32
	silence     map[uint32]time.Duration
	suspended   map[uint32]bool
}

func (d *faultyDatapath) note(format string, args ...any) {
	d.calls = append(d.calls, fmt.Sprintf(format, args...))
}

func (d *faultyDatapath) lock() func() {
	d.mu.Lock()
	return d.mu.Unlock
}

func (d *faultyDatapath) failing() error {
	if d.fail > 0 {
		d.fail--
		return errors.New("no room")
	}
	return nil
}

func (d *faultyDatapath) Apply(s state.State) (loader.Report, error) {
	defer d.lock()()
	d.note("apply %d services", len(s.Services))
	if err := d.failing(); err != nil {
		return loader.Report{}, err
	}
	for _, service := range s.Services {
		if d.services[service.Name] == 0 {
			d.services[service.Name] = state.ServiceID(len(d.services) + 1)
		}
	}
	return loader.Report{}, nil
}

func (d *faultyDatapath) ApplyServices(s []state.Service) (loader.Report, error) {
	defer d.lock()()
	for _, service := range s {
		d.note("apply service %s: %d backends", service.Name, len(service.Backends))
	}
	return loader.Report{}, d.failing()
}

func (d *faultyDatapath) ServiceID(name string) (state.ServiceID, bool) {
	defer d.lock()()
	id, ok := d.services[name]
	return id, ok
}

func (d *faultyDatapath) Reap(time.Time) (loader.Report, error) { return loader.Report{}, nil }
func (d *faultyDatapath) Maps() []view.Map                      { return nil }
func (d *faultyDatapath) Epoch() string                         { return "e1" }

func (d *faultyDatapath) StartGeneration(workers int) (uint32, error) {
	defer d.lock()()
	if len(d.generations) == 4 {
		return 0, loader.ErrTooManyGenerations
	}
	d.last++
	d.generations[d.last] = abi.GenerationStarting
	d.note("start %d", d.last)
	return d.last, nil
}

func (d *faultyDatapath) BindQUIC(fd int, port uint16) error {
	defer d.lock()()
	d.note("bind %d", port)
	return nil
}

func (d *faultyDatapath) PlaceSockets(number uint32, worker int, kind uint32, fd int) error {
	defer d.lock()()
	d.note("place %d.%d.%d", number, worker, kind)
	return nil
}

func (d *faultyDatapath) Serve(number uint32) error {
	defer d.lock()()
	d.generations[number] = abi.GenerationServing
	d.note("serve %d", number)
	return nil
}

func (d *faultyDatapath) Serving() (serves uint32) {
	defer d.lock()()
	for number, state := range d.generations {
		if state == abi.GenerationServing && !d.suspended[number] {
			serves = max(serves, number)
		}
	}
	return serves
}

func (d *faultyDatapath) DrainGeneration(number uint32) error {
	defer d.lock()()
	d.generations[number] = abi.GenerationDraining
	d.note("drain %d", number)
	return nil
}

func (d *faultyDatapath) Suspend(number uint32) error {
	defer d.lock()()
	d.note("suspend %d", number)
	return nil
}

func (d *faultyDatapath) Silence(number uint32) time.Duration {
	defer d.lock()()
	return d.silence[number]
}

func (d *faultyDatapath) EndGeneration(number uint32) error {
	defer d.lock()()
	delete(d.generations, number)
	d.note("end %d", number)
	return nil
}

func (d *faultyDatapath) Generations() (out []loader.Generation) {
	defer d.lock()()
	for number, state := range d.generations {
		out = append(out, loader.Generation{Number: number, Workers: 1, State: state, Sockets: 1})
	}
	return out
}

func (d *faultyDatapath) count(call string) (n int) {
	defer d.lock()()
	for _, c := range d.calls {
		if c == call {
			n++
		}
	}
	return n
}

// hand is a source whose updates the test makes.
type hand struct{ updates chan model.Update }

func (h hand) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (h hand) Updates() <-chan model.Update  { return h.updates }
func (h hand) Describe() status.Source       { return status.Source{Kind: "test", Location: "by hand"} }

// heard keeps what was reported.
type heard struct {
	mu       sync.Mutex
	problems []model.Problem
}

func (h *heard) Report(problems []model.Problem, _ model.Statuses) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.problems = slices.Clone(problems)
}

func (h *heard) has(text string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.problems, func(p model.Problem) bool { return strings.Contains(p.String(), text) })
}

// stage is an agent with a feed, without source, kernel or cluster.
type stage struct {
	t        *testing.T
	agent    *Agent
	datapath *faultyDatapath
	source   hand
	heard    *heard
	socket   string
}

func newStage(t *testing.T, prepare func(*faultyDatapath)) *stage {
	t.Helper()
	return newStageWith(t, prepare, func(*Options) {})
}

func newStageWith(t *testing.T, prepare func(*faultyDatapath), change func(*Options)) *stage {
	t.Helper()
	s := &stage{
		t:        t,
		datapath: &faultyDatapath{services: map[string]state.ServiceID{}, generations: map[uint32]uint16{}},
		source:   hand{make(chan model.Update)},
		heard:    &heard{},
		socket:   filepath.Join(t.TempDir(), "agent.sock"),
	}
	if prepare != nil {
		prepare(s.datapath)
	}
	server, err := feed.Listen(feed.Options{Path: s.socket, MapABI: abi.ABI})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Datapath: s.datapath, Source: s.source, Server: server, Reporter: s.heard,
		Node:     compile.Node{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}},
		Settings: &feedpb.Settings{DrainTimeoutMs: 60_000}, Log: zerolog.New(zerolog.NewTestWriter(t)),
	}
	change(&o)
	s.agent = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.agent.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("Run did not end")
		}
	})
	return s
}

func (s *stage) until(what string, is func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !is() {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: not seen; calls %v", what, s.datapath.calls)
		}
		time.Sleep(time.Millisecond)
	}
}

// join joins as a new proxy would, with a real socket.
func (s *stage) join(hello *feedpb.Hello) (*feed.Client, *feedpb.Welcome, error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	hello.MapAbi, hello.Build = abi.ABI, "test"
	var fds []int
	if hello.ResumeGeneration == 0 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			s.t.Fatal(err)
		}
		defer unix.Close(fd)
		fds, hello.Workers, hello.Sockets = []int{fd}, 1, []uint32{abi.SocketTCP4}
	}
	client, welcome, _, err := feed.Dial(ctx, s.socket, hello, fds)
	if err == nil {
		s.t.Cleanup(func() { client.Close() })
	}
	return client, welcome, err
}

func (s *stage) mustJoin() (*feed.Client, *feedpb.Welcome) {
	s.t.Helper()
	client, welcome, err := s.join(&feedpb.Hello{})
	if err != nil {
		s.t.Fatal(err)
	}
	return client, welcome
}

func receive[T any](t *testing.T, c *feed.Client, pick func(*feedpb.FromAgent) *T) *T {
	t.Helper()
	type result struct {
		m   *feedpb.FromAgent
		err error
	}
	got := make(chan result, 1)
	go func() {
		m, err := c.Receive()
		got <- result{m, err}
	}()
	select {
	case r := <-got:
		if r.err != nil {
			t.Fatal(r.err)
		}
		if v := pick(r.m); v != nil {
			return v
		}
		t.Fatalf("received %v", r.m)
	case <-time.After(5 * time.Second):
		t.Fatal("nothing received")
	}
	return nil
}

func config(t *testing.T, c *feed.Client) *feedpb.Config {
	t.Helper()
	return receive(t, c, (*feedpb.FromAgent).GetConfig)
}

func ack(c *feed.Client, version uint64) {
	c.Send(&feedpb.ToAgent{Message: &feedpb.ToAgent_Ack{Ack: &feedpb.Ack{Version: version}}})
}

func update(hosts ...string) model.Update {
	key := model.ServiceKey{Namespace: "ns", Name: "a", Port: "80"}
	m := &model.Model{Services: []model.Service{{Key: key}}}
	for _, h := range hosts {
		m.Hosts = append(m.Hosts, model.Host{Name: h, Routes: []model.Route{{
			Path: "/", Service: key, Source: model.ObjectRef{Kind: "Ingress", Namespace: "ns", Name: h},
		}}})
	}
	return model.Update{Model: m}
}

func hostNames(c *feedpb.Config) (names []string) {
	for _, h := range c.Hosts {
		if len(h.Routes) > 0 {
			names = append(names, h.Name)
		}
	}
	return names
}

// TestFirstList: before the first list is complete nothing is applied, and a proxy gets no
// configuration and no connection.
func TestFirstList(t *testing.T) {
	s := newStage(t, nil)
	client, welcome := s.mustJoin()
	if welcome.Generation != 1 || welcome.Epoch != "e1" {
		t.Errorf("welcome %v", welcome)
	}
	if err := s.agent.Ready(); err == nil || !strings.Contains(err.Error(), "first complete list of objects from by hand") {
		t.Errorf("ready: %v", err)
	}
	if n := s.datapath.count("apply 1 services"); n != 0 {
		t.Errorf("%d applies before there was a list", n)
	}
	s.source.updates <- update("x")
	c := config(t, client)
	if !c.Snapshot || !slices.Equal(hostNames(c), []string{"x"}) || c.Settings == nil || c.Services[0].Name != "ns/a:80" {
		t.Errorf("config %v", c)
	}
	if s.datapath.count("serve 1") != 0 {
		t.Error("the proxy serves before it has acknowledged")
	}
	ack(client, c.Version)
	receive(t, client, (*feedpb.FromAgent).GetServing)
	s.until("ready", func() bool { return s.agent.Ready() == nil })
	if s.datapath.count("place 1.0.0") != 1 || s.datapath.count("serve 1") != 1 {
		t.Errorf("calls %v", s.datapath.calls)
	}
}

// TestDeltas: a proxy gets differences, one at a time; what comes while one is on its way
// is joined. Endpoint changes reach the maps alone.
func TestDeltas(t *testing.T) {
	s := newStage(t, nil)
	s.source.updates <- update("x")
	client, _ := s.mustJoin()
	first := config(t, client)
	s.source.updates <- update("x", "y")
	s.source.updates <- update("x", "y", "z")
	ack(client, first.Version)
	receive(t, client, (*feedpb.FromAgent).GetServing)
	c := config(t, client)
	if c.Snapshot || !slices.Equal(hostNames(c), []string{"y", "z"}) || c.Version <= first.Version {
		t.Errorf("delta %v", c)
	}
	ack(client, c.Version)

	key := model.ServiceKey{Namespace: "ns", Name: "a", Port: "80"}
	s.source.updates <- model.Update{Services: []model.Service{{Key: key, Backends: []model.Backend{{Address: netip.MustParseAddrPort("10.0.0.1:80")}}}}}
	s.until("the service in the maps", func() bool { return s.datapath.count("apply service ns/a:80: 1 backends") == 1 })
	s.source.updates <- update("y") // also proves that no message came before it
	if c := config(t, client); !slices.Equal(c.RemovedHosts, []string{"x", "z"}) || len(c.Hosts) != 0 {
		t.Errorf("delta %v", c)
	}
}

// TestReplacement: the newest proxy that has its configuration serves, the other drains; one
// that is older than the serving one never serves.
func TestReplacement(t *testing.T) {
	s := newStage(t, nil)
	s.source.updates <- update("x")
	first, _ := s.mustJoin()
	slow, _ := s.mustJoin()
	ack(first, config(t, first).Version)
	receive(t, first, (*feedpb.FromAgent).GetServing)
	slowConfig := config(t, slow)
	third, _ := s.mustJoin()
	ack(third, config(t, third).Version)
	receive(t, third, (*feedpb.FromAgent).GetServing)
	if d := receive(t, first, (*feedpb.FromAgent).GetDrain); d.TimeoutMs == 0 || d.TimeoutMs > 60_000 {
		t.Errorf("drain %v", d)
	}
	ack(slow, slowConfig.Version)
	receive(t, slow, (*feedpb.FromAgent).GetDrain)
	if s.datapath.count("serve 2") != 0 || s.datapath.count("serve 3") != 1 {
		t.Errorf("calls %v", s.datapath.calls)
	}
	s.source.updates <- update("x", "y") // a draining proxy is told, too: it answers requests
	if c := config(t, first); !slices.Equal(hostNames(c), []string{"y"}) {
		t.Errorf("config of the draining proxy: %v", c)
	}
}

// TestRefusal: the paths of an Ingress that a proxy refuses are closed, which is reported;
// everything else is served; once it has changed it is tried again.
func TestRefusal(t *testing.T) {
	s := newStage(t, nil)
	first := update("x", "y")
	first.Model.Hosts[0].Routes[0].Policy = &model.Policy{Access: &model.Access{Basic: &model.BasicAuth{Realm: "r", Users: model.Credentials("a:1")}}}
	s.source.updates <- first
	client, _ := s.mustJoin()
	c := config(t, client)
	refuse(client, c, "ns/x", "too strange")
	c = config(t, client)
	if !c.Snapshot || !slices.Equal(hostNames(c), []string{"x", "y"}) || closed(c.Hosts[0]) == "" || closed(c.Hosts[1]) != "" {
		t.Errorf("after the refusal: %v", c)
	}
	ack(client, c.Version)
	receive(t, client, (*feedpb.FromAgent).GetServing)
	s.until("the problem", func() bool { return s.heard.has("Refused Ingress ns/x ProxyRefused") && s.heard.has("too strange") })

	// Something of a rule alone, and even of a Secret behind it, is a change.
	changed := update("x", "y")
	changed.Model.Hosts[0].Routes[0].Policy = &model.Policy{Access: &model.Access{Basic: &model.BasicAuth{Realm: "r", Users: model.Credentials("a:2")}}}
	s.source.updates <- changed
	if c = config(t, client); c.Snapshot || !slices.Equal(hostNames(c), []string{"x"}) || closed(c.Hosts[0]) != "" {
		t.Errorf("after the Ingress has changed: %v", c)
	}
	s.until("the problem is over", func() bool { return !s.heard.has("ProxyRefused") })
}

// TestRefusedTwice: what a proxy cannot even take as closed routes is left out; the agent
// does not offer the same again and again.
func TestRefusedTwice(t *testing.T) {
	s := newStage(t, nil)
	s.source.updates <- update("x", "y")
	client, _ := s.mustJoin()
	refuse(client, config(t, client), "ns/x", "too strange")
	refuse(client, config(t, client), "ns/x", "too strange, too")
	c := config(t, client)
	if !c.Snapshot || len(c.Hosts) != 2 || !slices.Equal(hostNames(c), []string{"y"}) { // names of hosts with routes
		t.Errorf("after the second refusal: %v", c)
	}
	ack(client, c.Version)
	receive(t, client, (*feedpb.FromAgent).GetServing)
}

// TestRefusedCanary: the canary that is at fault goes; the host's main Ingress stays, and so
// does the canary of somebody else.
func TestRefusedCanary(t *testing.T) {
	s := newStage(t, nil)
	u := update("x")
	u.Model.Hosts[0].Routes[0].Splits = []model.Split{
		{Source: model.ObjectRef{Kind: "Ingress", Namespace: "ns", Name: "bad"}, Header: "Host"},
		{Source: model.ObjectRef{Kind: "Ingress", Namespace: "ns", Name: "good"}, Header: "x-canary"},
	}
	s.source.updates <- u
	client, _ := s.mustJoin()
	refuse(client, config(t, client), "ns/bad", "too strange")
	c := config(t, client)
	if r := c.Hosts[0].Routes[0]; closed(c.Hosts[0]) != "" || len(r.Splits) != 1 || r.Splits[0].Source != "ns/good" {
		t.Errorf("after the refusal: %v", c)
	}
	ack(client, c.Version)
	s.until("the problem", func() bool { return s.heard.has("Refused Ingress ns/bad ProxyRefused") })

	mended := update("x")
	mended.Model.Hosts[0].Routes[0].Splits = []model.Split{{Source: u.Model.Hosts[0].Routes[0].Splits[0].Source, Header: "x-other"}}
	s.source.updates <- mended
	receive(t, client, (*feedpb.FromAgent).GetServing)
	if c = config(t, client); len(c.Hosts[0].Routes[0].Splits) != 1 {
		t.Errorf("after the canary has changed: %v", c)
	}
}

// TestRefusedKind: an object of another kind that has the name of the one at fault stays.
func TestRefusedKind(t *testing.T) {
	s := newStage(t, nil)
	u := update("x", "y")
	u.Model.Hosts[1].Routes[0].Source = model.ObjectRef{Kind: "HTTPRoute", Namespace: "ns", Name: "x"}
	s.source.updates <- u
	client, _ := s.mustJoin()
	c := config(t, client)
	if r := c.Hosts[1].Routes[0]; r.SourceKind != "HTTPRoute" || r.Source != "ns/x" {
		t.Fatalf("the feed says %v", r)
	}
	client.Send(&feedpb.ToAgent{Message: &feedpb.ToAgent_Refuse{Refuse: &feedpb.Refuse{Version: c.Version, SourceKind: "HTTPRoute", Source: "ns/x", Reason: "too strange"}}})
	c = config(t, client)
	if closed(c.Hosts[0]) != "" || closed(c.Hosts[1]) == "" {
		t.Errorf("after the refusal of the HTTPRoute: %v", c)
	}
	ack(client, c.Version)
	s.until("the problem", func() bool {
		return s.heard.has("Refused HTTPRoute ns/x ProxyRefused") && !s.heard.has("Refused Ingress ns/x ProxyRefused")
	})
}

func refuse(client *feed.Client, c *feedpb.Config, source, reason string) {
	client.Send(&feedpb.ToAgent{Message: &feedpb.ToAgent_Refuse{Refuse: &feedpb.Refuse{Version: c.Version, Source: source, Reason: reason}}})
}

// closed returns why nobody gets to the first route of a host, "" if it is open.
func closed(h *feedpb.Host) string {
	r := h.Routes[0]
	if r.Policy == 0 {
		return ""
	}
	return h.Policies[r.Policy-1].GetAccess().GetClosed()
}

// TestRetry: what could not be stored is tried again and then reaches the proxies.
func TestRetry(t *testing.T) {
	s := newStage(t, func(d *faultyDatapath) { d.fail = 2 })
	s.source.updates <- update("x")
	client, _ := s.mustJoin()
	if c := config(t, client); c.Hosts[0].Routes[0].Service != 0 {
		t.Errorf("a service that is not in the maps is given to proxies: %v", c)
	} else {
		ack(client, c.Version)
	}
	receive(t, client, (*feedpb.FromAgent).GetServing)
	if c := config(t, client); c.Hosts[0].Routes[0].Service == 0 || len(c.Services) != 1 {
		t.Errorf("after the retries: %v", c)
	}
	if n := s.datapath.count("apply 1 services"); n != 3 {
		t.Errorf("%d applies, want 3", n)
	}
}

// TestHealed: the update that finds room in the maps again gives proxies the ids of services
// that earlier ones could not have.
func TestHealed(t *testing.T) {
	s := newStage(t, func(d *faultyDatapath) { d.fail = 1 })
	s.source.updates <- update("x")
	client, _ := s.mustJoin()
	c := config(t, client)
	if c.Hosts[0].Routes[0].Service != 0 {
		t.Fatalf("a service that is not in the maps is given to proxies: %v", c)
	}
	more := update("x", "y")
	more.Changed = &model.Changed{Hosts: []string{"y"}}
	s.source.updates <- more
	ack(client, c.Version)
	receive(t, client, (*feedpb.FromAgent).GetServing)
	if c = config(t, client); len(c.Hosts) != 2 || c.Hosts[0].Routes[0].Service == 0 || c.Hosts[1].Routes[0].Service == 0 || len(c.Services) != 1 {
		t.Errorf("after the maps have room: %v", c)
	}
}

// TestRefusedByTwo: two proxies that refuse the same version have refused it once: the closed
// form is still to be tried.
func TestRefusedByTwo(t *testing.T) {
	s := newStage(t, nil)
	s.source.updates <- update("x", "y")
	one, _ := s.mustJoin()
	two, _ := s.mustJoin()
	first, same := config(t, one), config(t, two)
	refuse(one, first, "ns/x", "too strange")
	c := config(t, one)
	if closed(c.Hosts[0]) == "" {
		t.Fatalf("after the first refusal: %v", c)
	}
	refuse(two, same, "ns/x", "too strange")
	if c = config(t, two); len(c.Hosts[0].Routes) != 1 || closed(c.Hosts[0]) == "" {
		t.Errorf("after the second: %v", c)
	}
}

// TestMendedMeanwhile: what has changed since the version that a proxy refused is tried.
func TestMendedMeanwhile(t *testing.T) {
	s := newStage(t, nil)
	s.source.updates <- update("x")
	client, _ := s.mustJoin()
	first := config(t, client)
	mended := update("x")
	mended.Model.Hosts[0].Routes[0].Path = "/mended"
	s.source.updates <- mended
	s.until("the new version", func() bool {
		return s.datapath.count("apply 1 services") == 2
	})
	refuse(client, first, "ns/x", "too strange")
	if c := config(t, client); c.Hosts[0].Routes[0].Path != "/mended" || closed(c.Hosts[0]) != "" {
		t.Errorf("after the refusal: %v", c)
	}
}

// TestSuspendedProxyOfEarlierAgent: a proxy that an earlier agent suspended, and that turns, gets
// new connections again.
func TestSuspendedProxyOfEarlierAgent(t *testing.T) {
	s := newStage(t, func(d *faultyDatapath) {
		d.generations[7], d.last, d.suspended = abi.GenerationServing, 7, map[uint32]bool{7: true}
	})
	s.source.updates <- update("x")
	s.until("the proxy serves again", func() bool { return s.datapath.count("serve 7") == 1 })
}

// TestResume: an agent that starts finds its predecessor's proxies. They come back, are
// given a snapshot, and nothing is switched.
func TestResume(t *testing.T) {
	s := newStage(t, func(d *faultyDatapath) { d.generations[7], d.last = abi.GenerationServing, 7 })
	s.source.updates <- update("x")
	client, welcome, err := s.join(&feedpb.Hello{ResumeGeneration: 7, Epoch: "e1"})
	if err != nil || welcome.Generation != 7 || len(welcome.Maps) != 0 {
		t.Fatalf("welcome %v, %v", welcome, err)
	}
	receive(t, client, (*feedpb.FromAgent).GetServing)
	if c := config(t, client); !c.Snapshot {
		t.Errorf("config %v", c)
	}
	if s.datapath.count("serve 7") != 0 || s.datapath.count("start 8") != 0 {
		t.Errorf("calls %v", s.datapath.calls)
	}
	var reject *feed.RejectError
	if _, _, err := s.join(&feedpb.Hello{ResumeGeneration: 7, Epoch: "other"}); !errors.As(err, &reject) || !strings.Contains(reject.Reason, "let a new proxy start") {
		t.Errorf("another epoch: %v", err)
	}
	if _, _, err := s.join(&feedpb.Hello{ResumeGeneration: 6, Epoch: "e1"}); !errors.As(err, &reject) || !strings.Contains(reject.Reason, "generation 6 is not known") {
		t.Errorf("an unknown generation: %v", err)
	}
}

// TestWalls: the agent tells what a proxy says of its restrictions, and nothing that a terminal
// would obey: the proxy may have been taken over.
func TestWalls(t *testing.T) {
	s := newStage(t, nil)
	s.source.updates <- update("x")
	hello := &feedpb.Hello{Walls: []*feedpb.Wall{{Name: "seccomp"}, {Name: "landlock", Missing: "the kernel\x1b[2J has none\n" + strings.Repeat("é", 1000)}}}
	for range 100 {
		hello.Walls = append(hello.Walls, &feedpb.Wall{Name: "more"})
	}
	if _, _, err := s.join(hello); err != nil {
		t.Fatal(err)
	}
	answer, err := feed.Ask(t.Context(), s.socket, status.QueryProxies)
	if err != nil {
		t.Fatal(err)
	}
	var told status.Proxies
	if err := json.Unmarshal(answer, &told); err != nil || len(told.Proxies) != 1 {
		t.Fatalf("%s: %v", answer, err)
	}
	walls := told.Proxies[0].Walls
	if len(walls) != 16 || walls[0] != (status.Wall{Name: "seccomp", InForce: true}) {
		t.Fatalf("%d walls, %+v", len(walls), walls)
	}
	if w := walls[1]; w.InForce || !strings.HasPrefix(w.Missing, "the kernel[2J has noneé") || len(w.Missing) > 310 || !utf8.ValidString(w.Missing) {
		t.Errorf("%q", w.Missing)
	}
}

func TestQueries(t *testing.T) {
	s := newStage(t, nil)
	u := update("x")
	u.Problems = []model.Problem{{Object: model.ObjectRef{Kind: "Ingress", Namespace: "ns", Name: "p"}, Severity: model.Refused, Reason: "R", Message: "m"}}
	// Of a route's rules all is told but the hashes of passwords.
	u.Model.Hosts[0].Routes[0].Policy = &model.Policy{Access: &model.Access{Basic: &model.BasicAuth{Users: model.Credentials("ann:{SHA}hash")}}}
	s.source.updates <- u
	for what, want := range map[string]string{
		status.QueryStatus:   `"synced":true`,
		status.QueryRoutes:   `{"hosts":[{"name":"x","routes":[{"path":"/","match":"Prefix","service":"ns/a:80","kind":"Ingress","source":"ns/x","rules":"access: basic \"\" (credentials)\n"}]}]}`,
		status.QueryServices: `"name":"ns/a:80","algorithm":"p2c","backends":[]`,
		status.QueryProblems: `"object":"Ingress ns/p","severity":"Refused","reason":"R","message":"m"`,
		status.QueryProxies:  `{"proxies":[]}`,
		status.RuleOf{Host: "x", Path: "/", Match: "Prefix"}.Query():     `"Users":"(credentials)"`,
		status.RuleOf{Host: "x", Path: "/none", Match: "Prefix"}.Query(): `{}`,
	} {
		if answer, err := feed.Ask(t.Context(), s.socket, what); err != nil || !strings.Contains(string(answer), want) {
			t.Errorf("%s: %s, %v; want %s", what, answer, err, want)
		}
	}
	if _, err := feed.Ask(t.Context(), s.socket, "weather"); err == nil || !strings.Contains(err.Error(), `does not know "weather"`) {
		t.Errorf("%v", err)
	}
}

// TestChild: a child runs without rights and without the agent's environment, is started
// again when it dies, and ends with the agent.
func TestChild(t *testing.T) {
	dir, err := os.MkdirTemp("", "kgt-child-") // open to the child's user
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o777)
	out := filepath.Join(dir, "out")
	t.Setenv("KUBECONFIG", "/secret")
	script := `grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs)' /proc/self/status >> ` + out + `; echo "kubeconfig=$KUBECONFIG session=$(ps -o sid= -p $$) pid=$$" >> ` + out + `; exec sleep 60`
	c := &Child{Path: "/bin/sh", Args: []string{"-c", script}, UID: 65532, GID: 65532, Log: zerolog.New(zerolog.NewTestWriter(t))}
	c.keep(true)
	if c.running() {
		t.Fatal("started although there is a proxy")
	}
	c.keep(false)
	wait := func(n int) string {
		deadline := time.Now().Add(5 * time.Second)
		for {
			raw, _ := os.ReadFile(out)
			if strings.Count(string(raw), "kubeconfig=") == n {
				return string(raw)
			}
			if time.Now().After(deadline) {
				t.Fatalf("child %d did not run:\n%s", n, raw)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	got := wait(1)
	want := []string{"NoNewPrivs:\t1", "kubeconfig= "}
	if os.Geteuid() == 0 {
		want = append(want, "Uid:\t65532\t65532\t65532\t65532", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000")
	}
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("child says\n%swant %q", got, w)
		}
	}
	for pid := range c.processes {
		unix.Kill(pid, unix.SIGKILL)
	}
	c.reaped(<-c.exits())
	if c.keep(false); c.running() {
		t.Error("started again without a pause")
	}
	time.Sleep(restartFirst + 10*time.Millisecond)
	c.keep(false)
	wait(2)
	c.stop(nil)
	c.reaped(<-c.exits())
	if c.keep(false); c.running() {
		t.Error("started again while it is to end")
	}
}
