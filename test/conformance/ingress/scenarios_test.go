//go:build linux

package ingress

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestDefaultBackend is the feature "Default backend": an Ingress with no rules sends all
// traffic to the single default backend.
func TestDefaultBackend(t *testing.T) {
	c := newCluster(t)
	c.deploy("echo-service", 1)
	c.apply("default-backend", `defaultBackend: {service: {name: echo-service, port: {number: 8080}}}`)
	c.untilExposed("default-backend")
	for _, example := range []struct{ method, host, path string }{
		{"GET", "my-host", ""},
		{"GET", "my-host", "sub-path"},
		{"POST", "some-host", ""},
		{"PUT", "", "resource"},
		{"DELETE", "some-host", "resource"},
		{"PATCH", "my-host", "resource"},
	} {
		t.Run(example.method+" "+example.host+" "+example.path, func(t *testing.T) {
			r := c.want(t, example.method, "http://"+example.host+"/"+example.path, http.StatusOK, "echo-service")
			if r.Proto != "HTTP/1.1" || r.Request.Proto != "HTTP/1.1" {
				t.Errorf("response by %s, request by %s, want HTTP/1.1", r.Proto, r.Request.Proto)
			}
			for _, field := range []string{"Content-Length", "Content-Type", "Date", "Server"} {
				if r.Header.Get(field) == "" {
					t.Errorf("the response has no %s: %v", field, r.Header)
				}
			}
			if r.Request.Method != example.method || r.Request.Path != "/"+example.path {
				t.Errorf("the pod got %s %s", r.Request.Method, r.Request.Path)
			}
			if agent := r.Request.Headers.Get("User-Agent"); agent != "Go-http-client/1.1" {
				t.Errorf("the pod got User-Agent %q", agent)
			}
		})
	}
}

// TestHostRules is the feature "Host rules".
func TestHostRules(t *testing.T) {
	c := newCluster(t)
	c.secret("conformance-tls", "foo.bar.com")
	c.deploy("wildcard-foo-com", 1)
	c.deploy("foo-bar-com", 1)
	c.apply("host-rules", `
tls:
- {hosts: [foo.bar.com], secretName: conformance-tls}
rules:
- host: "*.foo.com"
  http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: wildcard-foo-com, port: {number: 8080}}}}]}
- host: foo.bar.com
  http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: foo-bar-com, port: {name: http}}}}]}`)
	c.untilExposed("host-rules")
	for _, scenario := range []struct {
		name, url string
		status    int
		service   string
	}{
		{"send TLS traffic to the matching backend service", "https://foo.bar.com", 200, "foo-bar-com"},
		{"send traffic to the matching backend service", "http://foo.bar.com", 200, "foo-bar-com"},
		{"not route traffic when hostname does not match", "http://subdomain.bar.com", 404, ""},
		{"wildcard: send traffic to the matching backend service", "http://bar.foo.com", 200, "wildcard-foo-com"},
		{"wildcard: not route traffic matching on more than a single dns label", "http://baz.bar.foo.com", 404, ""},
		{"wildcard: not route traffic matching no dns label", "http://foo.com", 404, ""},
	} {
		t.Run(scenario.name, func(t *testing.T) {
			r := c.want(t, "GET", scenario.url, scenario.status, scenario.service)
			_, host, _ := strings.Cut(scenario.url, "://")
			if scenario.status == 200 && r.Request.Host != host {
				t.Errorf("the pod got host %q, want %q", r.Request.Host, host)
			}
			// The client verifies the chain and that it is for the host; see send.
			if tls := strings.HasPrefix(scenario.url, "https:"); (r.TLS != nil) != tls {
				t.Errorf("TLS %v, want %v", r.TLS != nil, tls)
			}
		})
	}
}

// TestIngressClass is the feature "Ingress class": an Ingress of a class that is none of
// ours gets no address. One of ours that was made after it does, which shows that the
// agent has seen both.
func TestIngressClass(t *testing.T) {
	c := newCluster(t)
	c.deploy("ingress-class-prefix", 1)
	const rules = `
rules:
- host: %HOST%
  http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: ingress-class-prefix, port: {number: 8080}}}}]}`
	c.apply("test-ingress-class", "ingressClassName: some-invalid-class-name"+strings.ReplaceAll(rules, "%HOST%", "ingress-class"))
	c.apply("witness", strings.ReplaceAll(rules, "%HOST%", "witness"))
	c.untilExposed("witness")
	c.want(t, "GET", "http://witness/", http.StatusOK, "ingress-class-prefix")
	for range 10 {
		object, err := c.client.NetworkingV1().Ingresses(c.namespace).Get(t.Context(), "test-ingress-class", get)
		must(t, err)
		if len(object.Status.LoadBalancer.Ingress) > 0 {
			t.Fatalf("the status shows %+v", object.Status.LoadBalancer.Ingress)
		}
		time.Sleep(200 * time.Millisecond)
	}
	c.want(t, "GET", "http://ingress-class/", http.StatusNotFound, "")
}

