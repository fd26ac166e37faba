package exchange

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// originOf identifies a request with these field lines, which came over a connection of
// peer, where 10.0.0.0/8 and 2001:db8:1::/48 are trusted.
func originOf(t testing.TB, peer string, lines ...string) *Exchange {
	t.Helper()
	return originBy(t, "", peer, lines...)
}

// originBy is originOf with a header of a name of its own.
func originBy(t testing.TB, named, peer string, lines ...string) *Exchange {
	t.Helper()
	conf, err := config.Empty().Apply(&feedpb.Config{Settings: &feedpb.Settings{TrustedProxies: []string{"10.0.0.0/8", "2001:db8:1::/48"}, ForwardedForHeader: named}})
	if err != nil {
		t.Fatal(err)
	}
	r := new(http1.Request)
	head := "GET / HTTP/1.1\r\nHost: host.test\r\n" + strings.Join(append(lines, ""), "\r\n") + "\r\n"
	if _, err := r.Parse([]byte(head), message.Limits{}); err != nil {
		t.Fatal(err)
	}
	x := &Exchange{worker: &Worker{Rand: rand.NewChaCha8([32]byte{})}, conf: conf, Request: &r.Request, Connection: &Connection{
		Peer: netip.MustParseAddrPort(peer), Client: netip.MustParseAddrPort(peer), Local: netip.MustParseAddrPort("203.0.113.1:80"),
	}}
	x.origin.find(x.Request, x.Connection, &x.conf.Settings)
	x.addFields()
	return x
}

// added returns what a pod gets to know: For, Proto, Host, Port.
func (x *Exchange) told() string {
	var values []string
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port"} {
		for _, a := range x.outgoing.Added {
			if a.Name == name {
				values = append(values, string(a.Value))
			}
		}
	}
	return strings.Join(values, "|")
}

const (
	proxy  = "10.0.0.1:5555"
	nobody = "198.51.100.9:5555"
)

