package explain

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/look/status"
)

func target(t *testing.T, url string) Target {
	t.Helper()
	tg, err := ParseTarget(url)
	if err != nil {
		t.Fatal(err)
	}
	return tg
}

// node is a node that serves host.example.com from two pods.
func node() Input {
	return Input{
		Maps: &Maps{
			ABI: 1, Serving: 5,
			Listeners: []Listener{
				{Address: netip.MustParseAddrPort("192.0.2.10:80"), Protocol: "TCP", Mode: "L7"},
				{Address: netip.MustParseAddrPort("[2001:db8::10]:80"), Protocol: "TCP", Mode: "L7"},
			},
			Generations: []Generation{
				{Number: 4, State: "draining", Workers: []Worker{{ID: 0, Connections: 1, Sockets: 2}}},
				{Number: 5, State: "serving", Workers: []Worker{{ID: 64, Connections: 12, Sockets: 2}, {ID: 65, Connections: 3, Sockets: 2}}},
			},
			Services: []Service{
				{ID: 1, Name: "shop/info:http", Algorithm: "p2c", Block: Block{Offset: 8, Count: 2, Generation: 3}, Backends: []uint32{1, 2}},
				{ID: 2, Name: "shop/empty:80", Algorithm: "p2c", Block: Block{Generation: 1}},
				{ID: 3, Name: "shop/heavy:80", Algorithm: "round-robin", Block: Block{Offset: 20, Count: 3, Generation: 1}, Backends: []uint32{2, 2, 3}},
			},
			Backends: []Backend{
				{ID: 1, Address: netip.MustParseAddrPort("10.0.1.5:8080"), Protocol: "TCP", Local: true, Weight: 1, InFlight: 2, Requests: 100},
				{ID: 2, Address: netip.MustParseAddrPort("10.0.2.7:8080"), Protocol: "TCP", Weight: 1, Requests: 90, Failures: 1},
				{ID: 3, Address: netip.MustParseAddrPort("10.0.2.8:8080"), Protocol: "TCP", Weight: 1, Draining: true},
			},
			Deny:  []Prefix{{netip.MustParsePrefix("198.51.100.0/24"), "config"}, {netip.MustParsePrefix("2001:db8:bad::/48"), "operator"}},
			Allow: []Prefix{{netip.MustParsePrefix("198.51.100.7/32"), "operator"}},
		},
		Routes: &status.Routes{Hosts: []status.Host{
			{Name: "", Routes: []status.Route{{Path: "/everywhere", Match: "Exact", Service: "shop/heavy:80", Source: "shop/any"}}},
			{Name: "*.example.com", Routes: []status.Route{{Path: "/", Match: "Prefix", Service: "shop/heavy:80", Source: "shop/wild"}}},
			{Name: "host.example.com", Routes: []status.Route{
				{Path: "/info/v2", Match: "Prefix", Service: "shop/empty:80", Source: "shop/second"},
				{Path: "/info", Match: "Exact", Service: "", Source: "shop/broken"},
				{Path: "/info", Match: "Prefix", Service: "shop/info:http", Source: "shop/main"},
			}},
		}},
		Services: &status.Services{Services: []status.Service{{Name: "shop/info:http", Backends: []status.Backend{
			{Address: "10.0.1.5:8080", Pod: "shop/info-a", Node: "n1"}, {Address: "10.0.2.7:8080", Pod: "shop/info-b", Node: "n2"}}}}},
	}
}

func explain(t *testing.T, url string, change func(*Input)) Explanation {
	t.Helper()
	in := node()
	in.Target = target(t, url)
	if change != nil {
		change(&in)
	}
	return Explain(in)
}

