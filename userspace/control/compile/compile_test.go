package compile

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
)

func key(name string) model.ServiceKey {
	return model.ServiceKey{Namespace: "ns", Name: name, Port: "80"}
}

func ingress(name string) model.ObjectRef {
	return model.ObjectRef{Kind: "Ingress", Namespace: "ns", Name: name}
}

func prefix(path, service string, source string) model.Route {
	r := model.Route{Path: path, Source: ingress(source)}
	if service != "" {
		r.Service = key(service)
	}
	return r
}

// ids gives every service that is named an id in that order, from 1.
func ids(names ...string) IDs {
	return func(name string) (state.ServiceID, bool) {
		i := slices.IndexFunc(names, func(n string) bool { return key(n).String() == name })
		return state.ServiceID(i + 1), i >= 0
	}
}

func TestState(t *testing.T) {
	m := &model.Model{Listeners: model.IngressListeners([]netip.Addr{netip.MustParseAddr("2001:db8::ffff"), netip.MustParseAddr("192.0.2.2")}, 8080, 443, true), Services: []model.Service{
		{Key: key("a"), Algorithm: model.RoundRobin, PreferLocal: true, Backends: []model.Backend{
			{Address: netip.MustParseAddrPort("10.0.0.1:80"), Node: "n1", Pod: "ns/p", Local: true},
			{Address: netip.MustParseAddrPort("[2001:db8::1]:80"), Draining: true},
		}},
		{Key: key("a-b")},
	}}
	got, problems := State(m, Node{
		Addresses: []netip.Addr{netip.MustParseAddr("2001:db8::ffff"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.2")},
		Deny:      []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("198.51.0.0/16")},
		Allow:     []netip.Prefix{netip.MustParsePrefix("198.51.100.7/32")},
	})
	v4, v6 := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::ffff")
	want := state.State{
		Addresses: []netip.Addr{v4, v6},
		Listeners: []state.Listener{
			{Address: netip.AddrPortFrom(v4, 443), Protocol: state.TCP, Mode: state.L7},
			{Address: netip.AddrPortFrom(v4, 443), Protocol: state.UDP, Mode: state.L7},
			{Address: netip.AddrPortFrom(v4, 8080), Protocol: state.TCP, Mode: state.L7},
			{Address: netip.AddrPortFrom(v6, 443), Protocol: state.TCP, Mode: state.L7},
			{Address: netip.AddrPortFrom(v6, 443), Protocol: state.UDP, Mode: state.L7},
			{Address: netip.AddrPortFrom(v6, 8080), Protocol: state.TCP, Mode: state.L7},
		},
		Services: []state.Service{ // by name: "-" sorts before ":"
			{Name: "ns/a-b:80"},
			{Name: "ns/a:80", Algorithm: state.RoundRobin, PreferLocal: true, Backends: []state.Backend{
				{Address: netip.MustParseAddrPort("10.0.0.1:80"), Protocol: state.TCP, Node: "n1", Local: true},
				{Address: netip.MustParseAddrPort("[2001:db8::1]:80"), Protocol: state.TCP, Draining: true},
			}},
		},
		Deny:  []netip.Prefix{netip.MustParsePrefix("198.51.0.0/16"), netip.MustParsePrefix("198.51.100.0/24")},
		Allow: []netip.Prefix{netip.MustParsePrefix("198.51.100.7/32")},
	}
	comparers := cmp.Options{
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
	if diff := cmp.Diff(want, got, comparers); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(problems) > 0 {
		t.Error(problems)
	}
}

func TestTooManyBackends(t *testing.T) {
	s := model.Service{Key: key("a"), Backends: make([]model.Backend, maxBackends+5)}
	got, problems := Service(&s)
	if len(got.Backends) != maxBackends || len(problems) != 1 || problems[0].Object.String() != "Service ns/a" {
		t.Errorf("%d backends, problems %v", len(got.Backends), problems)
	}
}

// mirror is a proxy: it applies messages the way they are meant.
type mirror struct {
	hosts    map[string]*feedpb.Host
	services map[uint32]string
	fallback uint32
	settings *feedpb.Settings

	certificates       map[string]*feedpb.Certificate
	authorities        map[string]*feedpb.Authority
	defaultCertificate string
	tickets            *feedpb.TicketKeys
}

func (p *mirror) apply(t *testing.T, c *feedpb.Config) {
	t.Helper()
	if c.Snapshot {
		*p = mirror{hosts: map[string]*feedpb.Host{}, services: map[uint32]string{}, settings: p.settings,
			certificates: map[string]*feedpb.Certificate{}, authorities: map[string]*feedpb.Authority{}, tickets: p.tickets}
	}
	for _, id := range c.RemovedCertificates {
		delete(p.certificates, id)
	}
	for _, k := range c.Certificates {
		p.certificates[k.Id] = k
	}
	for _, id := range c.RemovedAuthorities {
		delete(p.authorities, id)
	}
	for _, a := range c.Authorities {
		p.authorities[a.Id] = a
	}
	p.defaultCertificate = c.DefaultCertificate
	if c.TicketKeys != nil {
		p.tickets = c.TicketKeys
	}
	for _, h := range c.RemovedHosts {
		delete(p.hosts, h)
	}
	for _, h := range c.Hosts {
		p.hosts[h.Name] = h
	}
	for _, id := range c.RemovedServices {
		delete(p.services, id)
	}
	for _, s := range c.Services {
		p.services[s.Id] = s.Name
	}
	p.fallback = c.DefaultService
	if c.Settings != nil {
		p.settings = c.Settings
	}
	for _, h := range p.hosts {
		for _, r := range h.Routes {
			if _, known := p.services[r.Service]; r.Service != 0 && !known {
				t.Errorf("host %q %s leads to unknown service %d", h.Name, r.Path, r.Service)
			}
		}
	}
}

// TestDeltas goes through changes of every kind; a proxy that applies the deltas must
// have what one that gets each snapshot has, and a delta holds no more than what changed.
func TestDeltas(t *testing.T) {
	settings := &feedpb.Settings{HeadTimeoutMs: 1}
	all := ids("a", "b", "c")
	steps := []struct {
		name     string
		model    model.Model
		ids      IDs
		settings *feedpb.Settings
		without  Exclude
		hosts    []string // changed or removed (with -) in the delta
	}{
		{name: "first", hosts: []string{"x", "y"}, model: model.Model{Hosts: []model.Host{
			{Name: "x", Routes: []model.Route{prefix("/", "a", "i1")}},
			{Name: "y", Routes: []model.Route{prefix("/", "b", "i2")}}}}},
		{name: "nothing", model: model.Model{Hosts: []model.Host{
			{Name: "x", Routes: []model.Route{prefix("/", "a", "i1")}},
			{Name: "y", Routes: []model.Route{prefix("/", "b", "i2")}}}}},
		{name: "a route more, another service, a default", hosts: []string{"x"}, model: model.Model{Default: key("c"), Hosts: []model.Host{
			{Name: "x", Routes: []model.Route{prefix("/foo", "", "i1"), prefix("/", "a", "i1")}},
			{Name: "y", Routes: []model.Route{prefix("/", "b", "i2")}}}}},
		{name: "the id of b is now another", hosts: []string{"x", "y"}, ids: ids("a", "c", "b"), model: model.Model{Default: key("c"), Hosts: []model.Host{
			{Name: "x", Routes: []model.Route{prefix("/", "a", "i1")}},
			{Name: "y", Routes: []model.Route{prefix("/", "b", "i2")}}}}},
		{name: "no room in the maps for b", hosts: []string{"y"}, ids: ids("a", "c"), model: model.Model{Default: key("c"), Hosts: []model.Host{
			{Name: "x", Routes: []model.Route{prefix("/", "a", "i1")}},
			{Name: "y", Routes: []model.Route{prefix("/", "b", "i2")}}}}},
		{name: "a refused Ingress", hosts: []string{"x"}, ids: ids("a", "c"),
			without: excluding("i1", Dropped),
			model: model.Model{Default: key("c"), Hosts: []model.Host{
				{Name: "x", Routes: []model.Route{prefix("/", "a", "i1")}},
				{Name: "y", Routes: []model.Route{prefix("/", "b", "i2")}}}}},
		{name: "settings alone", ids: ids("a", "c"), settings: &feedpb.Settings{HeadTimeoutMs: 2},
			without: excluding("i1", Dropped),
			model: model.Model{Default: key("c"), Hosts: []model.Host{
				{Name: "x", Routes: []model.Route{prefix("/", "a", "i1")}},
				{Name: "y", Routes: []model.Route{prefix("/", "b", "i2")}}}}},
		{name: "everything gone", hosts: []string{"-x", "-y"}},
	}
	var before *Routing
	var viaDeltas mirror
	for i, step := range steps {
		if step.ids == nil {
			step.ids = all
		}
		if step.settings == nil {
			step.settings = proto.CloneOf(settings)
		}
		step.model.Services = []model.Service{{Key: key("a")}, {Key: key("b")}, {Key: key("c")}}
		next := Route(&step.model, step.ids, Common{Settings: step.settings}, step.without, before, nil)
		snapshot := next.Snapshot(uint64(i))
		if before == nil {
			viaDeltas.apply(t, snapshot)
		} else {
			delta, ok := before.Delta(next, uint64(i))
			if ok != (step.name != "nothing") {
				t.Errorf("%s: delta reports change %t", step.name, ok)
			}
			var hosts []string
			for _, h := range delta.Hosts {
				hosts = append(hosts, h.Name)
			}
			for _, h := range delta.RemovedHosts {
				hosts = append(hosts, "-"+h)
			}
			if !slices.Equal(hosts, step.hosts) {
				t.Errorf("%s: delta has hosts %v, want %v", step.name, hosts, step.hosts)
			}
			viaDeltas.apply(t, delta)
		}
		var viaSnapshot mirror
		viaSnapshot.apply(t, snapshot)
		if diff := cmp.Diff(viaSnapshot, viaDeltas, cmp.AllowUnexported(mirror{}), protocmp.Transform()); diff != "" {
			t.Errorf("%s: deltas lead elsewhere (-snapshot +deltas):\n%s", step.name, diff)
		}
		before = next
	}
}

// TestChangedHosts: a Routing made of the last one by the hosts that have changed equals one
// made from nothing, and so does what its deltas add up to.
func TestChangedHosts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	m := &model.Model{Services: []model.Service{{Key: key("a"), Health: &model.HealthCheck{Interval: time.Second}}, {Key: key("b")}, {Key: key("c")}}}
	common := Common{Settings: &feedpb.Settings{}}
	last := Route(m, ids("a", "b", "c"), common, nil, nil, nil)
	var sum mirror
	sum.apply(t, last.Snapshot(0))
	behind, held := last, *new(mirror) // of a proxy that skips versions
	held.apply(t, last.Snapshot(0))
	for step := range 500 {
		next := *m
		changed := &model.Changed{}
		hosts := map[string]model.Host{}
		for _, h := range m.Hosts {
			hosts[h.Name] = h
		}
		for range r.IntN(3) {
			name := fmt.Sprint("h", r.IntN(8))
			changed.Hosts = append(changed.Hosts, name)
			if delete(hosts, name); r.IntN(3) > 0 {
				h := model.Host{Name: name, Routes: []model.Route{prefix(fmt.Sprint("/", r.IntN(3)), string(rune('a'+r.IntN(3))), "i1")}}
				if r.IntN(2) == 0 { // how pods are asked for their health, too
					h.Routes[0].Upstream = model.Upstream{Protocol: model.HTTP2}
				}
				if r.IntN(2) == 0 {
					h.TLS = &model.TLS{Certificates: []string{"ns/x"}, Source: ingress("i1")}
				}
				hosts[name] = h
			}
		}
		next.Hosts = nil
		for _, name := range slices.Sorted(maps.Keys(hosts)) {
			next.Hosts = append(next.Hosts, hosts[name])
		}
		if r.IntN(4) == 0 {
			changed.Services = true
			next.Services = slices.Clone(m.Services)
			next.Services[r.IntN(3)].NoSkMsg = r.IntN(2) == 0
			next.Default = [...]model.ServiceKey{{}, key("a")}[r.IntN(2)]
		}
		if r.IntN(4) == 0 {
			changed.Trust = true
			next.Certificates = []model.Certificate{{ID: "ns/x", Chain: []byte{byte(r.IntN(3))}}}
		}
		m = &next
		now := Route(m, ids("a", "b", "c"), common, nil, last, changed)
		want := Route(m, ids("a", "b", "c"), common, nil, nil, nil).Snapshot(1)
		if diff := cmp.Diff(want, now.Snapshot(1), protocmp.Transform()); diff != "" {
			t.Fatalf("step %d (-from nothing +from the last one):\n%s", step, diff)
		}
		var whole mirror
		whole.apply(t, want)
		if delta, ok := last.Delta(now, 1); ok {
			sum.apply(t, delta)
		}
		last = now
		if r.IntN(3) == 0 {
			delta, _ := behind.Delta(now, 1)
			held.apply(t, delta)
			behind = now
			if diff := cmp.Diff(whole, held, cmp.AllowUnexported(mirror{}), protocmp.Transform()); diff != "" {
				t.Fatalf("step %d: a delta over several versions leads elsewhere:\n%s", step, diff)
			}
		}
		if diff := cmp.Diff(whole, sum, cmp.AllowUnexported(mirror{}), protocmp.Transform()); diff != "" {
			t.Fatalf("step %d: deltas lead elsewhere (-snapshot +deltas):\n%s", step, diff)
		}
	}
}

func BenchmarkRoute10000Hosts(b *testing.B) {
	var m model.Model
	for i := range 10_000 {
		m.Hosts = append(m.Hosts, model.Host{Name: fmt.Sprintf("h%05d.example.com", i), Routes: []model.Route{prefix("/", "a", "i1"), prefix("/foo", "b", "i1")}})
	}
	all, settings := ids("a", "b"), Common{Settings: &feedpb.Settings{}}
	first := Route(&m, all, settings, nil, nil, nil)
	b.ReportAllocs()
	for b.Loop() {
		first.Delta(Route(&m, all, settings, nil, first, nil), 1)
	}
}

// TestFabric: members become nodes; L4 services may use pods of members with DSR, of all
// nodes with plain routing, else of this one.
func TestFabric(t *testing.T) {
	at := func(address, node string, local bool) model.Backend {
		return model.Backend{Address: netip.MustParseAddrPort(address), Node: node, Local: local}
	}
	m := &model.Model{
		Members: []model.Member{
			{Name: "n1", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.11")}, State: model.Serving},
			{Name: "n2", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.12")}, State: model.Leaving},
		},
		L4: []model.L4Service{{
			L4Key:     model.L4Key{Service: key("db"), Protocol: model.TCP, Source: model.ObjectRef{Kind: "Service", Namespace: "ns", Name: "db"}},
			Listeners: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:5432")},
			Backends:  []model.Backend{at("10.0.1.1:5432", "n1", true), at("10.0.2.1:5432", "n2", false), at("10.0.3.1:5432", "n3", false)},
		}},
	}
	for _, c := range []struct {
		node      Node
		localOnly bool
		backends  int
	}{
		{Node{}, true, 3}, // the registry leaves out those of other nodes
		{Node{L4Remote: true}, false, 3},
		{Node{L4DSR: true}, false, 2},
		{Node{L4DSR: true, Members: m.Members[:1]}, false, 1}, // named by flags
	} {
		got, problems := State(m, c.node)
		if len(problems) > 0 || len(got.Services) != 1 || got.Services[0].LocalOnly != c.localOnly || len(got.Services[0].Backends) != c.backends {
			t.Errorf("%+v: %+v, %v", c.node, got.Services, problems)
		}
	}
	got, _ := State(m, Node{})
	if want := "[{n1 [192.0.2.11] 1} {n2 [192.0.2.12] 2}]"; fmt.Sprint(got.Nodes) != want {
		t.Errorf("nodes %v, want %s", got.Nodes, want)
	}
}

// TestDividedLimits: how many share the limits is the cluster's to say, and a change of it is
// a change of settings alone.
func TestDividedLimits(t *testing.T) {
	common := Common{Settings: &feedpb.Settings{HeadTimeoutMs: 1}}
	alone := Route(&model.Model{}, ids(), common, nil, nil, nil)
	three := Route(&model.Model{Proxies: 3}, ids(), common, nil, alone, nil)
	if _, changed := three.Delta(Route(&model.Model{Proxies: 3}, ids(), common, nil, three, nil), 3); changed {
		t.Error("nothing has changed")
	}
	c, changed := alone.Delta(three, 2)
	if !changed || c.Settings.GetProxies() != 3 || c.Settings.HeadTimeoutMs != 1 || common.Settings.Proxies != 0 {
		t.Errorf("%v, %v", c, changed)
	}
}

// TestListeners: proxies are told of the model's listeners, and those of the version before by port.
func TestListeners(t *testing.T) {
	address := netip.MustParseAddr("192.0.2.1")
	m := &model.Model{Listeners: model.IngressListeners([]netip.Addr{address}, 80, 443, true)}
	s := Route(m, ids(), Common{}, nil, nil, nil).Snapshot(1).Settings
	if got := s.GetListeners(); len(got) != 2 || got[0].Tls || !got[1].Tls || got[1].Port != 443 || !slices.Equal(got[1].Address, address.AsSlice()) || !slices.Equal(s.HttpsPorts, []uint32{443}) {
		t.Errorf("listeners: %v", s)
	}
}

func excluding(name string, e Exclusion) Exclude {
	return func(ref model.ObjectRef) Exclusion {
		if ref.Name == name {
			return e
		}
		return Included
	}
}
