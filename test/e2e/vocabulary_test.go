//go:build linux

package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/kerngate/kerngate/test/lab"
	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
)

// testedElsewhere are groups of annotations with tests of their own in this package.
var testedElsewhere = map[string]string{
	"BackendProtocol": "TestTLSToPods", "CertificateAuth": "TestClientCertificates", "CustomHTTPErrors": "TestAskedElsewhere", "DefaultBackend": "TestAskedElsewhere",
	"ExternalAuth": "TestAskedElsewhere", "Proxy": "TestRetries", "ProxySSL": "TestTLSToPods",
	"SessionAffinity": "TestAffinityAndHash", "UpstreamHashBy": "TestAffinityAndHash",
}

// group is one group of ingress-nginx's annotations, on an Ingress of its own host.
type group struct {
	name        string
	annotations []string // without their prefix, and values
	check       func(s *site, url string) error
}

// wantStatus wants a status of a GET.
func wantStatus(want int, header ...string) func(*site, string) error {
	return func(s *site, url string) error { return answers(s, url, want, nil, header...) }
}

// wantPod wants an answer of a pod that ok likes.
func wantPod(ok func(*reply) bool) func(*site, string) error {
	return func(s *site, url string) error { return answers(s, url, http.StatusOK, ok) }
}

func answers(s *site, url string, want int, ok func(*reply) bool, header ...string) error {
	r, err := s.do(http.MethodGet, url, nil, header...)
	switch {
	case err != nil:
		return err
	case r.Status != want:
		return fmt.Errorf("status %d, want %d: %.200s", r.Status, want, r.Body)
	case want == http.StatusOK && ok == nil && r.Pod.Pod == "":
		return fmt.Errorf("the answer is no pod's: %.200s", r.Body)
	case ok != nil && !ok(r):
		return fmt.Errorf("field %v, pod's view %+v", r.Header, r.Pod)
	}
	return nil
}

func both(checks ...func(*site, string) error) func(*site, string) error {
	return func(s *site, url string) error {
		for _, check := range checks {
			if err := check(s, url); err != nil {
				return err
			}
		}
		return nil
	}
}

