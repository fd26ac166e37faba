//go:build linux

package e2e

import (
	"net/http"
	"testing"

	"github.com/kerngate/kerngate/test/lab"
)

// Each request reaches the service that the Ingress API's rules name, over IPv4 and IPv6.
func TestRouting(t *testing.T) {
	apps := []app{{"root", 1}, {"foo", 1}, {"foobar", 1}, {"exact", 1}, {"wild", 1}, {"sub", 1}, {"anyhost", 1}}
	s := newSite(t, 1, apps,
		lab.Path{Host: "a.example.com", Path: "/", Service: "root"},
		lab.Path{Host: "a.example.com", Path: "/foo", Service: "foo"},
		lab.Path{Host: "a.example.com", Path: "/foo/bar/", Service: "foobar"},
		lab.Path{Host: "a.example.com", Path: "/foo", Type: "Exact", Service: "exact"},
		lab.Path{Host: "a.example.com", Path: "/only/exact", Type: "Exact", Service: "exact"},
		lab.Path{Host: "a.example.com", Path: "/impl", Type: "ImplementationSpecific", Service: "sub"},
		lab.Path{Host: "*.example.com", Path: "/", Service: "wild"},
		lab.Path{Host: "b.example.com", Path: "/sub", Service: "sub", Port: "http"},
		lab.Path{Path: "/any", Service: "anyhost"},
	)
	for _, tc := range []struct {
		url     string
		service string // "": 404 no_route
	}{
		{"http://a.example.com/", "root"},
		{"http://a.example.com/fo", "root"},
		{"http://a.example.com/foo", "exact"},
		{"http://a.example.com/foo/", "foo"},
		{"http://a.example.com/foo/x", "foo"},
		{"http://a.example.com/foobar", "root"}, // whole elements only
		{"http://a.example.com/foo/bar", "foobar"},
		{"http://a.example.com/foo/bar/baz?q=/x", "foobar"},
		{"http://a.example.com/foo/barbaz", "foo"},
		{"http://a.example.com/Foo", "root"},  // paths are case-sensitive
		{"http://A.Example.COM/foo/x", "foo"}, // hosts are not
		{"http://a.example.com:80/foo/x", "foo"},
		{"http://a.example.com:8443/foo/x", "foo"},
		{"http://a.example.com/only/exact", "exact"},
		{"http://a.example.com/only/exact/", "root"},
		{"http://a.example.com/impl/x", "sub"},
		{"http://c.example.com/", "wild"},
		{"http://c.example.com/foo", "wild"},
		{"http://c.d.example.com/", ""}, // a wildcard is one label
		{"http://example.com/", ""},
		{"http://b.example.com/sub", "sub"},
		{"http://b.example.com/other", ""}, // a known host does not fall back to another
		{"http://unknown.test/any", "anyhost"},
		{"http://unknown.test/any/x", "anyhost"},
		{"http://unknown.test/", ""},
		{"http://203.0.113.10/any", "anyhost"},
		{"http://[2001:db8:0:2::10]/any", "anyhost"},
		{"http://a.example.com/foo/../foo/bar", "foobar"},
		{"http://a.example.com//foo//bar", "foobar"},
		{"http://a.example.com/%66oo/x", "foo"},
	} {
		for _, vip := range s.vips() {
			r, err := s.doVia(vip, http.MethodGet, tc.url, nil)
			switch {
			case err != nil:
				t.Errorf("GET %s via %s: %v", tc.url, vip, err)
			case tc.service == "" && (r.Status != http.StatusNotFound || r.reason() != "no_route"):
				t.Errorf("GET %s via %s: status %d %q, want 404 no_route", tc.url, vip, r.Status, r.Body)
			case tc.service != "" && (r.Status != http.StatusOK || r.Pod.Service != tc.service):
				t.Errorf("GET %s via %s: status %d from service %q, want %s; %.100s", tc.url, vip, r.Status, r.Pod.Service, tc.service, r.Body)
			}
		}
	}
}

// The default backend of an Ingress with rules answers what they do not match on its hosts;
// that of an Ingress without rules answers every host that nobody else publishes.
func TestDefaultBackend(t *testing.T) {
	s := prepareSite(t, 1, []app{{"web", 1}, {"fallback", 1}, {"catchall", 1}})
	ingress := lab.Ingress("site", lab.Path{Host: "a.example.com", Path: "/web", Service: "web"})
	ingress["spec"].(lab.Object)["defaultBackend"] = lab.ServiceBackend("fallback", nil)
	must(t, s.Manifests.Write("ingress.yaml", ingress))
	s.start()
	want := map[string]string{
		"http://a.example.com/web":   "web",
		"http://a.example.com/other": "fallback",
		"http://unknown.test/web":    "",
	}
	check := func() {
		t.Helper()
		for url, service := range want {
			if r := s.get(url); r.Pod.Service != service || service == "" && r.Status != http.StatusNotFound {
				t.Errorf("GET %s: status %d from service %q, want %q", url, r.Status, r.Pod.Service, service)
			}
		}
	}
	check()
	catchall := lab.Ingress("catchall")
	catchall["spec"] = lab.Object{"ingressClassName": "kerngate", "defaultBackend": lab.ServiceBackend("catchall", "http")}
	must(t, s.Manifests.Write("catchall-ingress.yaml", catchall))
	s.eventually("http://unknown.test/web", "the Ingress without rules", func(r *reply) bool { return r.Status == http.StatusOK })
	want["http://unknown.test/web"] = "catchall"
	check()
}

// What a pod sees of a request, and of the client who sent it.
func TestForwardedHeaders(t *testing.T) {
	s := newSite(t, 1, []app{{"web", 1}}, lab.Path{Host: "host.example.com", Service: "web"})
	for _, vip := range s.vips() {
		r, err := s.doVia(vip, http.MethodGet, "http://host.example.com/a/b?c=d&e", nil,
			"X-Forwarded-For: 198.51.100.99", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.test",
			"X-Custom: kept", "Connection: X-Hop", "X-Hop: dropped", "Keep-Alive: timeout=5", "TE: trailers", "Proxy-Connection: keep-alive")
		must(t, err)
		client := s.lab.Client.IPv4.String()
		if vip.Is6() {
			client = s.lab.Client.IPv6.String()
		}
		for name, want := range map[string]string{
			"X-Forwarded-For":   client, // the client is no trusted proxy: what it claims is replaced
			"X-Forwarded-Proto": "http",
			"X-Forwarded-Host":  "host.example.com",
			"X-Forwarded-Port":  "80",
			"X-Custom":          "kept",
			"X-Hop":             "",
			"Keep-Alive":        "",
			"Proxy-Connection":  "",
		} {
			if got := r.Pod.Headers.Get(name); got != want {
				t.Errorf("via %s: %s is %q at the pod, want %q", vip, name, got, want)
			}
		}
		if id := r.Pod.Headers.Get("X-Request-Id"); len(id) < 16 {
			t.Errorf("via %s: X-Request-ID is %q at the pod, want one of at least 16 characters", vip, id)
		}
		if r.Pod.Host != "host.example.com" || r.Pod.URI != "/a/b?c=d&e" || r.Pod.Method != "GET" || r.Pod.Proto != "HTTP/1.1" {
			t.Errorf("via %s: the pod saw %s %s %s, host %s", vip, r.Pod.Method, r.Pod.URI, r.Pod.Proto, r.Pod.Host)
		}
	}
}