func step(t *testing.T, e Explanation, name string) Step {
	t.Helper()
	for _, s := range e.Steps {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no step %q in %+v", name, e.Steps)
	return Step{}
}

func candidate(t *testing.T, s Step, rule string) Candidate {
	t.Helper()
	for _, c := range s.Considered {
		if c.Rule == rule {
			return c
		}
	}
	t.Fatalf("step %s did not consider %q: %+v", s.Name, rule, s.Considered)
	return Candidate{}
}

func TestForwarded(t *testing.T) {
	e := explain(t, "http://HOST.example.com/info/x?y=1", nil)
	if e.Answer.Reason != "forwarded" || e.Answer.Status != 0 || e.Service != "shop/info:http" || e.Object != "Ingress shop/main" {
		t.Errorf("answer %+v, service %q, object %q", e.Answer, e.Service, e.Object)
	}
	if len(e.Backends) != 2 || e.Backends[0].Pod != "shop/info-a" || e.Backends[1].Node != "n2" || e.Backends[0].InFlight != 2 {
		t.Errorf("backends %+v", e.Backends)
	}
	if s := step(t, e, "listener"); s.Result != OK || !strings.Contains(s.Summary, "192.0.2.10:80") {
		t.Errorf("listener step %+v", s)
	}
	if s := step(t, e, "worker"); !strings.Contains(s.Summary, "generation 5") || len(s.Considered) != 2 {
		t.Errorf("worker step %+v", s)
	}
	if c := candidate(t, step(t, e, "host"), "*.example.com"); c.Chosen || !strings.Contains(c.Why, "more specific") {
		t.Errorf("the wildcard: %+v", c)
	}
	paths := step(t, e, "path")
	if c := candidate(t, paths, "Exact /info"); c.Chosen || c.Why != "another path" {
		t.Errorf("the exact path: %+v", c)
	}
	if c := candidate(t, paths, "Prefix /info"); !c.Chosen {
		t.Errorf("the chosen path: %+v", c)
	}
	if s := step(t, e, "service"); !strings.Contains(s.Summary, "id 1") || !strings.Contains(s.Summary, "slots 8 to 9") || !strings.Contains(s.Summary, "publication 3") {
		t.Errorf("service step %+v", s)
	}
}

// TestAnswers has one line for each way in which a request can end.
func TestAnswers(t *testing.T) {
	noProxy := func(in *Input) { in.Maps.Serving = 0 }
	noSockets := func(in *Input) {
		for i := range in.Maps.Generations[1].Workers {
			in.Maps.Generations[1].Workers[i].Sockets = 0
		}
	}
	for _, c := range []struct {
		name, url    string
		change       func(*Input)
		step, reason string
		status       int
		next         string
	}{
		{"exact path whose service port is missing", "host.example.com/info", nil, "service", "no_service", 503, "kerngatectl problems"},
		{"service without pods", "host.example.com/info/v2/x", nil, "backends", "no_endpoint", 503, "EndpointSlices"},
		{"host known, path not", "host.example.com/other", nil, "path", "no_route", 404, "Prefix /info"},
		{"the named host wins, and its 404 stands", "host.example.com/everywhere", nil, "path", "no_route", 404, ""},
		{"unknown host, no rules without one", "hots.example.org/", func(in *Input) { in.Routes.Hosts = in.Routes.Hosts[1:] }, "host", "no_route", 404, "host.example.com"},
		{"unknown host", "hots.example.org/", nil, "path", "no_route", 404, "host.example.com"},
		{"unpublished port", "host.example.com:8080/info", nil, "listener", "kg_lookup:not_ours", 0, "published ports: 80"},
		{"unpublished address", "http://192.0.2.99/everywhere", nil, "listener", "kg_lookup:not_ours", 0, "ingress addresses"},
		{"no proxy", "host.example.com/info/x", noProxy, "worker", "kg_lookup:no_proxy", 0, "start kerngate-proxy"},
		{"no socket", "host.example.com/info/x", noSockets, "worker", "kg_lookup:no_worker", 0, "look at its log"},
		{"denied source", "host.example.com/info/x", func(in *Input) { in.Target.From = netip.MustParseAddr("198.51.100.9") }, "filter", "kg_xdp:denied", 0, "198.51.100.0/24"},
		{"service that the maps do not have", "host.example.com/info/x", func(in *Input) { in.Maps.Services = nil }, "service", "no_service", 503, "last apply"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := explain(t, c.url, c.change)
			if s := step(t, e, c.step); s.Result != Stop {
				t.Errorf("step %s did not stop: %+v", c.step, s)
			}
			if e.Answer.Reason != c.reason || e.Answer.Status != c.status {
				t.Errorf("answer %+v, want %s %d", e.Answer, c.reason, c.status)
			}
			if !strings.Contains(e.Answer.Next, c.next) {
				t.Errorf("next %q does not mention %q", e.Answer.Next, c.next)
			}
		})
	}
}

