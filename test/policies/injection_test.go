package policies

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/control/compile"
	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// rawPod answers every request with 200 and keeps the heads as they came.
type rawPod struct {
	address string

	mu    sync.Mutex
	heads []string
}

func startRawPod(t testing.TB) *rawPod {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &rawPod{address: l.Addr().String()}
	go func() { // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(conn)
		}
	}()
	return p
}

func (p *rawPod) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		var head strings.Builder
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			head.WriteString(line)
			if line == "\r\n" {
				break
			}
		}
		p.mu.Lock()
		p.heads = append(p.heads, head.String())
		p.mu.Unlock()
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: c=1; Domain=pod.local; Path=/in\r\nLocation: http://pod.local/next\r\n\r\nok")
	}
}

func (p *rawPod) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	heads := p.heads
	p.heads = nil
	return heads
}

// serveOne puts one Ingress with an annotation in force. It reports false if the proxy
// refuses the configuration, as it may: the agent then leaves that Ingress out.
func serveOne(t *testing.T, proxy *proxytest.Proxy, annotations map[string]string) bool {
	t.Helper()
	object, err := json.Marshal(map[string]any{
		"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
		"metadata": map[string]any{"name": "web", "namespace": "default", "annotations": annotations},
		"spec": map[string]any{"ingressClassName": "kerngate", "rules": []any{map[string]any{"host": "hostile.test", "http": map[string]any{"paths": []any{
			map[string]any{"path": "/", "pathType": "ImplementationSpecific", "backend": map[string]any{"service": map[string]any{"name": "web", "port": map[string]any{"number": 80}}}},
		}}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var objects kube.Objects
	for _, text := range []string{string(object), service("web")} {
		decoded, _, err := kube.Decode([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range decoded {
			objects.Add(o)
		}
	}
	m, _ := kube.Translate(objects, kube.Options{Class: "kerngate", ClassOptional: true})
	id := func(string) (state.ServiceID, bool) { return 1, true }
	snapshot, err := config.Empty().Apply(compile.Route(&m, id, compile.Common{Settings: &feedpb.Settings{AccessLogSample: 1}}, nil, nil, nil).Snapshot(1))
	if err != nil {
		return false
	}
	proxy.Config.Store(snapshot)
	return true
}

// exchangeRaw sends bytes and returns all that comes back.
func exchangeRaw(t testing.TB, address, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

// evil reports whether a head has a line that nobody but an attacker has asked for.
func evil(head string) bool {
	for line := range strings.SplitSeq(strings.ReplaceAll(head, "\r", "\n"), "\n") {
		if strings.HasPrefix(strings.ToLower(strings.TrimSpace(line)), "x-evil:") {
			return true
		}
	}
	return false
}

// TestNoInjection: no value of any annotation, nor of a request that a rule brings into a
// field, ends a line: not of a request to a pod, of a response, or of the access log.
func TestNoInjection(t *testing.T) {
	pod := startRawPod(t)
	proxy := proxytest.Start(t, []proxytest.Service{{Name: "default/web:80", Path: "/", Backends: []string{pod.address}}}, nil)
	values := []string{
		"a\r\nX-Evil: 1", "a\nX-Evil: 1", "/a\r\n\r\nGET /evil HTTP/1.1\r\nX-Evil: 1", "https://x.test/\r\nX-Evil: 1", "https://x.test/$http_bad$arg_bad",
		"$arg_bad", "${cookie_bad}", "/$1$arg_bad", "a\x00b\r\nX-Evil: 1", "\"\r\nX-Evil: 1\"", "x; more_set_headers \"X-A: b\r\nX-Evil: 1\";", "more_set_headers \"X-A: $arg_bad\"; proxy_set_header X-B $cookie_bad;",
		"true\r\nX-Evil: 1", "http://127.0.0.1:1/\r\nX-Evil: 1", "200 5m\r\nX-Evil: 1", "%0d%0aX-Evil: 1", "\u2028X-Evil: 1", "/ /\r\nX-Evil:1",
	}
	// What some keys need to have an effect at all.
	beside := map[string]string{"auth-signin": "auth-url", "auth-request-redirect": "auth-url", "auth-cache-key": "auth-url", "mirror-host": "mirror-target", "proxy-redirect-to": "proxy-redirect-from",
		"cors-allow-origin": "enable-cors", "cors-allow-headers": "enable-cors", "cors-allow-methods": "enable-cors", "cors-expose-headers": "enable-cors", "session-cookie-path": "affinity", "session-cookie-domain": "affinity", "session-cookie-name": "affinity"}
	useful := map[string]string{"auth-url": "http://127.0.0.1:1/", "mirror-target": "http://127.0.0.1:1/", "proxy-redirect-from": "http://pod.local/", "enable-cors": "true", "affinity": "cookie"}
	const request = "GET /aX-Evil:%201/%E2%80%A8?bad=%0d%0aX-Evil:%201 HTTP/1.1\r\nHost: hostile.test\r\nOrigin: https://a.test\r\nBad: %0d%0aX-Evil: 1\r\nCookie: bad=%0d%0aX-Evil: 1\r\nConnection: close\r\n\r\n"
	served, refused := 0, 0
	for _, key := range ingressnginx.Keys() {
		for _, value := range values {
			annotations := map[string]string{ingressnginx.Prefix + key.Name: value}
			if other := beside[key.Name]; other != "" {
				annotations[ingressnginx.Prefix+other] = useful[other]
			}
			if !serveOne(t, proxy, annotations) {
				refused++
				continue
			}
			served++
			answer := exchangeRaw(t, proxy.Address, request)
			head, _, whole := strings.Cut(answer, "\r\n\r\n")
			if !whole || !strings.HasPrefix(head, "HTTP/1.1 ") || evil(head) {
				t.Errorf("%s: %q: the client gets %q", key.Name, value, answer)
			}
			for _, head := range pod.take() {
				if evil(head) || strings.Count(head, " HTTP/1.1\r\n") != 1 {
					t.Errorf("%s: %q: the pod gets %q", key.Name, value, head)
				}
			}
		}
	}
	if served < 2000 {
		t.Errorf("%d served, %d refused", served, refused)
	}
	deadline := time.Now().Add(5 * time.Second)
	for strings.Count(proxy.Log.String(), "\n") < served && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	lines := 0
	for line := range strings.Lines(proxy.Log.String()) {
		lines++
		if !json.Valid([]byte(line)) || evil(line) {
			t.Errorf("log line %q", line)
		}
	}
	if lines != served {
		t.Errorf("%d lines in the log for %d requests", lines, served)
	}
}

// TestNoTraversal: however a path is spelt, no request without a password reaches a pod as
// one for what the password protects.
func TestNoTraversal(t *testing.T) {
	const secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: staff, namespace: default}\nstringData: {auth: \"ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\"}\n"
	s := serve(t, ingress("public", "site.test", "/", "web"),
		ingress("admin", "site.test", "/admin", "secret", "auth-type: basic", "auth-secret: staff"), service("web"), service("secret"), secret)
	for _, target := range []string{
		"/admin", "/admin/", "/admin/x", "//admin", "/./admin", "/x/../admin", "/x/%2e%2e/admin", "/x/..%2fadmin", "/%61dmin", "/x/.%2e/admin/", "/x//../admin", "/admin%2f", "/admin%2Fx",
		"/admin/../admin", "/x/../../admin", "/x/%2e%2e%2fadmin", "/%2fadmin", "/admin/.", "/admin//", "/admin;x", "/x/..;/admin", "/admin%00", "/admin?x", "/x/%252e%252e/admin", "/admin\\x", "/x/..\\admin",
	} {
		conn, err := net.Dial("tcp", s.proxy.Address)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n", target)
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		body, _ := io.ReadAll(r.Body)
		conn.Close()
		pod := r.Header.Get("Pod")
		if pod == "secret" {
			t.Errorf("%s: reached without a password: %s", target, body)
		}
		// What the other service gets must not mean the protected path to whoever
		// decodes it once, as servers do.
		plain, _, _ := strings.Cut(target, "?")
		decoded := strings.NewReplacer("%2e", ".", "%2f", "/", "%2F", "/", "%61", "a").Replace(plain)
		if clean := path.Clean(decoded); pod == "web" && (clean == "/admin" || strings.HasPrefix(clean, "/admin/")) {
			t.Errorf("%s: the service that is open gets what means %s: %s", target, clean, body)
		}
	}
}