func TestOrigin(t *testing.T) {
	for _, c := range []struct {
		name, peer   string
		lines        []string
		client, told string
	}{
		{"nothing said", proxy, nil, "10.0.0.1", "10.0.0.1|http|host.test|80"},
		{"an untrusted peer is not believed", nobody,
			[]string{"X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: a", "X-Forwarded-Port: 1", "X-Real-IP: 192.0.2.1", "Forwarded: for=192.0.2.1;proto=https"},
			"198.51.100.9", "198.51.100.9|http|host.test|80"},
		{"all fields", proxy,
			[]string{"X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.test:8443", "X-Forwarded-Port: 8443"},
			"192.0.2.1", "192.0.2.1, 10.0.0.1|https|shop.test:8443|8443"},
		{"the port of the scheme", proxy, []string{"X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: HTTPS"},
			"192.0.2.1", "192.0.2.1, 10.0.0.1|https|host.test|443"},
		{"through two trusted proxies", proxy, []string{"X-Forwarded-For: 192.0.2.1, 10.0.0.7"},
			"192.0.2.1", "192.0.2.1, 10.0.0.7, 10.0.0.1|http|host.test|80"},
		{"in several lines", proxy, []string{"X-Forwarded-For: 192.0.2.1", "X-Other: 1", "X-Forwarded-For: 10.0.0.7,10.0.0.8"},
			"192.0.2.1", "192.0.2.1, 10.0.0.7, 10.0.0.8, 10.0.0.1|http|host.test|80"},
		{"what the client made up", proxy, []string{"X-Forwarded-For: 127.0.0.1, 10.0.0.9, 192.0.2.1"},
			"192.0.2.1", "192.0.2.1, 10.0.0.1|http|host.test|80"},
		{"trusted up to the beginning", proxy, []string{"X-Forwarded-For: 10.0.0.3, 10.0.0.2"},
			"10.0.0.3", "10.0.0.3, 10.0.0.2, 10.0.0.1|http|host.test|80"},
		{"not an address in the way", proxy, []string{"X-Forwarded-For: 192.0.2.1, unknown, 10.0.0.2"},
			"10.0.0.2", "10.0.0.2, 10.0.0.1|http|host.test|80"},
		{"not an address at the end", proxy, []string{"X-Forwarded-For: 192.0.2.1, "}, "10.0.0.1", "10.0.0.1|http|host.test|80"},
		{"ports and IPv6", proxy, []string{"X-Forwarded-For: [2001:db8:2::1]:443, 2001:db8:1::5 , 10.0.0.2:1, [2001:db8:1::6]"},
			"2001:db8:2::1", "2001:db8:2::1, 2001:db8:1::5, 10.0.0.2, 2001:db8:1::6, 10.0.0.1|http|host.test|80"},
		{"IPv4-mapped", proxy, []string{"X-Forwarded-For: ::ffff:192.0.2.1"}, "192.0.2.1", "192.0.2.1, 10.0.0.1|http|host.test|80"},
		{"not valid, one by one", proxy,
			[]string{"X-Forwarded-For: 192.0.2.1:99999", "X-Forwarded-Proto: ftp", "X-Forwarded-Host: a b", "X-Forwarded-Port: 0"},
			"10.0.0.1", "10.0.0.1|http|host.test|80"},
		{"the first of several", proxy,
			[]string{"X-Forwarded-Proto: https", "X-Forwarded-Proto: https", "X-Forwarded-Host: a.test", "X-Forwarded-Host: b.test", "X-Forwarded-Port: 1", "X-Forwarded-Port: 2"},
			"10.0.0.1", "10.0.0.1|https|a.test|443"},
		{"lists", proxy, []string{"X-Forwarded-Proto: https, http", "X-Forwarded-Host: shop.test , in.test"}, "10.0.0.1", "10.0.0.1|https|shop.test|443"},
		{"a list without https in front", proxy, []string{"X-Forwarded-Proto: http,https"}, "10.0.0.1", "10.0.0.1|http|host.test|80"},
		{"a WebSocket over TLS", proxy, []string{"X-Forwarded-Proto: wss"}, "10.0.0.1", "10.0.0.1|https|host.test|443"},
		{"a WebSocket in clear text", proxy, []string{"X-Forwarded-Proto: WS"}, "10.0.0.1", "10.0.0.1|http|host.test|80"},
		{"Forwarded of a WebSocket", proxy, []string{"Forwarded: proto=wss"}, "10.0.0.1", "10.0.0.1|https|host.test|443"},
		{"no scheme of ours", proxy, []string{"X-Forwarded-Proto: gopher"}, "10.0.0.1", "10.0.0.1|http|host.test|80"},
		{"WebSockets of nobody", nobody, []string{"X-Forwarded-Proto: wss"}, "198.51.100.9", "198.51.100.9|http|host.test|80"},
		{"X-Real-IP alone", proxy, []string{"X-Real-IP: 192.0.2.1", "X-Forwarded-Proto: https"}, "192.0.2.1", "192.0.2.1, 10.0.0.1|https|host.test|443"},
		{"X-Real-IP beside X-Forwarded-For", proxy, []string{"X-Real-IP: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"}, "192.0.2.2", "192.0.2.2, 10.0.0.1|http|host.test|80"},
		{"Forwarded beside X-Forwarded-For", proxy, []string{"Forwarded: for=192.0.2.1;proto=https", "X-Forwarded-For: 192.0.2.2"}, "192.0.2.2", "192.0.2.2, 10.0.0.1|http|host.test|80"},

		{"Forwarded", proxy, []string{`Forwarded: for=192.0.2.1;proto=https;host="shop.test:8443";by=_x`},
			"192.0.2.1", "192.0.2.1, 10.0.0.1|https|shop.test:8443|8443"},
		{"Forwarded through two proxies", proxy, []string{`Forwarded: For="[2001:db8:2::1]:99";Proto=https; Host=shop.test, for=10.0.0.7;proto=http;host=inner.test`},
			"2001:db8:2::1", "2001:db8:2::1, 10.0.0.7, 10.0.0.1|https|shop.test|443"},
		{"Forwarded in two lines", proxy, []string{"Forwarded: for=192.0.2.1", `Forwarded: for="10.0.0.7:80"`},
			"192.0.2.1", "192.0.2.1, 10.0.0.7, 10.0.0.1|http|host.test|80"},
		{"Forwarded, made up by the client", proxy, []string{"Forwarded: for=127.0.0.1;host=evil.test;proto=https, for=192.0.2.1"},
			"192.0.2.1", "192.0.2.1, 10.0.0.1|http|host.test|80"},
		{"Forwarded, hidden client", proxy, []string{"Forwarded: for=192.0.2.1, for=unknown;proto=https, for=10.0.0.2"},
			"10.0.0.2", "10.0.0.2, 10.0.0.1|https|host.test|443"},
		{"Forwarded, name of its own", proxy, []string{"Forwarded: for=_hidden;proto=https"}, "10.0.0.1", "10.0.0.1|https|host.test|443"},
		{"Forwarded without brackets", proxy, []string{`Forwarded: for="2001:db8:2::1"`}, "10.0.0.1", "10.0.0.1|http|host.test|80"},
		{"Forwarded without quotes", proxy, []string{`Forwarded: for=192.0.2.1:80`}, "10.0.0.1", "10.0.0.1|http|host.test|80"},
		{"Forwarded with a name twice", proxy, []string{`Forwarded: for=192.0.2.1;for=192.0.2.2`}, "10.0.0.1", "10.0.0.1|http|host.test|80"},
		{"Forwarded, a quote left open", proxy, []string{`Forwarded: for=192.0.2.1, for="10.0.0.2, for=10.0.0.3`}, "10.0.0.1", "10.0.0.1|http|host.test|80"},
		{"Forwarded, a comma in quotes", proxy, []string{`Forwarded: for=192.0.2.1;x="a, for=192.0.2.2;\" proto=https"`}, "192.0.2.1", "192.0.2.1, 10.0.0.1|http|host.test|80"},
		{"Forwarded, a broken line before a good one", proxy, []string{"Forwarded: for", "Forwarded: for=10.0.0.7"}, "10.0.0.7", "10.0.0.7, 10.0.0.1|http|host.test|80"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := originOf(t, c.peer, c.lines...)
			if x.Client().String() != c.client || x.told() != c.told {
				t.Errorf("client %s, pods are told %s; want %s, %s", x.Client(), x.told(), c.client, c.told)
			}
		})
	}
}

