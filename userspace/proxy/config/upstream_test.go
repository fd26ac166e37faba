package config

import (
	"crypto/tls"
	"testing"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// upstreamOf returns how the pods of a host are spoken to.
func upstreamOf(t *testing.T, s *Snapshot, host string) *Upstream {
	t.Helper()
	r, ok := s.Routes.Match([]byte(host), []byte("/"), nil)
	if !ok {
		t.Fatalf("no route for %s", host)
	}
	return r.Value.Upstream
}

func hostWith(name string, u *feedpb.Upstream) *feedpb.Host {
	return &feedpb.Host{Name: name, Routes: []*feedpb.Route{{Path: "/", Service: 1, Source: "d/" + name, Upstream: u}}}
}

// TestUpstreams: who asks for the same shares connections, across configurations as well;
// nobody else does.
func TestUpstreams(t *testing.T) {
	h2 := func() *feedpb.Upstream { return &feedpb.Upstream{Protocol: feedpb.Upstream_HTTP2} }
	one := apply(t, Empty(), &feedpb.Config{
		Version: 1, Snapshot: true, Services: []*feedpb.Service{{Id: 1, Name: "d/a:80"}},
		Hosts: []*feedpb.Host{
			hostWith("plain", nil), hostWith("said", &feedpb.Upstream{}),
			hostWith("a", h2()), hostWith("b", h2()),
			hostWith("grpc", &feedpb.Upstream{Protocol: feedpb.Upstream_HTTP2, Grpc: true}),
			hostWith("announced", &feedpb.Upstream{ProxyHeader: 2}),
		},
	})
	if a, b := upstreamOf(t, one, "plain"), upstreamOf(t, one, "said"); a != b || one.Transport(a) != ClearText {
		t.Error("HTTP/1.1 in clear text is not one transport")
	}
	a := upstreamOf(t, one, "a")
	if b := upstreamOf(t, one, "b"); a != b || !a.HTTP2 || one.Transport(a) != one.Transport(b) {
		t.Error("equal upstreams are not one")
	}
	if g := upstreamOf(t, one, "grpc"); g == a || !g.GRPC || !g.HTTP2 || one.Transport(g) == one.Transport(a) {
		t.Error("different upstreams are one")
	}
	if u := upstreamOf(t, one, "announced"); u.ProxyHeader != 2 || u.HTTP2 {
		t.Errorf("%+v", u)
	}
	for name, c := range map[string]*feedpb.Config{
		"delta":    {Version: 2, Hosts: []*feedpb.Host{hostWith("c", h2())}},
		"snapshot": {Version: 2, Snapshot: true, Services: []*feedpb.Service{{Id: 1, Name: "d/a:80"}}, Hosts: []*feedpb.Host{hostWith("a", nil), hostWith("c", h2())}},
	} {
		two := apply(t, one, c)
		if u := upstreamOf(t, two, "c"); u != a || two.Transport(u) != one.Transport(a) || two.Transport(u) == nil {
			t.Errorf("after a %s, the same upstream is another one", name)
		}
		if c.Snapshot && len(two.upstreams.known) != 1 {
			t.Errorf("%d upstreams are kept, 1 is in use", len(two.upstreams.known))
		}
	}
	if _, err := one.Apply(&feedpb.Config{Version: 2, Hosts: []*feedpb.Host{hostWith("c", &feedpb.Upstream{ProxyHeader: 3})}}); err == nil {
		t.Error("a PROXY header of version 3 is taken")
	}
}

// TestUpstreamVersions: different versions and suites are different upstreams, and what
// there is none of is refused.
func TestUpstreamVersions(t *testing.T) {
	with := func(u *feedpb.UpstreamTLS) *feedpb.Upstream { return &feedpb.Upstream{Tls: u} }
	one := apply(t, Empty(), &feedpb.Config{
		Version: 1, Snapshot: true, Services: []*feedpb.Service{{Id: 1, Name: "d/a:80"}},
		Hosts: []*feedpb.Host{
			hostWith("any", with(&feedpb.UpstreamTLS{})),
			hostWith("new", with(&feedpb.UpstreamTLS{MinVersion: "1.3"})),
			hostWith("few", with(&feedpb.UpstreamTLS{Suites: []string{"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"}})),
			hostWith("same", with(&feedpb.UpstreamTLS{Suites: []string{"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"}})),
		},
	})
	few := upstreamOf(t, one, "few")
	if few != upstreamOf(t, one, "same") || few == upstreamOf(t, one, "any") || few == upstreamOf(t, one, "new") {
		t.Error("upstreams are told apart by other things than what they are")
	}
	if c := one.Transport(few).Config; len(c.CipherSuites) != 1 || c.CipherSuites[0] != tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 || c.MinVersion != tls.VersionTLS12 {
		t.Errorf("suites %x from version %x", c.CipherSuites, c.MinVersion)
	}
	if c := one.Transport(upstreamOf(t, one, "new")).Config; c.MinVersion != tls.VersionTLS13 || c.CipherSuites != nil {
		t.Errorf("suites %x from version %x", c.CipherSuites, c.MinVersion)
	}
	for name, u := range map[string]*feedpb.UpstreamTLS{
		"version": {MinVersion: "1.1"}, "order": {MinVersion: "1.3", MaxVersion: "1.2"}, "suite": {Suites: []string{"TLS_RSA_WITH_RC4_128_SHA"}},
	} {
		if _, err := one.Apply(&feedpb.Config{Version: 2, Hosts: []*feedpb.Host{hostWith("c", with(u))}}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := one.Apply(&feedpb.Config{Version: 2, Hosts: []*feedpb.Host{{Name: "c", Tls: &feedpb.TLS{Suites: []string{"TLS_X"}, Source: "d/c"}}}}); err == nil {
		t.Error("a suite that does not exist is taken for a host")
	}
}
