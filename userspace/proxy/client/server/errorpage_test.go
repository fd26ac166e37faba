package server_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestErrorPages: another service answers in place of errors, of pods and of the proxy
// itself; nobody gets past an access rule that way, and without that service the plain
// error remains.
func TestErrorPages(t *testing.T) {
	pages := pod(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("broken") {
			c, _, _ := w.(http.Hijacker).Hijack()
			c.Close()
			return
		}
		body, _ := io.ReadAll(r.Body)
		h := r.Header
		w.Header().Set("X-Page", "yes")
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, "page of %s %s code=%s format=%s uri=%s ns=%s ingress=%s service=%s:%s id=%s auth=%q body=%d", r.Method, r.URL.Path, h.Get("X-Code"),
			h.Get("X-Format"), h.Get("X-Original-Uri"), h.Get("X-Namespace"), h.Get("X-Ingress-Name"), h.Get("X-Service-Name"), h.Get("X-Service-Port"),
			h.Get("X-Request-Id"), h.Get("Authorization"), len(body))
	})
	web := pod(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("status") {
		case "502":
			w.WriteHeader(http.StatusBadGateway)
		case "401":
			w.Header().Set("WWW-Authenticate", "Negotiate")
			w.WriteHeader(http.StatusUnauthorized)
		case "404":
			w.WriteHeader(http.StatusNotFound)
		case "500":
			w.WriteHeader(http.StatusInternalServerError)
		}
		io.WriteString(w, "secret of the pod")
	})
	told := func(p *feedpb.Policy) *feedpb.Policy {
		p.ErrorPages = &feedpb.ErrorPages{Status: []uint32{401, 403, 404, 500, 503}, Service: 1, Namespace: "default", Ingress: "shop"}
		return p
	}
	refused, _ := gate(t)
	services := []proxytest.Service{
		{Name: "default/pages:80", Path: "/pages", Backends: []string{pages}},
		{Name: "default/web:80", Path: "/", Backends: []string{web}, Policy: told(&feedpb.Policy{})},
		{Name: "default/none:80", Path: "/none", Policy: told(&feedpb.Policy{})},
		{Name: "default/closed:80", Path: "/closed", Backends: []string{web}, Policy: told(&feedpb.Policy{Access: &feedpb.Access{Closed: "no Secret"}})},
		{Name: "default/denied:80", Path: "/denied", Backends: []string{web}, Policy: told(&feedpb.Policy{Access: &feedpb.Access{Allow: []string{"192.0.2.0/24"}}})},
		{Name: "default/gate:80", Path: "/gate", Backends: []string{refused}},
		{Name: "default/asked:80", Path: "/asked", Backends: []string{web}, Policy: told(&feedpb.Policy{Access: &feedpb.Access{External: &feedpb.ExternalAuth{
			To: &feedpb.Destination{Service: 6, Authority: "gate", Path: "/"}}}})},
		{Name: "default/down:80", Path: "/down", Backends: []string{web}, Policy: told(&feedpb.Policy{Access: &feedpb.Access{External: &feedpb.ExternalAuth{
			To: &feedpb.Destination{Service: 3, Authority: "none", Path: "/"}}}})},
		{Name: "default/fallback:80", Path: "/fallback", Policy: &feedpb.Policy{FallbackService: 2}},
		{Name: "default/nowhere:80", Path: "/nowhere", Policy: &feedpb.Policy{FallbackService: 3}},
		{Name: "default/self:80", Path: "/self", Policy: told(&feedpb.Policy{FallbackService: 3})},
	}
	p := proxytest.Start(t, services, nil)
	const page = "HTTP/1.1 202 Accepted"
	has(t, shop(t, p, "GET /x?status=404", "X-Request-ID: 7", "Accept: text/html", "X-Code: 1", "Authorization: Basic eA=="), page, "x-page: yes\r\n",
		"page of GET / code=404 format=text/html uri=/x?status=404 ns=default ingress=shop service=web:80 id=7 auth=\"\" body=0")
	has(t, shop(t, p, "POST /x?status=500", "Content-Length: 5", "", "hello"), page, "page of GET / code=500", "body=0")
	has(t, shop(t, p, "GET /x?status=502"), "502 Bad Gateway", "secret of the pod") // not one of the statuses
	has(t, shop(t, p, "GET /none"), page, "code=503", "service=none:80")
	has(t, shop(t, p, "GET /self"), page, "code=503")
	has(t, shop(t, p, "GET /fallback"), "200 OK", "secret of the pod")
	has(t, shop(t, p, "GET /nowhere"), "503 ", "no_endpoint")
	for path, code := range map[string]string{"/closed": "503", "/denied": "403", "/asked": "401", "/down": "500"} {
		for _, query := range []string{"", "?broken", "?status=404"} {
			answer := shop(t, p, "GET "+path+query)
			if strings.Contains(answer, "secret of the pod") {
				t.Errorf("%s%s leads past the rule: %s", path, query, answer)
			}
			if query == "?broken" {
				has(t, answer, "HTTP/1.1 "+code)
			} else {
				has(t, answer, page, "code="+code)
			}
		}
	}
	const challenge = `www-authenticate: Bearer realm="shop"`
	has(t, shop(t, p, "GET /asked"), page, challenge)
	has(t, shop(t, p, "GET /asked?broken"), "HTTP/1.1 401", challenge)
	has(t, shop(t, p, "GET /x?status=401"), page, "code=401", "www-authenticate: Negotiate")
	has(t, shop(t, p, "GET /x?status=401&broken"), "HTTP/1.1 401", "www-authenticate: Negotiate")
	if answer := shop(t, p, "HEAD /x?status=404"); !strings.HasPrefix(answer, page) || body(answer) != "" {
		t.Errorf("HEAD: %s", answer)
	}
	if answer := shop(t, p, "GET /x?status=500&broken"); strings.Contains(answer, "secret of the pod") {
		t.Errorf("an intercepted body arrives: %s", answer)
	} else {
		has(t, answer, "HTTP/1.1 500", "intercepted")
	}

	// A page that says nothing of use is none.
	for name, f := range map[string]func(net.Conn){
		"silent":  func(c net.Conn) { c.Read(make([]byte, 4096)) },
		"garbage": func(c net.Conn) { c.Read(make([]byte, 4096)); io.WriteString(c, "SSH-2.0\r\n\r\n") },
		"short": func(c net.Conn) {
			c.Read(make([]byte, 4096))
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort")
		},
		"endless": func(c net.Conn) {
			c.Read(make([]byte, 4096))
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n"+strings.Repeat("x", 2<<20))
		},
	} {
		services[0].Backends = []string{rawPod(t, f)}
		p.Configure(t, services, nil)
		if answer := shop(t, p, "GET /x?status=404"); !strings.HasPrefix(answer, "HTTP/1.1 404") {
			t.Errorf("%s: %.200s", name, answer)
		}
	}
}