// TestLoadBalancing is the feature "Load Balancing": 100 requests reach all of 10 pods.
func TestLoadBalancing(t *testing.T) {
	c := newCluster(t)
	c.deploy("echo-service", 1)
	c.apply("load-balancing", `defaultBackend: {service: {name: echo-service, port: {number: 8080}}}`)
	c.untilExposed("load-balancing")
	c.scale("echo-service", 1, 10)
	// The deployment counts as scaled when its pods are ready; the node hears of that
	// a moment later.
	deadline := time.Now().Add(30 * time.Second)
	for {
		pods := map[string]bool{}
		for range 100 {
			pods[c.want(t, "GET", "http://load-balancing", http.StatusOK, "echo-service").Request.Pod] = true
		}
		if len(pods) == 10 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("100 requests reached %d of 10 pods: %v", len(pods), pods)
		}
	}
}

// TestPathRules is the feature "Path rules".
func TestPathRules(t *testing.T) {
	c := newCluster(t)
	for _, service := range []string{"foo-exact", "foo-prefix", "aaa-slash-bbb-prefix", "aaa-prefix", "aaa-slash-bbb-slash-prefix", "foo-slash-exact"} {
		c.deploy(service, 1)
	}
	c.apply("path-rules", `
rules:
- host: exact-path-rules
  http: {paths: [{path: /foo, pathType: Exact, backend: {service: {name: foo-exact, port: {number: 8080}}}}]}
- host: prefix-path-rules
  http:
    paths:
    - {path: /foo, pathType: Prefix, backend: {service: {name: foo-prefix, port: {number: 8080}}}}
    - {path: /aaa/bbb, pathType: Prefix, backend: {service: {name: aaa-slash-bbb-prefix, port: {number: 8080}}}}
    - {path: /aaa, pathType: Prefix, backend: {service: {name: aaa-prefix, port: {number: 8080}}}}
- host: mixed-path-rules
  http:
    paths:
    - {path: /foo, pathType: Prefix, backend: {service: {name: foo-prefix, port: {number: 8080}}}}
    - {path: /foo, pathType: Exact, backend: {service: {name: foo-exact, port: {number: 8080}}}}
- host: trailing-slash-path-rules
  http:
    paths:
    - {path: /aaa/bbb/, pathType: Prefix, backend: {service: {name: aaa-slash-bbb-slash-prefix, port: {number: 8080}}}}
    - {path: /foo/, pathType: Exact, backend: {service: {name: foo-slash-exact, port: {number: 8080}}}}`)
	c.untilExposed("path-rules")
	for _, scenario := range []struct {
		name, url string
		status    int
		service   string
	}{
		{"exact /foo matches /foo", "exact-path-rules/foo", 200, "foo-exact"},
		{"exact /foo does not match /foo/", "exact-path-rules/foo/", 404, ""},
		{"exact is case sensitive", "exact-path-rules/FOO", 404, ""},
		{"exact does not match another label", "exact-path-rules/bar", 404, ""},
		{"prefix /foo matches /foo", "prefix-path-rules/foo", 200, "foo-prefix"},
		{"prefix /foo matches /foo/", "prefix-path-rules/foo/", 200, "foo-prefix"},
		{"prefix is case sensitive", "prefix-path-rules/FOO", 404, ""},
		{"the longest prefix matches", "prefix-path-rules/aaa/bbb", 200, "aaa-slash-bbb-prefix"},
		{"the longest prefix matches subpaths", "prefix-path-rules/aaa/bbb/ccc", 200, "aaa-slash-bbb-prefix"},
		{"prefix /aaa matches /aaa/ccc", "prefix-path-rules/aaa/ccc", 200, "aaa-prefix"},
		{"prefix /aaa does not match /aaaccc", "prefix-path-rules/aaaccc", 404, ""},
		{"prefix ignores the request's trailing slash", "prefix-path-rules/foo/", 200, "foo-prefix"},
		{"exact is preferred to prefix", "mixed-path-rules/foo", 200, "foo-exact"},
		{"prefix /aaa/bbb/ matches /aaa/bbb", "trailing-slash-path-rules/aaa/bbb", 200, "aaa-slash-bbb-slash-prefix"},
		{"prefix /aaa/bbb/ matches /aaa/bbb/", "trailing-slash-path-rules/aaa/bbb/", 200, "aaa-slash-bbb-slash-prefix"},
		{"exact /foo/ does not match /foo", "trailing-slash-path-rules/foo", 404, ""},
	} {
		t.Run(scenario.name, func(t *testing.T) {
			c.want(t, "GET", "http://"+scenario.url, scenario.status, scenario.service)
		})
	}
}
