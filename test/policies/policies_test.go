// Package policies tests annotations from the manifest to the answer: translated as the
// agent does, sent as the feed does, carried out by a proxy that talks to real pods. Only
// the kernel is left out; test/e2e has it.
package policies

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/control/compile"
	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// site is a proxy with what manifests say; pods answer with what they got.
type site struct {
	t      *testing.T
	proxy  *proxytest.Proxy
	client *http.Client
	model  *model.Model
}

// serve puts Ingresses, given as annotations, path and service, in force.
func serve(t *testing.T, documents ...string) *site {
	t.Helper()
	return serveWith(t, &feedpb.Settings{}, documents...)
}

func serveWith(t *testing.T, settings *feedpb.Settings, documents ...string) *site {
	t.Helper()
	var objects kube.Objects
	for i, text := range documents {
		decoded, warnings, err := kube.Decode([]byte(text))
		if err != nil || len(warnings) > 0 {
			t.Fatal(err, warnings)
		}
		for _, o := range decoded {
			o.SetAge(i)
			objects.Add(o)
		}
	}
	addresses := []netip.Addr{netip.MustParseAddr("192.0.2.10")}
	m, _ := kube.Translate(objects, kube.Options{Class: "kerngate", ClassOptional: true, Addresses: addresses, Listeners: model.IngressListeners(addresses, 80, 443, false)})
	m.Listeners = nil // Gateways ask for them; the proxy listens elsewhere
	var services []proxytest.Service
	var names []string
	for _, s := range m.Services {
		pod := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Pod", s.Key.Name)
			http.SetCookie(w, &http.Cookie{Name: "c", Value: "1", Domain: "pod.local", Path: "/in"})
			w.Header().Set("Location", "http://pod.local/next")
			if status, err := strconv.Atoi(r.Header.Get("X-Answer")); err == nil && s.Key.Name == "auth" {
				w.WriteHeader(status)
			}
			fmt.Fprintf(w, "%s %s host=%s", r.Method, r.RequestURI, r.Host)
		}))
		t.Cleanup(pod.Close)
		names = append(names, s.Key.String())
		backends := []string{strings.TrimPrefix(pod.URL, "http://")}
		if s.Key.Name == "empty" {
			backends = nil
		}
		services = append(services, proxytest.Service{Name: s.Key.String(), Path: fmt.Sprintf("/%d", len(names)), Backends: backends})
	}
	s := &site{t: t, model: &m, proxy: proxytest.Start(t, services, nil), client: &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	id := func(name string) (state.ServiceID, bool) {
		i := slices.Index(names, name)
		return state.ServiceID(i + 1), i >= 0
	}
	snapshot, err := config.Empty().Apply(compile.Route(&m, id, compile.Common{Settings: settings}, nil, nil, nil).Snapshot(1))
	if err != nil {
		t.Fatal(err)
	}
	s.proxy.Config.Store(snapshot)
	return s
}

// ingress writes a manifest.
func ingress(name, host, path, service string, annotations ...string) string {
	text := "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: " + name + "\n  namespace: default\n  annotations:\n    x: y\n"
	for _, a := range annotations {
		key, value, _ := strings.Cut(a, ": ")
		text += fmt.Sprintf("    nginx.ingress.kubernetes.io/%s: %q\n", key, value)
	}
	return text + fmt.Sprintf("spec:\n  ingressClassName: kerngate\n  rules:\n  - host: %s\n    http: {paths: [{path: %q, pathType: ImplementationSpecific, backend: {service: {name: %s, port: {number: 80}}}}]}\n", host, path, service)
}

func service(name string) string {
	return "apiVersion: v1\nkind: Service\nmetadata: {name: " + name + ", namespace: default}\nspec: {ports: [{port: 80}]}\n"
}

// get returns status, some fields and the body of an answer as text.
func (s *site) get(host, target string, fields ...string) string {
	s.t.Helper()
	method, target, both := strings.Cut(target, " ")
	if !both {
		method, target = "GET", method
	}
	r, err := http.NewRequest(method, "http://"+s.proxy.Address+target, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Host = host
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Add(name, value)
	}
	response, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	text := fmt.Sprint(response.StatusCode)
	for _, name := range []string{"Location", "Pod", "Set-Cookie", "X-A", "Www-Authenticate", "Access-Control-Allow-Origin"} {
		if v := response.Header.Get(name); v != "" {
			text += fmt.Sprintf(" %s=%s", name, v)
		}
	}
	return text + " | " + strings.TrimSpace(string(body))
}

func (s *site) want(host, target, part string, fields ...string) {
	s.t.Helper()
	if got := s.get(host, target, fields...); !strings.Contains(got, part) {
		s.t.Errorf("%s%s %q: %s, want %q in it", host, target, fields, got, part)
	}
}