// TestOriginByName: where a header of another name says who the client is, it alone does, of
// trusted proxies alone, and nobody else's reaches pods.
func TestOriginByName(t *testing.T) {
	for _, c := range []struct {
		name, header, peer string
		lines              []string
		client, told       string
		kept               string // header lines that pods get of it
	}{
		{"trusted", "CF-Connecting-IP", proxy, []string{"cf-connecting-ip: 192.0.2.1", "X-Forwarded-For: 192.0.2.9", "X-Forwarded-Proto: https"},
			"192.0.2.1", "192.0.2.1, 10.0.0.1|https|host.test|443", "cf-connecting-ip: 192.0.2.1"},
		{"IPv6", "CF-Connecting-IP", "[2001:db8:1::9]:5", []string{"CF-Connecting-IP: 2001:db8:2::1"}, "2001:db8:2::1", "2001:db8:2::1, 2001:db8:1::9|http|host.test|80", "CF-Connecting-IP: 2001:db8:2::1"},
		{"untrusted", "CF-Connecting-IP", nobody, []string{"CF-Connecting-IP: 192.0.2.1", "X-Forwarded-For: 192.0.2.9"}, "198.51.100.9", "198.51.100.9|http|host.test|80", ""},
		{"lookalike", "CF-Connecting-IP", proxy, []string{"CF_Connecting_IP: 192.0.2.1", "Cf-Connecting_IP: 192.0.2.2"}, "10.0.0.1", "10.0.0.1|http|host.test|80", ""},
		{"missing", "CF-Connecting-IP", proxy, []string{"X-Forwarded-For: 192.0.2.9", "X-Real-IP: 192.0.2.9", "Forwarded: for=192.0.2.9"}, "10.0.0.1", "10.0.0.1|http|host.test|80", ""},
		{"no address", "CF-Connecting-IP", proxy, []string{"CF-Connecting-IP: 192.0.2.1 x"}, "10.0.0.1", "10.0.0.1|http|host.test|80", "CF-Connecting-IP: 192.0.2.1 x"},
		{"a list", "True-Client-IP", proxy, []string{"True-Client-IP: 192.0.2.9, 192.0.2.1, 10.0.0.5"}, "192.0.2.1", "192.0.2.1, 10.0.0.5, 10.0.0.1|http|host.test|80", "True-Client-IP: 192.0.2.9, 192.0.2.1, 10.0.0.5"},
		{"X-Real-IP alone", "X-Real-IP", proxy, []string{"X-Forwarded-For: 192.0.2.9", "X-Real-IP: 192.0.2.1"}, "192.0.2.1", "192.0.2.1, 10.0.0.1|http|host.test|80", "X-Real-IP: 192.0.2.1"},
		{"Forwarded alone", "Forwarded", proxy, []string{"X-Forwarded-For: 192.0.2.9", "Forwarded: for=192.0.2.1;proto=https"}, "192.0.2.1", "192.0.2.1, 10.0.0.1|https|host.test|443", "Forwarded: for=192.0.2.1;proto=https"},
		{"the usual one", "X-Forwarded-For", proxy, []string{"X-Real-IP: 192.0.2.1"}, "192.0.2.1", "192.0.2.1, 10.0.0.1|http|host.test|80", ""},
	} {
		x := originBy(t, c.header, c.peer, c.lines...)
		var kept []string
		for _, f := range x.Request.Fields {
			if strings.EqualFold(strings.ReplaceAll(string(f.Name), "_", "-"), c.header) && !f.HopByHop {
				kept = append(kept, string(f.Name)+": "+string(f.Value))
			}
		}
		if got := strings.Join(kept, "; "); x.Client().String() != c.client || x.told() != c.told || got != c.kept {
			t.Errorf("%s: client %s, pods are told %s and %q; want %s, %s, %q", c.name, x.Client(), x.told(), got, c.client, c.told, c.kept)
		}
	}
}

