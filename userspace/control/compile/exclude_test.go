package compile

import (
	"testing"

	"github.com/kerngate/kerngate/userspace/model"
)

// TestClosed: the routes of an object that a proxy refused stay, so that their requests do
// not go to another object's, and lead nowhere.
func TestClosed(t *testing.T) {
	guarded := prefix("/admin", "a", "i1")
	guarded.Policy = &model.Policy{MaxBody: new(uint64)}
	guarded.Splits = []model.Split{{Service: key("a"), Source: ingress("i3")}}
	m := &model.Model{Hosts: []model.Host{{Name: "x", Routes: []model.Route{guarded, prefix("/", "a", "i2")}}}}
	host := Route(m, ids("a"), Common{}, excluding("i1", Closed), nil, nil).Snapshot(1).Hosts[0]
	if len(host.Routes) != 2 {
		t.Fatalf("routes %v", host.Routes)
	}
	r := host.Routes[0]
	if r.Path != "/admin" || r.Service != 0 || len(r.Splits) != 0 || r.Policy == 0 || host.Policies[r.Policy-1].Access.GetClosed() == "" {
		t.Errorf("the refused route is %v, policies %v", r, host.Policies)
	}
	if r := host.Routes[1]; r.Service == 0 || r.Policy != 0 {
		t.Errorf("the other Ingress's route is %v", r)
	}
}

// TestFootprint: whatever an object brings changes its footprint, and nothing else does.
func TestFootprint(t *testing.T) {
	base := func() *model.Model {
		r := prefix("/", "a", "i1")
		r.Policy = &model.Policy{Access: &model.Access{Basic: &model.BasicAuth{Realm: "r", Users: model.Credentials("u:1")}}}
		r.Upstream.TLS = &model.UpstreamTLS{Authority: "ns/ca", Certificate: "ns/e"}
		r.Splits = []model.Split{{Service: key("b"), Source: ingress("i2"), Weight: 1, Total: 100}}
		return &model.Model{
			Hosts: []model.Host{
				{Name: "x", TLS: &model.TLS{Certificates: []string{"ns/x"}, Source: ingress("i1")}, Routes: []model.Route{r}},
				{Name: "y", Routes: []model.Route{prefix("/", "b", "i3")}},
			},
			Certificates: []model.Certificate{{ID: "ns/e", Chain: []byte("e")}, {ID: "ns/x", Chain: []byte("x")}},
			Authorities:  []model.Authority{{ID: "ns/ca", Certificates: []byte("ca")}},
		}
	}
	footprint := func(m *model.Model, name string) [32]byte {
		sum, published := Footprint(m, ids("a", "b"), ingress(name))
		if !published {
			t.Fatalf("%s is not published", name)
		}
		return sum
	}
	route := func(m *model.Model) *model.Route { return &m.Hosts[0].Routes[0] }
	for _, change := range []struct {
		what    string
		of      string // the only object whose footprint changes
		perform func(*model.Model)
	}{
		{"path", "i1", func(m *model.Model) { route(m).Path = "/x" }},
		{"service", "i1", func(m *model.Model) { route(m).Service = key("b") }},
		{"redirect", "i1", func(m *model.Model) { route(m).RedirectHTTPS = true }},
		{"passwords", "i1", func(m *model.Model) { route(m).Policy.Access.Basic.Users = model.Credentials("u:2") }},
		{"rule", "i1", func(m *model.Model) { route(m).Policy.MaxBody = new(uint64) }},
		{"certificate's name", "i1", func(m *model.Model) { m.Hosts[0].TLS.Certificates = []string{"ns/e"} }},
		{"certificate", "i1", func(m *model.Model) { m.Certificates[1].Chain = []byte("renewed") }},
		{"certificate for pods", "i1", func(m *model.Model) { m.Certificates[0].Chain = []byte("renewed") }},
		{"authority", "i1", func(m *model.Model) { m.Authorities[0].Certificates = []byte("other") }},
		{"canary", "i2", func(m *model.Model) { route(m).Splits[0].Weight = 2 }},
		{"other host", "i3", func(m *model.Model) { m.Hosts[1].Routes[0].Path = "/x" }},
	} {
		m := base()
		change.perform(m)
		for _, name := range []string{"i1", "i2", "i3"} {
			if differs := footprint(m, name) != footprint(base(), name); differs != (name == change.of) {
				t.Errorf("%s: the footprint of %s differs: %t", change.what, name, differs)
			}
		}
	}
	if _, published := Footprint(base(), ids("a", "b"), ingress("i4")); published {
		t.Error("i4 is published")
	}
}