var vocabulary = []group{
	{"Aliases", []string{"server-alias", "alias.example.com"}, func(s *site, _ string) error { return wantStatus(200)(s, "http://alias.example.com/") }},
	{"Allowlist", []string{"allowlist-source-range", "203.0.113.0/24"}, wantStatus(403)},
	{"BasicDigestAuth", []string{"auth-type", "basic", "auth-secret", "users"}, both(wantStatus(401), wantStatus(401, "Authorization: Basic YW5uOndyb25n"), wantStatus(200, "Authorization: Basic YW5uOnNlY3JldA=="))},
	{"Canary", nil, both(wantStatus(200), func(s *site, url string) error {
		return answers(s, url, 200, func(r *reply) bool { return r.Pod.Service == "canary" }, "X-Canary: always")
	})},
	{"ClientBodyBufferSize", []string{"client-body-buffer-size", "8k"}, func(s *site, url string) error {
		r, err := s.do(http.MethodPost, url, strings.NewReader(strings.Repeat("x", 100_000)))
		if err == nil && r.Pod.BodyBytes != 100_000 {
			err = fmt.Errorf("the pod got %d bytes", r.Pod.BodyBytes)
		}
		return err
	}},
	{"ConfigurationSnippet", []string{"configuration-snippet", `more_set_headers "X-Snippet: yes";`}, wantPod(func(r *reply) bool { return r.Header.Get("X-Snippet") == "yes" })},
	{"Connection", []string{"connection-proxy-header", "keep-alive"}, wantStatus(200)},
	{"CorsConfig", []string{"enable-cors", "true"}, func(s *site, url string) error {
		return answers(s, url, 200, func(r *reply) bool { return r.Header.Get("Access-Control-Allow-Origin") == "*" }, "Origin: https://a.example.com")
	}},
	{"CustomHeaders", []string{"custom-headers", "default/custom"}, wantPod(func(r *reply) bool { return r.Header.Get("X-Custom") == "yes" })},
	{"Denylist", []string{"denylist-source-range", "0.0.0.0/0"}, wantStatus(403)},
	{"DisableProxyInterceptErrors", []string{"custom-http-errors", "404", "default-backend", "canary", "disable-proxy-intercept-errors", "true"}, func(s *site, url string) error {
		return answers(s, url+"?status=404", 404, func(r *reply) bool { return r.Pod.Service == "web" })
	}},
	{"EnableGlobalAuth", []string{"enable-global-auth", "false"}, wantStatus(200)},
	{"HTTP2PushPreload", []string{"http2-push-preload", "true"}, wantStatus(200)},
	{"LoadBalancing", []string{"load-balance", "round_robin"}, func(s *site, url string) error {
		pods := map[string]int{}
		for range 8 {
			if err := answers(s, url, 200, func(r *reply) bool { pods[r.Pod.Pod]++; return true }); err != nil {
				return err
			}
		}
		if len(pods) != 2 || pods[s.pods["web"][0].Name] < 2 || pods[s.pods["web"][1].Name] < 2 {
			return fmt.Errorf("8 requests went to %v", pods)
		}
		return nil
	}},
	{"Logs", []string{"enable-access-log", "false"}, func(s *site, url string) error {
		if err := wantStatus(200)(s, url+"unlogged"); err != nil {
			return err
		}
		s.get("http://connection.example.com/logged")
		s.loggedEventually("GET /logged ")
		if strings.Contains(s.Agent.Log(), "/unlogged") {
			return fmt.Errorf("it is in the log")
		}
		return nil
	}},
	{"Mirror", []string{"mirror-target", "http://canary.default.svc.cluster.local$request_uri"}, both(wantStatus(200), func(s *site, _ string) error {
		return lab.Until(5*time.Second, "a mirrored request", func() error {
			if counts := s.metrics(lab.ProxyMetricsAddress, "kerngate_proxy_mirrored_requests_total"); !strings.Contains(counts, `{result="sent"} 1`) {
				return fmt.Errorf("metrics: %s", counts)
			}
			return nil
		})
	})},
	{"Opentelemetry", []string{"enable-opentelemetry", "false"}, both(
		wantPod(func(r *reply) bool { return r.Pod.Headers.Get("Traceparent") == "" }),
		func(s *site, _ string) error {
			return answers(s, "http://connection.example.com/", 200, func(r *reply) bool { return strings.HasSuffix(r.Pod.Headers.Get("Traceparent"), "-01") })
		})},
	{"RateLimit", []string{"limit-rps", "1", "limit-burst-multiplier", "2"}, func(s *site, url string) error {
		got := map[int]int{}
		for range 20 {
			got[s.get(url).Status]++
		}
		if got[200] < 2 || got[503] < 10 || got[200]+got[503] != 20 {
			return fmt.Errorf("20 requests at once came to %v", got)
		}
		return nil
	}},
	{"Redirect", []string{"permanent-redirect", "https://elsewhere.example.com/"}, func(s *site, url string) error {
		return answers(s, url, 301, func(r *reply) bool { return r.Header.Get("Location") == "https://elsewhere.example.com/" })
	}},
	{"Rewrite", []string{"rewrite-target", "/inner"}, wantPod(func(r *reply) bool { return r.Pod.Path == "/inner" })},
	{"SSLCipher", []string{"ssl-ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384"}, func(s *site, _ string) error { return s.cipher("sslcipher.example.com") }},
	{"SSLPassthrough", nil, func(s *site, _ string) error { return s.passesThrough("sslpassthrough.example.com") }},
	{"Satisfy", []string{"auth-type", "basic", "auth-secret", "users", "satisfy", "any", "allowlist-source-range", "0.0.0.0/0"}, wantStatus(200)},
	{"ServerSnippet", []string{"server-snippet", "add_header X-Server yes always;"}, wantPod(func(r *reply) bool { return r.Header.Get("X-Server") == "yes" })},
	{"ServiceUpstream", []string{"service-upstream", "true"}, wantStatus(200)},
	{"UpstreamVhost", []string{"upstream-vhost", "inner.example.com"}, wantPod(func(r *reply) bool { return r.Pod.Host == "inner.example.com" })},
	{"UsePortInRedirects", []string{"use-port-in-redirects", "true", "app-root", "/home"}, func(s *site, url string) error {
		return answers(s, url, 302, func(r *reply) bool { return strings.HasSuffix(r.Header.Get("Location"), "/home") })
	}},
	{"XForwardedPrefix", []string{"rewrite-target", "/", "x-forwarded-prefix", "/shop"}, wantPod(func(r *reply) bool { return r.Pod.Headers.Get("X-Forwarded-Prefix") == "/shop" })},
}