func TestOtherWaysToBeForwarded(t *testing.T) {
	for _, c := range []struct{ name, url, service, why string }{
		{"wildcard", "a.example.com/x", "shop/heavy:80", "wildcard"},
		{"any host", "unknown.example.org/everywhere", "shop/heavy:80", "rules without a host"},
		{"an ingress address as host", "192.0.2.10/everywhere", "shop/heavy:80", "rules without a host"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := explain(t, c.url, nil)
			if e.Answer.Reason != "forwarded" || e.Service != c.service {
				t.Errorf("answer %+v, service %q", e.Answer, e.Service)
			}
		})
	}
	t.Run("default backend", func(t *testing.T) {
		e := explain(t, "nowhere.test/", func(in *Input) { in.Routes.Default = "shop/info:http" })
		if e.Answer.Reason != "forwarded" || e.Service != "shop/info:http" || !strings.Contains(step(t, e, "path").Summary, "default backend") {
			t.Errorf("%+v", e)
		}
	})
	t.Run("allowed within a denied prefix", func(t *testing.T) {
		e := explain(t, "host.example.com/info/x", func(in *Input) { in.Target.From = netip.MustParseAddr("198.51.100.7") })
		if e.Answer.Reason != "forwarded" || !strings.Contains(step(t, e, "filter").Summary, "which wins") {
			t.Errorf("%+v", e.Answer)
		}
	})
	t.Run("repeated slots and draining pods", func(t *testing.T) {
		e := explain(t, "a.example.com/", nil)
		if len(e.Backends) != 2 || !strings.Contains(e.Backends[0].Why, "2 slots") || !strings.Contains(e.Backends[1].Why, "terminating") {
			t.Errorf("%+v", e.Backends)
		}
		if !strings.Contains(step(t, e, "backends").Summary, "in its turn") {
			t.Errorf("%+v", step(t, e, "backends"))
		}
	})
	t.Run("hung workers", func(t *testing.T) {
		e := explain(t, "host.example.com/info/x", func(in *Input) {
			in.Maps.Generations[1].Workers[0].Hung = true
			in.Maps.Generations[1].Workers[0].BusyMS = 900
		})
		c := candidate(t, step(t, e, "worker"), "worker 64")
		if c.Chosen || !strings.Contains(c.Why, "900 ms") || e.Answer.Reason != "forwarded" {
			t.Errorf("%+v, answer %+v", c, e.Answer)
		}
	})
}

func TestWhyPathsDoNotMatch(t *testing.T) {
	routes := &status.Routes{Hosts: []status.Host{{Name: "h.test", Routes: []status.Route{
		{Path: "/foo", Match: "Prefix"}, {Path: "/bar", Match: "Exact"}, {Path: "/Case", Match: "Exact"}}}}}
	for _, c := range []struct{ url, rule, why string }{
		{"h.test/foobar/x", "Prefix /foo", "/foo does not hold /foobar"},
		{"h.test/bar/", "Exact /bar", "trailing /"},
		{"h.test/case", "Exact /Case", "their case"},
		{"h.test/zzz", "Prefix /foo", "another path"},
	} {
		e := explain(t, c.url, func(in *Input) { in.Routes = routes })
		if got := candidate(t, step(t, e, "path"), c.rule); !strings.Contains(got.Why, c.why) {
			t.Errorf("%s against %s: %q, want %q", c.url, c.rule, got.Why, c.why)
		}
	}
	e := explain(t, "a.b.example.com/", func(in *Input) { in.Routes.Hosts = in.Routes.Hosts[1:2] })
	if got := e.Answer.Next; !strings.Contains(got, "*.example.com") {
		t.Errorf("two labels under a wildcard: next %q", got)
	}
	if c := candidate(t, step(t, e, "host"), "*.example.com"); c.Chosen || !strings.Contains(c.Why, "exactly one label") {
		t.Errorf("two labels under a wildcard: %+v", c)
	}
}

func TestHalfOfTheInput(t *testing.T) {
	e := explain(t, "host.example.com/info/x", func(in *Input) { in.Maps, in.NoMaps = nil, "no maps: run as root" })
	if e.Answer.Reason != "unknown" || !strings.Contains(e.Answer.Next, "run as root") || e.Service != "shop/info:http" {
		t.Errorf("without maps: %+v, service %q", e.Answer, e.Service)
	}
	e = explain(t, "host.example.com/info/x", func(in *Input) {
		in.Routes, in.Services, in.NoAgent = nil, nil, "agent is down: start it"
	})
	if e.Answer.Reason != "unknown" || !strings.Contains(e.Answer.Next, "start it") || step(t, e, "worker").Result != OK {
		t.Errorf("without agent: %+v", e.Answer)
	}
}

func TestParseTarget(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"example.com", "http example.com 80 /"},
		{"https://Example.COM./A%2fb//c", "https example.com 443 /A/b/c"},
		{"http://[2001:db8::1]:8080/x", "http 2001:db8::1 8080 /x"},
		{"example.com:81/a//b?q", "http example.com 81 /a/b"},
	} {
		tg := target(t, c.in)
		if fmt.Sprint(tg.Scheme, " ", tg.Host, " ", tg.Port, " ", tg.Path) != c.want {
			t.Errorf("%s gave %+v, want %s", c.in, tg, c.want)
		}
	}
	for _, c := range []struct{ in, says string }{
		{"ftp://example.com/", "not http or https"},
		{"http:///path", "names no host"},
		{"http://h:0/", "1-65535"},
		{"http://h/%zz", "URL"},
		{"http://h/../x", "400"},
		{"http://h/a%2f../x", "readers differ"},
		{"http://h/a%0a", "control"},
		{`http://h/a\b?c`, "readers differ"},
	} {
		if _, err := ParseTarget(c.in); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.in, err, c.says)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"host.example.com", "hosts.example.com", "", "something.entirely.different.test"}
	if got := strings.Join(Nearest("hots.example.com", names, 3), " "); got != "hosts.example.com host.example.com" {
		t.Errorf("got %q", got)
	}
}

