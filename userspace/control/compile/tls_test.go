package compile

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
)

func certificate(id, key string) model.Certificate {
	return model.Certificate{ID: id, Chain: []byte("chain of " + id), Key: model.Key(key)}
}

func tickets(first string) *feedpb.TicketKeys {
	return &feedpb.TicketKeys{Keys: [][]byte{[]byte(first), []byte("k2")}}
}

// TestTLSForm: every field of the model arrives.
func TestTLSForm(t *testing.T) {
	m := &model.Model{
		Hosts: []model.Host{
			{Name: "a", TLS: &model.TLS{
				Certificates: []string{"ns/e", "ns/r"}, Source: ingress("i1"),
				Client: &model.ClientAuth{Mode: model.ClientOptional, Authority: "ns/ca", Depth: 3, ErrorPage: "https://x/", PassChain: true},
			}, Routes: []model.Route{{Path: "/", Service: key("a"), Source: ingress("i1"), RedirectHTTPS: true, Upstream: model.Upstream{
				Protocol: model.HTTP2, GRPC: true, ProxyHeader: 2,
				TLS: &model.UpstreamTLS{Verify: true, Authority: "ns/ca", ServerName: "pods", Certificate: "ns/e"},
			}}}},
			{Name: "b", TLS: &model.TLS{Passthrough: key("b"), Source: ingress("i2")}},
		},
		Services:           []model.Service{{Key: key("a")}, {Key: key("b")}},
		Certificates:       []model.Certificate{{ID: "ns/e", Chain: []byte("chain"), Key: model.Key("key"), OCSP: []byte("staple")}},
		Authorities:        []model.Authority{{ID: "ns/ca", Certificates: []byte("pem"), Revoked: []byte("crl")}},
		DefaultCertificate: "ns/e",
	}
	got := Route(m, ids("a", "b"), Common{Settings: &feedpb.Settings{}, Tickets: tickets("k1")}, nil, nil, nil).Snapshot(7)
	want := &feedpb.Config{
		Version: 7, Snapshot: true, Settings: &feedpb.Settings{},
		Hosts: []*feedpb.Host{
			{Name: "a", Tls: &feedpb.TLS{
				Certificates: []string{"ns/e", "ns/r"}, Source: "ns/i1",
				Client: &feedpb.ClientAuth{Mode: feedpb.ClientAuth_OPTIONAL, Authority: "ns/ca", Depth: 3, ErrorPage: "https://x/", PassChain: true},
			}, Routes: []*feedpb.Route{{Path: "/", Service: 1, Source: "ns/i1", RedirectHttps: true, Upstream: &feedpb.Upstream{
				Protocol: feedpb.Upstream_HTTP2, Grpc: true, ProxyHeader: 2,
				Tls: &feedpb.UpstreamTLS{Verify: true, Authority: "ns/ca", ServerName: "pods", Certificate: "ns/e"},
			}}}},
			{Name: "b", Tls: &feedpb.TLS{PassthroughService: 2, Source: "ns/i2"}},
		},
		Services:           []*feedpb.Service{{Id: 1, Name: "ns/a:80"}, {Id: 2, Name: "ns/b:80"}},
		Certificates:       []*feedpb.Certificate{{Id: "ns/e", Chain: []byte("chain"), Key: []byte("key"), Ocsp: []byte("staple")}},
		Authorities:        []*feedpb.Authority{{Id: "ns/ca", Certificates: []byte("pem"), Revoked: []byte("crl")}},
		DefaultCertificate: "ns/e",
		TicketKeys:         tickets("k1"),
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestRefusedClientAuth: a host whose clients must show a certificate stays closed when its
// Ingress was refused, while routes of others remain on it.
func TestRefusedClientAuth(t *testing.T) {
	m := &model.Model{Hosts: []model.Host{
		{Name: "a", TLS: &model.TLS{Client: &model.ClientAuth{Mode: model.ClientOptional, Authority: "ns/ca"}, Source: ingress("i1")},
			Routes: []model.Route{prefix("/mine", "a", "i1"), prefix("/", "a", "i2")}},
		{Name: "b", TLS: &model.TLS{Certificates: []string{"ns/e"}, Source: ingress("i1")}},
	}}
	for exclusion, routes := range map[Exclusion]int{Closed: 2, Dropped: 1} {
		got := Route(m, ids("a"), Common{}, excluding("i1", exclusion), nil, nil).Snapshot(1)
		if a := got.Hosts[0]; a.Tls.GetClient() == nil || a.Tls.Client.Mode != feedpb.ClientAuth_REQUIRED || a.Tls.Client.Authority != "" || len(a.Routes) != routes {
			t.Errorf("host a is %v", a)
		}
		if b := got.Hosts[1]; b.Tls != nil {
			t.Errorf("host b is %v", b)
		}
	}
}

// TestTrustDeltas: as TestDeltas, for what hosts name.
func TestTrustDeltas(t *testing.T) {
	host := func(change func(*model.Host)) []model.Host {
		h := model.Host{Name: "x", TLS: &model.TLS{Certificates: []string{"ns/a"}, Source: ingress("i1")}, Routes: []model.Route{prefix("/", "a", "i1")}}
		if change != nil {
			change(&h)
		}
		return []model.Host{h}
	}
	a, b := certificate("ns/a", "1"), certificate("ns/b", "1")
	ca := model.Authority{ID: "ns/ca", Certificates: []byte("ca")}
	client := func(h *model.Host) {
		h.TLS.Client = &model.ClientAuth{Authority: "ns/ca", Depth: 1}
	}
	steps := []struct {
		name    string
		model   model.Model
		tickets *feedpb.TicketKeys
		parts   int // of the delta: hosts, certificates, authorities, removed ones too, the default, tickets
	}{
		{name: "first", model: model.Model{Hosts: host(nil), Certificates: []model.Certificate{a}}},
		{name: "same", model: model.Model{Hosts: host(nil), Certificates: []model.Certificate{a}}},
		{name: "renewed", parts: 1, model: model.Model{Hosts: host(nil), Certificates: []model.Certificate{certificate("ns/a", "2")}}},
		{name: "stapled", parts: 1, model: model.Model{Hosts: host(nil), Certificates: []model.Certificate{{ID: "ns/a", Chain: a.Chain, Key: model.Key("2"), OCSP: []byte("good")}}}},
		{name: "default", parts: 2, model: model.Model{Hosts: host(nil), DefaultCertificate: "ns/b", Certificates: []model.Certificate{{ID: "ns/a", Chain: a.Chain, Key: model.Key("2"), OCSP: []byte("good")}, b}}},
		{name: "other certificate", parts: 3, model: model.Model{Hosts: host(func(h *model.Host) { h.TLS.Certificates = []string{"ns/b"} }), Certificates: []model.Certificate{b}}},
		{name: "client", parts: 2, model: model.Model{Hosts: host(client), Certificates: []model.Certificate{b}, Authorities: []model.Authority{ca}}},
		{name: "other authority", parts: 1, model: model.Model{Hosts: host(client), Certificates: []model.Certificate{b}, Authorities: []model.Authority{{ID: "ns/ca", Certificates: []byte("ca2")}}}},
		{name: "tickets", parts: 1, tickets: tickets("k1"), model: model.Model{Hosts: host(client), Certificates: []model.Certificate{b}, Authorities: []model.Authority{{ID: "ns/ca", Certificates: []byte("ca2")}}}},
		{name: "tickets again", tickets: tickets("k1"), model: model.Model{Hosts: host(client), Certificates: []model.Certificate{b}, Authorities: []model.Authority{{ID: "ns/ca", Certificates: []byte("ca2")}}}},
		{name: "upstream", parts: 2, tickets: tickets("k1"), model: model.Model{Hosts: host(func(h *model.Host) {
			h.Routes[0].Upstream = model.Upstream{TLS: &model.UpstreamTLS{ServerName: "x"}}
		}), Certificates: []model.Certificate{b}}},
		{name: "upstream's name", parts: 1, tickets: tickets("k1"), model: model.Model{Hosts: host(func(h *model.Host) {
			h.Routes[0].Upstream = model.Upstream{TLS: &model.UpstreamTLS{ServerName: "y"}}
		}), Certificates: []model.Certificate{b}}},
		{name: "redirect", parts: 1, tickets: tickets("k1"), model: model.Model{Hosts: host(func(h *model.Host) { h.Routes[0].RedirectHTTPS = true }), Certificates: []model.Certificate{b}}},
		{name: "no TLS", parts: 3, tickets: tickets("k2"), model: model.Model{Hosts: host(func(h *model.Host) { h.TLS = nil })}},
	}
	var before *Routing
	var viaDeltas mirror
	for i, step := range steps {
		step.model.Services = []model.Service{{Key: key("a")}}
		next := Route(&step.model, ids("a"), Common{Settings: &feedpb.Settings{}, Tickets: step.tickets}, nil, before, nil)
		if before == nil {
			viaDeltas.apply(t, next.Snapshot(uint64(i)))
		} else {
			c, ok := before.Delta(next, uint64(i))
			parts := len(c.Hosts) + len(c.Certificates) + len(c.RemovedCertificates) + len(c.Authorities) + len(c.RemovedAuthorities)
			if c.DefaultCertificate != viaDeltas.defaultCertificate {
				parts++
			}
			if c.TicketKeys != nil {
				parts++
			}
			if parts != step.parts || ok != (parts > 0) {
				t.Errorf("%s: %d parts differ, ok %t; want %d:\n%v", step.name, parts, ok, step.parts, c)
			}
			viaDeltas.apply(t, c)
		}
		var viaSnapshot mirror
		viaSnapshot.apply(t, next.Snapshot(uint64(i)))
		if diff := cmp.Diff(viaSnapshot, viaDeltas, cmp.AllowUnexported(mirror{}), protocmp.Transform()); diff != "" {
			t.Errorf("%s: deltas lead elsewhere (-snapshot +deltas):\n%s", step.name, diff)
		}
		before = next
	}
}
