package config

import (
	"bytes"
	"crypto/tls"
	"errors"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/control/cert/certtest"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// TestTLSDeltas: certificates that did not change are the same objects, and what is replaced
// or removed is.
func TestTLSDeltas(t *testing.T) {
	authority := certtest.NewAuthority("ca")
	certificate := func(id, name string) *feedpb.Certificate {
		chain, key := authority.Pair(certtest.ECDSA, name)
		return &feedpb.Certificate{Id: id, Chain: chain, Key: key}
	}
	one := apply(t, Empty(), &feedpb.Config{
		Version: 1, Snapshot: true, DefaultCertificate: "d/a",
		Services:     []*feedpb.Service{{Id: 1, Name: "d/a:443"}},
		Certificates: []*feedpb.Certificate{certificate("d/a", "a.test"), certificate("d/b", "b.test")},
		Authorities:  []*feedpb.Authority{{Id: "d/ca", Certificates: authority.PEM()}},
		Hosts: []*feedpb.Host{
			{Name: "b.test", Tls: &feedpb.TLS{Certificates: []string{"d/b"}}},
			{Name: "c.test", Tls: &feedpb.TLS{Client: &feedpb.ClientAuth{Authority: "d/ca"}}},
			{Name: "p.test", Tls: &feedpb.TLS{PassthroughService: 1}},
		},
	})
	shown := func(s *Snapshot, name string) string {
		c, err := s.TLS.certificate(&tls.ClientHelloInfo{ServerName: name})
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.DNSNames[0]
	}
	if shown(one, "B.test") != "b.test" || shown(one, "x.test") != "a.test" || shown(one, "c.test") != "a.test" ||
		!one.TLS.Passthrough || !one.TLS.Policies || one.TLS.Lookup("p.test").Passthrough.Name != "d/a:443" {
		t.Fatal("the snapshot is not in force")
	}
	two := apply(t, one, &feedpb.Config{
		Version: 2, DefaultCertificate: "d/b", RemovedHosts: []string{"p.test"},
		Certificates: []*feedpb.Certificate{certificate("d/a", "a.test"), certificate("d/b", "new.test")},
		Authorities:  []*feedpb.Authority{{Id: "d/ca", Certificates: authority.PEM()}},
		Hosts:        []*feedpb.Host{{Name: "d.test", Tls: &feedpb.TLS{Certificates: []string{"d/a"}}}},
	})
	if shown(two, "b.test") != "new.test" || shown(two, "x.test") != "new.test" || shown(two, "d.test") != "a.test" || two.TLS.Passthrough {
		t.Error("the delta is not in force")
	}
	if two.TLS.Certificate("d/a") != one.TLS.Certificate("d/a") || two.TLS.Authority("d/ca") != one.TLS.Authority("d/ca") ||
		two.TLS.Lookup("c.test").Client != one.TLS.Lookup("c.test").Client {
		t.Error("what did not change was parsed again")
	}
	if two.TLS.Certificate("d/b") == one.TLS.Certificate("d/b") || shown(one, "b.test") != "b.test" {
		t.Error("the snapshot before was changed")
	}
	three := apply(t, two, &feedpb.Config{Version: 3, RemovedCertificates: []string{"d/a", "d/b"}, RemovedAuthorities: []string{"d/ca"}})
	if cn := shown(three, "d.test"); cn != "ingress.local" {
		t.Errorf("without its certificate a host shows that for %s", cn)
	}
	if three.TLS.Lookup("c.test").Client == two.TLS.Lookup("c.test").Client {
		t.Error("clients are judged by an authority that is gone")
	}
}

// TestTickets: the process has a key of its own until it is told others, and keeps them.
func TestTickets(t *testing.T) {
	one := Empty()
	two := apply(t, one, &feedpb.Config{Version: 1, Snapshot: true})
	if len(one.TLS.tickets) != 1 || one.TLS.tickets[0] != two.TLS.tickets[0] || one.TLS.tickets[0] == [32]byte{} {
		t.Error("the process's own key is not kept, or none")
	}
	if Empty().TLS.tickets[0] == one.TLS.tickets[0] {
		t.Error("two processes have the same key")
	}
	key := bytes.Repeat([]byte{1}, 32)
	three := apply(t, two, &feedpb.Config{Version: 2, TicketKeys: &feedpb.TicketKeys{Keys: [][]byte{key}}})
	four := apply(t, three, &feedpb.Config{Version: 3, Snapshot: true})
	if !bytes.Equal(three.TLS.tickets[0][:], key) || three.TLS.tickets[0] != four.TLS.tickets[0] {
		t.Error("the agent's keys are not in force")
	}
}

// TestTLSRefused: what cannot be used is refused by name.
func TestTLSRefused(t *testing.T) {
	authority := certtest.NewAuthority("ca")
	chain, key := authority.Pair(certtest.ECDSA, "a.test")
	_, other := authority.Pair(certtest.ECDSA, "b.test")
	host := func(rule *feedpb.TLS) []*feedpb.Host {
		rule.Source = "d/i"
		return []*feedpb.Host{{Name: "a.test", Tls: rule}}
	}
	for name, c := range map[string]struct {
		config       *feedpb.Config
		source, text string
	}{
		"key of another": {&feedpb.Config{Certificates: []*feedpb.Certificate{{Id: "d/s", Chain: chain, Key: other}},
			Hosts: host(&feedpb.TLS{Certificates: []string{"d/s"}})}, "d/i", "Secret d/s"},
		"no key":       {&feedpb.Config{Certificates: []*feedpb.Certificate{{Id: "d/s", Chain: chain}}}, "", "Secret d/s"},
		"no chain":     {&feedpb.Config{Certificates: []*feedpb.Certificate{{Id: "d/s", Key: key}}}, "", "Secret d/s"},
		"no service":   {&feedpb.Config{Hosts: host(&feedpb.TLS{PassthroughService: 9})}, "d/i", "service 9"},
		"no authority": {&feedpb.Config{Authorities: []*feedpb.Authority{{Id: "d/ca", Certificates: []byte("x")}}, Hosts: host(&feedpb.TLS{Client: &feedpb.ClientAuth{Authority: "d/ca"}})}, "d/i", "Secret d/ca"},
		"short ticket": {&feedpb.Config{TicketKeys: &feedpb.TicketKeys{Keys: [][]byte{{1, 2}}}}, "", "32 bytes"},
		"version":      {&feedpb.Config{Settings: &feedpb.Settings{TlsMinVersion: "1.1"}}, "", `"1.1"`},
		"suite":        {&feedpb.Config{Settings: &feedpb.Settings{TlsSuites: []string{"TLS_RSA_WITH_RC4_128_SHA"}}}, "", "not secure"},
		"only 1.3":     {&feedpb.Config{Settings: &feedpb.Settings{TlsSuites: []string{"TLS_AES_128_GCM_SHA256"}}}, "", "TLS 1.2"},
		"HSTS":         {&feedpb.Config{Settings: &feedpb.Settings{Hsts: "a\r\nb"}}, "", "HSTS"},
		"port":         {&feedpb.Config{Settings: &feedpb.Settings{HttpsPorts: []uint32{70000}}}, "", "70000"},
	} {
		_, err := Empty().Apply(c.config)
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Source.FullName() != c.source || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want a refusal of %q that says %q", name, err, c.source, c.text)
		}
		if err != nil && (certtest.Leaks(err.Error(), key) != "" || certtest.Leaks(err.Error(), other) != "") {
			t.Errorf("%s: a key shows in %v", name, err)
		}
	}
}