// TestOriginIsBounded: a chain of nothing but trusted addresses, which only a trusted proxy
// can send, does not grow without end.
func TestOriginIsBounded(t *testing.T) {
	x := originOf(t, proxy, "X-Forwarded-For: 192.0.2.1"+strings.Repeat(", 10.0.0.2", 1000))
	if len(x.origin.hops) != maxHops || x.Client().String() != "10.0.0.2" {
		t.Errorf("%d hops, client %s", len(x.origin.hops), x.Client())
	}
	x = originOf(t, proxy, "Forwarded: for=192.0.2.1"+strings.Repeat(", for=10.0.0.2", 1000))
	if len(x.origin.hops) > maxHops || x.Client().String() != "10.0.0.2" {
		t.Errorf("Forwarded: %d hops, client %s", len(x.origin.hops), x.Client())
	}
}

// FuzzOrigin: whatever a client says, pods get valid values only, the last of
// X-Forwarded-For is the connection's address, and an untrusted peer's words change nothing.
func FuzzOrigin(f *testing.F) {
	f.Add("X-Forwarded-For", "192.0.2.1, 10.0.0.2")
	f.Add("Forwarded", `for="[2001:db8:2::1]:99";proto=https;host="a:1", for=_x`)
	f.Add("X-Forwarded-Host", "a.test:8080")
	f.Fuzz(func(t *testing.T, name, value string) {
		line := name + ": " + value
		head := "GET / HTTP/1.1\r\nHost: host.test\r\n" + line + "\r\n\r\n"
		if n, err := new(http1.Request).Parse([]byte(head), message.Limits{}); err != nil || n != len(head) {
			return
		}
		if x := originOf(t, nobody, line); x.told() != "198.51.100.9|http|host.test|80" {
			t.Fatalf("an untrusted peer is believed: %s", x.told())
		}
		x := originOf(t, proxy, line)
		told := strings.Split(x.told(), "|")
		hops := strings.Split(told[0], ", ")
		if hops[len(hops)-1] != "10.0.0.1" || hops[0] != x.Client().String() {
			t.Fatalf("X-Forwarded-For %q, client %s", told[0], x.Client())
		}
		for i, hop := range hops {
			a, err := netip.ParseAddr(hop)
			if err != nil || i > 0 && !x.conf.Settings.TrustedProxies.Contain(a) {
				t.Fatalf("X-Forwarded-For %q", told[0])
			}
		}
		if told[1] != "http" && told[1] != "https" || !message.IsAuthority([]byte(told[2])) || len(told) != 4 {
			t.Fatalf("pods are told %s", x.told())
		}
	})
}

// TestPortOfBalancer: a PROXY header that names port 443 says that the client speaks https; over
// the proxy's own TLS the port is the one that clients connect to.
func TestPortOfBalancer(t *testing.T) {
	for _, c := range []struct {
		port      uint16
		announced bool
		tls       bool
		public    uint32
		secure    bool
		want      uint16
	}{
		{443, true, false, 0, true, 443}, {80, true, false, 0, false, 80}, {443, false, false, 0, false, 443},
		{8443, false, true, 443, true, 443}, {8443, false, true, 0, true, 8443}, {8443, true, true, 443, true, 8443}, {80, false, false, 443, false, 80},
	} {
		conf, err := config.Empty().Apply(&feedpb.Config{Settings: &feedpb.Settings{PublicHttpsPort: c.public, RedirectPort: 8443}})
		if err != nil {
			t.Fatal(err)
		}
		x := &Exchange{conf: conf, Request: new(message.Request), Connection: &Connection{
			Client: netip.MustParseAddrPort(nobody), Local: netip.AddrPortFrom(netip.MustParseAddr("203.0.113.1"), c.port), Announced: c.announced}}
		if c.tls {
			x.Connection.TLS = new(TLS)
		}
		x.origin.find(x.Request, x.Connection, &x.conf.Settings)
		if x.origin.secure != c.secure || x.origin.port != c.want {
			t.Errorf("%+v: secure %t, port %d", c, x.origin.secure, x.origin.port)
		}
		if want := uint16(max(c.public, 1)); c.public != 0 && conf.Settings.RedirectPort != want {
			t.Errorf("%+v: redirects go to %d", c, conf.Settings.RedirectPort)
		}
	}
}