// withTLS gives hosts certificates and asks clients for theirs.
func withTLS(in *Input) {
	in.Maps.Listeners = append(in.Maps.Listeners, Listener{Address: netip.MustParseAddrPort("192.0.2.10:443"), Protocol: "TCP", Mode: "L7"})
	in.Routes.DefaultCertificate, in.Routes.Authorities = "shop/fallback", []string{"shop/ca"}
	in.Routes.Hosts[1].TLS = &status.TLS{Passthrough: "shop/heavy:80", Source: "shop/wild"}
	in.Routes.Hosts[2].TLS = &status.TLS{Certificates: []string{"shop/ecdsa", "shop/rsa"}, Source: "shop/main",
		Client: &status.ClientAuth{Mode: "optional", Authority: "shop/ca", Depth: 2, ErrorPage: "https://x.example/"}}
	in.Routes.Hosts[2].Routes[2].RedirectHTTPS = true
	in.Certificates = &status.Certificates{Certificates: []status.Certificate{
		{ID: "shop/ecdsa", Type: "ECDSA P-256", Names: []string{"host.example.com"}}, {ID: "shop/fallback", Type: "RSA 2048", Names: []string{"*.example.com"}},
	}}
}

func TestTLS(t *testing.T) {
	e := explain(t, "https://host.example.com/info/x", withTLS)
	tls := step(t, e, "tls")
	if !strings.Contains(tls.Summary, "certificate of Secret shop/ecdsa, for host host.example.com of Ingress shop/main") || len(tls.Considered) != 2 ||
		!tls.Considered[0].Chosen || !strings.Contains(tls.Considered[0].Why, "ECDSA P-256 for host.example.com until") || !strings.Contains(tls.Considered[1].Why, "not there") {
		t.Errorf("%+v", tls)
	}
	if c := step(t, e, "client"); c.Result != OK || !strings.Contains(c.Summary, "clients may show a certificate, which must be valid, signed by shop/ca at depth 2; else a redirect to https://x.example/") {
		t.Errorf("%+v", c)
	}
	if e.Answer.Reason != reasonForwarded || e.Service != "shop/info:http" {
		t.Errorf("%+v", e.Answer)
	}

	e = explain(t, "https://host.example.com/info/x", func(in *Input) { withTLS(in); in.Routes.Authorities = nil })
	if e.Answer.Reason != reasonClientAuth || e.Answer.Status != 400 || !strings.Contains(step(t, e, "client").Summary, "every client is refused") {
		t.Errorf("without the authority: %+v", e.Answer)
	}

	e = explain(t, "https://other.example.com/x", withTLS)
	if e.Answer.Reason != reasonForwarded || e.Service != "shop/heavy:80" || e.Object != "Ingress shop/wild" || !strings.Contains(step(t, e, "tls").Summary, "still encrypted") {
		t.Errorf("passed through: %+v", e)
	}

	e = explain(t, "https://nobody.example/everywhere", withTLS)
	if !strings.Contains(step(t, e, "tls").Summary, "the default certificate shop/fallback, RSA 2048 for *.example.com") {
		t.Errorf("default: %+v", step(t, e, "tls"))
	}
	e = explain(t, "https://nobody.example/everywhere", func(in *Input) { withTLS(in); in.Routes.DefaultCertificate = "" })
	if !strings.Contains(step(t, e, "tls").Summary, "has signed itself") {
		t.Errorf("none: %+v", step(t, e, "tls"))
	}
	e = explain(t, "https://host.example.com/info/x", func(in *Input) { withTLS(in); in.Certificates, in.NoAgent = nil, "the agent is old" })
	if !strings.Contains(step(t, e, "tls").Considered[0].Why, "not known: the agent is old") {
		t.Errorf("half an agent: %+v", step(t, e, "tls"))
	}

	e = explain(t, "http://host.example.com/info/x", withTLS)
	if e.Answer.Reason != reasonRedirect || e.Answer.Status != 308 || !strings.Contains(e.Answer.Summary, "https://host.example.com/info/x") {
		t.Errorf("clear text: %+v", e.Answer)
	}
	if strings.Contains(e.Answer.Next, "ssl-redirect") { // has no effect where clients must show a certificate
		t.Errorf("clear text of a host with a client policy: %+v", e.Answer)
	}
	e = explain(t, "http://host.example.com/info/x", func(in *Input) { withTLS(in); in.Routes.Hosts[2].TLS.Client = nil })
	if !strings.Contains(e.Answer.Next, "ssl-redirect") {
		t.Errorf("clear text: %+v", e.Answer)
	}
}
