//go:build linux

package main

import (
	"crypto/tls"
	"maps"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/kerngate/kerngate/test/lab"
)

func sample(product string, change func(*result)) *result {
	r := &result{
		attack:  &attack{name: "a", title: "A", text: "Text.", least: map[string]int64{"frames": 10}},
		product: product, sent: map[string]int64{"frames": 10},
		visits: visits{Asked: 100, Answered: 95, Took: []float64{3, 1, 2}, Failed: map[string]int{"https": 5}},
		memory: memory{before: 10 << 20, peak: 90 << 20, after: 11 << 20, back: time.Second},
	}
	if change != nil {
		change(r)
	}
	return r
}

// TestMissedAims: only what Kerngate misses counts, and attacks on it that did not happen.
func TestMissedAims(t *testing.T) {
	for name, c := range map[string]struct {
		result *result
		want   string
	}{
		"all well":             {sample(kerngateName, nil), ""},
		"answers":              {sample(kerngateName, func(r *result) { r.visits.Answered-- }), "a: 94.0 % of the honest"},
		"memory":               {sample(kerngateName, func(r *result) { r.memory.back = 0 }), "a: memory is 11.0 MiB after the attack, 10.0 MiB before"},
		"no attack":            {sample(kerngateName, func(r *result) { r.sent["frames"]-- }), "a: Kerngate was not attacked as it should be: 9 frames, want at least 10"},
		"others' memory":       {sample(nginxName, func(r *result) { r.memory.back = 0 }), ""},
		"others' answers":      {sample(nginxName, func(r *result) { r.visits.Answered = 0 }), ""},
		"no attack on another": {sample(nginxName, func(r *result) { delete(r.sent, "frames") }), ""},
	} {
		missed := strings.Join(missedAims([]*result{c.result}), "\n")
		if (missed == "") != (c.want == "") || !strings.HasPrefix(missed, c.want) {
			t.Errorf("%s: %q, want %q", name, missed, c.want)
		}
	}
}

// TestSection: the table has a line for each product, with what the counters say.
func TestSection(t *testing.T) {
	r := sample(kerngateName, func(r *result) {
		r.counted = map[string]float64{`kerngate_proxy_requests_total{reason="forwarded"}`: 9, `kerngate_proxy_requests_total{reason="shed"}`: 2, "other_total": 3}
	})
	got := section(r.attack, []*result{r, sample(nginxName, func(r *result) { r.memory.back, r.visits, r.sent["frames"] = 0, visits{Asked: 10}, 3 })})
	for _, want := range []string{
		"| Kerngate | 95.0 % | 3 | 10.0 | 90.0 | 11.0 | 1.0 s | frames 10 |",
		"| nginx | 0.0 % | - | 10.0 | 90.0 | 11.0 | not | frames 3 |",
		"\nnginx took less of the attack than it was to get: 3 frames, want at least 10.\n",
		"Kerngate counted: `requests_total{reason=\"shed\"}` 2.\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestCounters(t *testing.T) {
	before := parseCounters("# HELP a_total x\na_total{reason=\"b\"} 3\na_total{reason=\"c\"} 1\ngauge 7\n")
	after := parseCounters("a_total{reason=\"b\"} 5\na_total{reason=\"c\"} 1\nnew_total 4\ngauge 9\n")
	want := map[string]float64{`a_total{reason="b"}`: 2, "new_total": 4}
	if got := moved(before, after); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestAddresses: no attacker has an address of another, or the honest client's.
func TestAddresses(t *testing.T) {
	seen := map[netip.Addr]bool{}
	for _, f := range []from{fromMany, fromSubnet, fromOne} {
		before := len(seen)
		for i := range attackers {
			for _, a := range f.addresses(i) {
				if seen[a] || netip.MustParsePrefix("192.0.2.0/24").Contains(a) {
					t.Errorf("%s is there twice, or the client's", a)
				}
				seen[a] = true
			}
		}
		want := attackers * addressesEach
		if f == fromOne {
			want = 1
		}
		if n := len(seen) - before; n != want {
			t.Errorf("%s: %d addresses, want %d", f, n, want)
		}
	}
}

// TestAttacks: every attack says what it is, and by what it is seen to have happened.
func TestAttacks(t *testing.T) {
	names := map[string]bool{}
	for _, a := range attacks {
		if names[a.name] || a.title == "" || a.text == "" || a.flood == nil || len(a.least) == 0 {
			t.Errorf("%q lacks something, or is there twice", a.name)
		}
		names[a.name] = true
	}
}

// TestMakeInitials: each packet begins a connection of its own, which a server answers.
func TestMakeInitials(t *testing.T) {
	f := &flooder{parts: 100}
	if err := f.makeInitials(); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, p := range f.packets {
		ids[string(p[6:6+initialID])] = true
	}
	if len(f.packets) != 60 || len(ids) != 60 {
		t.Fatalf("%d packets with %d connection ids, want 60", len(f.packets), len(ids))
	}
	authority, err := lab.NewAuthority("attack")
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := authority.Issue(lab.Request{Names: []string{webHost}})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate.Chain, certificate.Key)
	if err != nil {
		t.Fatal(err)
	}
	server, err := quic.ListenAddr("127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h3"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for _, p := range f.packets[:3] {
		c, err := net.Dial("udp", server.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(p); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		// A ServerHello comes in an Initial packet; a refusal would, too, but in a short one.
		buf := make([]byte, 2048)
		if n, err := c.Read(buf); err != nil || n < initialSize || buf[0]&0xf0 != 0xc0 {
			t.Errorf("the answer has %d bytes (%v)", n, err)
		}
	}
}

// TestClientHello: it is one whole record of a handshake.
func TestClientHello(t *testing.T) {
	hello, err := clientHello()
	if err != nil {
		t.Fatal(err)
	}
	if hello[0] != 22 || hello[5] != 1 || len(hello) != 5+int(hello[3])<<8+int(hello[4]) {
		t.Errorf("%x is no ClientHello", hello[:6])
	}
}