// TestMirror: copies say what the request said, the body with them up to the bound, and
// nobody waits for who gets them.
func TestMirror(t *testing.T) {
	copies := make(chan string, 64)
	to := pod(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		copies <- fmt.Sprintf("%s %s host=%s a=%s body=%d %v", r.Method, r.RequestURI, r.Host, r.Header.Get("X-A"), len(body), err)
		w.WriteHeader(http.StatusInternalServerError)
	})
	release := make(chan struct{})
	silent := rawPod(t, func(c net.Conn) { <-release }) // answers nothing, then closes
	mirrored := func(service uint32, body bool) *feedpb.Policy {
		return &feedpb.Policy{Mirrors: []*feedpb.Mirror{{
			To: &feedpb.Destination{Service: service, Authority: "copy.test", Path: "/copy$request_uri"}, Body: body}}}
	}
	web := speaker(t)
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "default/to:80", Path: "/to", Backends: []string{to}},
		{Name: "default/silent:80", Path: "/silent-pod", Backends: []string{silent}},
		{Name: "default/none:80", Path: "/none-pod"},
		{Name: "default/whole:80", Path: "/whole", Backends: []string{web}, Policy: mirrored(1, true)},
		{Name: "default/head:80", Path: "/head", Backends: []string{web}, Policy: mirrored(1, false)},
		{Name: "default/slow:80", Path: "/slow", Backends: []string{web}, Policy: mirrored(2, true)},
		{Name: "default/gone:80", Path: "/gone", Backends: []string{web}, Policy: mirrored(3, true)},
	}, nil)
	want := func(line, copy string, size int) {
		t.Helper()
		fields := []string{"X-A: 1"}
		if size > 0 {
			fields = append(fields, fmt.Sprintf("Content-Length: %d", size), "", strings.Repeat("x", size))
		}
		has(t, shop(t, p, line, fields...), "200 OK", "reached")
		select {
		case got := <-copies:
			if got != copy {
				t.Errorf("the copy is %s, want %s", got, copy)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("no copy of %s", line)
		}
	}
	want("GET /whole?q=http://evil.test/", "GET /copy/whole?q=http://evil.test/ host=copy.test a=1 body=0 <nil>", 0)
	want("GET /whole/@evil.test:1/", "GET /copy/whole/@evil.test:1/ host=copy.test a=1 body=0 <nil>", 0)
	want("POST /whole", "POST /copy/whole host=copy.test a=1 body=40000 <nil>", 40000)
	want("POST /head", "POST /copy/head host=copy.test a=1 body=0 <nil>", 5000)

	count := func(c exchange.Copy) uint64 { return p.Metrics.Mirrored[c].Load() }
	waitFor(t, func() bool { return count(exchange.CopySent) == 4 })
	has(t, shop(t, p, "POST /whole", "Content-Length: 70000", "", strings.Repeat("x", 70000)), "200 OK", "reached POST 70000")
	has(t, shop(t, p, "GET /gone"), "200 OK")
	if long, none := count(exchange.CopyTooLong), count(exchange.CopyNoPod); long != 1 || none != 1 {
		t.Errorf("%d copies were too long and %d had no pod, want 1 and 1", long, none)
	}
	// More than may be under way at a time, to who never answers.
	slow := "GET /slow HTTP/1.1\r\nHost: shop.test\r\n\r\n"
	if n := strings.Count(talk(t, p, strings.Repeat(slow, 300)), " 200 OK\r\n"); n != 300 {
		t.Errorf("%d of 300 requests were answered", n)
	}
	if count(exchange.CopyTooMany) == 0 {
		t.Error("copies are without bound")
	}
	close(release) // the process's other tests need the places
	waitFor(t, func() bool { return count(exchange.CopyFailed)+count(exchange.CopyTooMany) == 300 })
}