func TestPolicies(t *testing.T) {
	const secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: staff, namespace: default}\nstringData: {auth: \"ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\"}\n"
	s := serve(t,
		ingress("rewrite", "rewrite.test", "/api(/|$)(.*)", "web", "rewrite-target: /$2", "upstream-vhost: inner.test", "configuration-snippet: more_set_headers \"X-A: $host\";"),
		ingress("neighbour", "rewrite.test", "/plain", "web"),
		ingress("slash", "slash.test", "/app/", "web", "enable-access-log: false"),
		ingress("root", "root.test", "/", "web", "app-root: /app", "server-alias: alias.test", "from-to-www-redirect: true"),
		ingress("moved", "moved.test", "/", "missing", "permanent-redirect: https://new.test$request_uri", "permanent-redirect-code: 308"),
		ingress("snippets", "snippets.test", "/", "web", "server-snippet: rewrite ^/old/(.*)$ /new/$1 permanent; add_header X-S \"1\";", "custom-headers: page"),
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: page, namespace: default}\ndata: {X-A: from a map}\n",
		ingress("cookies", "cookies.test", "/", "web", "proxy-cookie-domain: pod.local cookies.test", "proxy-cookie-path: /in /", "proxy-redirect-from: http://pod.local/", "proxy-redirect-to: /out/"),
		ingress("cors", "cors.test", "/", "web", "enable-cors: true", "cors-allow-origin: https://a.test"),
		ingress("outside", "outside.test", "/", "web", "allowlist-source-range: 192.0.2.0/24"),
		ingress("denied", "denied.test", "/", "web", "denylist-source-range: 127.0.0.0/8"),
		ingress("unread", "unread.test", "/", "web", "allowlist-source-range: localhost"),
		ingress("basic", "basic.test", "/", "web", "auth-type: basic", "auth-secret: staff", "auth-realm: staff"),
		ingress("nosecret", "nosecret.test", "/", "web", "auth-type: basic", "auth-secret: missing"),
		ingress("external", "external.test", "/", "web", "auth-url: https://auth.test"),
		ingress("limited", "limited.test", "/", "web", "limit-rpm: 1", "limit-burst-multiplier: 2"),
		ingress("stable", "canary.test", "/", "web"),
		ingress("canary", "canary.test", "/", "beta", "canary: true", "canary-by-header: X-Canary"),
		service("web"), service("beta"), secret)

	http1, http2 := s.client, &http.Client{CheckRedirect: s.client.CheckRedirect}
	transport := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
	transport.Protocols.SetUnencryptedHTTP2(true)
	http2.Transport = transport
	t.Cleanup(transport.CloseIdleConnections)
	for name, client := range map[string]*http.Client{"HTTP/1.1": http1, "HTTP/2": http2} {
		t.Run(name, func(t *testing.T) {
			s.t, s.client = t, client
			s.all()
		})
	}
	s.t, s.client = t, http1
	for _, part := range []string{"200 ", "200 ", "200 ", "503 ", "503 "} {
		s.want("limited.test", "/", part)
	}
}

// all asks for everything but what counts.
func (s *site) all() {
	s.want("rewrite.test", "/API/x?y=z", "200 Location=http://pod.local/next Pod=web")
	s.want("rewrite.test", "/API/x?y=z", "X-A=rewrite.test | GET /x?y=z host=inner.test")
	s.want("rewrite.test", "/PLAINer", "| GET /PLAINer host=rewrite.test")
	s.want("rewrite.test", "/apix", "404 ")
	s.want("slash.test", "/app?a=b", "301 Location=http://slash.test/app/?a=b")
	s.want("slash.test", "/app/x", "| GET /app/x")
	s.want("root.test", "/", "302 Location=http://root.test/app")
	s.want("alias.test", "/x", "| GET /x host=alias.test")
	s.want("www.root.test", "/x?y", "308 Location=http://root.test/x?y")
	s.want("moved.test", "/x?y", "308 Location=https://new.test/x?y")
	s.want("snippets.test", "/old/x?y", "301 Location=http://snippets.test/new/x?y")
	s.want("snippets.test", "/x", "X-A=from a map")
	s.want("snippets.test", "/x", "| GET /x host=snippets.test", "X-Forwarded-Scheme: https")
	s.want("cookies.test", "/", "200 Location=/out/next Pod=web Set-Cookie=c=1; Path=/; Domain=cookies.test")
	s.want("cors.test", "OPTIONS /", "204 Access-Control-Allow-Origin=https://a.test", "Origin: https://a.test")
	s.want("cors.test", "/", "Access-Control-Allow-Origin=https://a.test", "Origin: https://a.test")
	s.want("outside.test", "/", "403 ")
	s.want("denied.test", "/", "403 ")
	s.want("external.test", "/", "500 ")
	s.want("external.test", "/", "external_failed")
	for _, host := range []string{"unread.test", "nosecret.test"} {
		s.want(host, "/", "503 ")
		s.want(host, "/", "access_closed", "Authorization: Basic YW5uOnNlY3JldA==")
	}
	s.want("basic.test", "/", `401 Www-Authenticate=Basic realm="staff", charset="UTF-8"`)
	s.want("basic.test", "/", "401 ", "Authorization: Basic YW5uOndyb25n")
	s.want("basic.test", "/", "Pod=web", "Authorization: Basic YW5uOnNlY3JldA==")
	s.want("canary.test", "/", "Pod=web")
	s.want("canary.test", "/", "Pod=beta", "X-Canary: always")
}