// cipher asks by TLS 1.2 and wants the suite that the annotation names.
func (s *site) cipher(host string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := s.lab.Client.Dial(ctx, "tcp", netip.AddrPortFrom(s.lab.VIP4, 443).String())
	if err != nil {
		return err
	}
	c := tls.Client(conn, &tls.Config{ServerName: host, InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	defer c.Close()
	if err := c.HandshakeContext(ctx); err != nil {
		return err
	}
	if got := c.ConnectionState().CipherSuite; got != tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 {
		return fmt.Errorf("the suite is %s", tls.CipherSuiteName(got))
	}
	return nil
}

// passesThrough wants the certificate that only the pod has.
func (s *site) passesThrough(host string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := s.lab.Client.Dial(ctx, "tcp", netip.AddrPortFrom(s.lab.VIP4, 443).String())
	if err != nil {
		return err
	}
	c := tls.Client(conn, &tls.Config{ServerName: host, InsecureSkipVerify: true})
	defer c.Close()
	if err := c.HandshakeContext(ctx); err != nil {
		return err
	}
	if names := c.ConnectionState().PeerCertificates[0].DNSNames; len(names) != 1 || names[0] != "pod.test" {
		return fmt.Errorf("the certificate is for %v", names)
	}
	return nil
}

// TestVocabulary: each group of ingress-nginx's annotations does what it says, for a client that
// comes by the ingress address.
func TestVocabulary(t *testing.T) {
	s := prepareSite(t, 1, []app{{"web", 2}, {"canary", 1}})
	s.Args = append(s.Args, "--access-log=on", "--access-log-format={method} {path} {status}", "--otlp-endpoint=http://127.0.0.1:4318", "--trace-ratio=1")
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	must(t, err)
	authority, err := lab.NewAuthority("vocabulary")
	must(t, err)
	must(t, s.Manifests.Write("objects.yaml",
		lab.Object{"apiVersion": "v1", "kind": "Secret", "metadata": lab.Object{"name": "users", "namespace": "default"}, "stringData": lab.Object{"auth": "ann:" + string(hash)}},
		lab.Object{"apiVersion": "v1", "kind": "ConfigMap", "metadata": lab.Object{"name": "custom", "namespace": "default"}, "data": lab.Object{"X-Custom": "yes"}},
		lab.TLSSecret("cipher", s.issueFrom(authority, lab.Request{Names: []string{"sslcipher.example.com"}}))))
	host := func(g group) string { return strings.ToLower(g.name) + ".example.com" }
	covered := map[string]bool{}
	for i, g := range vocabulary {
		covered[g.name] = true
		var pairs []string
		for j := 0; j < len(g.annotations); j += 2 {
			pairs = append(pairs, nginx+g.annotations[j], g.annotations[j+1])
		}
		object := annotated(fmt.Sprintf("group-%d", i), host(g), "web", pairs...)
		switch g.name {
		case "SSLCipher":
			object = lab.WithTLS(object, "cipher", host(g))
		case "SSLPassthrough":
			object = annotated("passthrough", host(g), "secure", nginx+"ssl-passthrough", "true")
		case "Canary":
			must(t, s.Manifests.Write("canary-rule.yaml", annotated("canary", host(g), "canary", nginx+"canary", "true", nginx+"canary-by-header", "X-Canary")))
		}
		must(t, s.Manifests.Write(fmt.Sprintf("group-%d.yaml", i), object))
	}
	for _, k := range ingressnginx.Keys() {
		if k.Verdict != ingressnginx.Unsupported && !covered[k.Group] && testedElsewhere[k.Group] == "" {
			t.Errorf("no case for group %s (%s)", k.Group, k.Name)
		}
	}
	c := s.issueFrom(authority, lab.Request{Names: []string{"pod.test"}})
	secure := s.addPod("secure", "secure-1", "-tls", s.file("pod.crt", c.Chain)+","+s.file("pod.key", c.Key))
	must(t, s.Manifests.Write("secure.yaml", lab.Service("secure"), lab.EndpointSlice("secure", secure.Endpoint(false))))
	s.start()
	s.eventually("http://connection.example.com/", "answers", func(r *reply) bool { return r.Status == http.StatusOK })
	for _, g := range vocabulary {
		t.Run(g.name, func(t *testing.T) {
			if err := g.check(s, "http://"+host(g)+"/"); err != nil {
				t.Error(err)
			}
		})
	}
}
