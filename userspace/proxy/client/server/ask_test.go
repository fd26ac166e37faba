package server_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// gate is a service that authenticates: it knows whoever shows a token or a session. Its
// first counter is that of the questions that it was asked.
func gate(t *testing.T) (address string, asked *atomic.Int32) {
	asked = &atomic.Int32{}
	return pod(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if n, _ := io.Copy(io.Discard, r.Body); n > 0 {
			w.WriteHeader(http.StatusTeapot) // a question has no body
			return
		}
		for name, want := range map[string]string{
			"X-Original-Uri": "", "X-Sent-From": "kerngate",
			"X-Real-Ip": "127.0.0.1", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "", "X-Forwarded-Uri": "",
			"Ssl-Client-Verify": "", "X_original_uri": "", "Content-Length": "", "Upgrade": "",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("the service gets %s: %q, want %q", name, got, want)
			}
		}
		if asked := r.Header.Get("X-Original-Url"); !strings.HasPrefix(asked, "http://shop.test/") {
			t.Errorf("the service gets X-Original-URL: %s", asked)
		}
		switch r.Header.Get("Authorization") {
		case "Bearer good":
			w.Header().Set("X-User", "ann")
			w.Header().Add("Set-Cookie", "session=renewed")
		case "Bearer nameless":
		case "Bearer forbidden":
			w.WriteHeader(http.StatusForbidden)
		case "Bearer elsewhere":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "Bearer broken":
			w.WriteHeader(http.StatusInternalServerError)
		default:
			w.Header().Set("WWW-Authenticate", `Bearer realm="shop"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}), asked
}

// speaker is a pod that tells who it takes the client for.
func speaker(t *testing.T) string {
	return pod(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "reached %s %d user=%q cgi=%q", r.Method, len(body), r.Header.Values("X-User"), r.Header.Values("X_user"))
	})
}

// asks is the policy of a route about whose requests service 1 is asked.
func asks(change func(*feedpb.Access)) *feedpb.Policy {
	a := &feedpb.Access{External: &feedpb.ExternalAuth{
		To: &feedpb.Destination{Service: 1, Authority: "gate.default.svc", Path: "/check"}, Response: []string{"X-User"},
	}}
	if change != nil {
		change(a)
	}
	return &feedpb.Policy{Access: a}
}

// TestExternalAuth: only a clear yes lets in, what the service says of the client is what
// the pod gets, and what the client says of itself in those fields never arrives.
func TestExternalAuth(t *testing.T) {
	service, _ := gate(t)
	web := speaker(t)
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "default/gate:80", Path: "/gate", Backends: []string{service}},
		{Name: "default/web:80", Path: "/", Backends: []string{web}, Policy: asks(nil)},
		{Name: "default/sign:80", Path: "/sign", Backends: []string{web}, Policy: asks(func(a *feedpb.Access) {
			a.External.SignIn = "https://login.test/start?x=1"
			a.External.SignInParameter = "back"
		})},
		{Name: "default/either:80", Path: "/either", Backends: []string{web}, Policy: asks(func(a *feedpb.Access) {
			a.Allow, a.Any = []string{"127.0.0.0/8"}, true
		})},
		{Name: "default/other:80", Path: "/other", Backends: []string{web}, Policy: asks(func(a *feedpb.Access) {
			a.Allow, a.Any = []string{"192.0.2.0/24"}, true
		})},
	}, nil)
	claims := []string{"X-User: root", "X_User: root", "x-user: root", "X-Original-URI: /public", "X_Original_URI: /public",
		"X-Forwarded-Uri: /public", "ssl-client-verify: SUCCESS", "X-Sent-From: me"}
	with := func(token string) []string { return append([]string{"Authorization: Bearer " + token}, claims...) }

	for _, path := range []string{"/", "/other"} {
		has(t, shop(t, p, "GET "+path, with("good")...), "200 OK", `user=["ann"] cgi=[]`, "Set-Cookie: session=renewed\r\n")
		has(t, shop(t, p, "GET "+path, with("nameless")...), "200 OK", `user=[] cgi=[]`)
		has(t, shop(t, p, "GET "+path, claims...), "401 ", `www-authenticate: Bearer realm="shop"`)
	}
	has(t, shop(t, p, "GET /either", claims...), "200 OK", `user=[] cgi=[]`) // nobody was asked
	has(t, shop(t, p, "HEAD /", with("good")...), "200 OK")
	has(t, shop(t, p, "POST /", append(with("good"), "Content-Length: 5", "", "hello")...), "200 OK", "reached POST 5")
	has(t, shop(t, p, "POST /", append(with("bad"), "Content-Length: 5", "", "hello")...), "401 ")
	has(t, shop(t, p, "GET /", with("forbidden")...), "403 ", "external_denied")
	has(t, shop(t, p, "GET /", with("elsewhere")...), "500 ", "external_failed")
	has(t, shop(t, p, "GET /", with("broken")...), "500 ", "external_failed")
	has(t, shop(t, p, "GET /", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="), "401 ")
	has(t, shop(t, p, "GET /sign/in?a=b&c=d"), "302 ",
		"location: https://login.test/start?x=1&back=http://shop.test"+url.QueryEscape("/sign/in?a=b&c=d")+"\r\n")
	for _, refused := range []string{"bad", "forbidden", "elsewhere", "broken"} {
		if answer := shop(t, p, "GET /", with(refused)...); strings.Contains(answer, "reached") {
			t.Errorf("%s gets in: %s", refused, answer)
		}
	}
	for reason, least := range map[exchange.Reason]uint64{exchange.ExternalDenied: 2, exchange.ExternalFailed: 4, exchange.SignIn: 1} {
		proxytest.Counted(t, p.Metrics, reason, least)
	}

	// Clients of gRPC get its own codes.
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	for _, c := range []struct{ path, token, code string }{
		{"/", "bad", "16"}, {"/", "forbidden", "7"}, {"/", "broken", "2"}, {"/sign", "bad", "16"},
	} {
		r, _ := http.NewRequest("POST", "http://"+p.Address+c.path, strings.NewReader("\x00\x00\x00\x00\x00"))
		r.Host = "shop.test"
		r.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "Authorization": {"Bearer " + c.token}}
		answer, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if got := answer.Header.Get("Grpc-Status"); answer.StatusCode != 200 || got != c.code {
			t.Errorf("%s with %s: status %d, grpc-status %q, want %s", c.path, c.token, answer.StatusCode, got, c.code)
		}
	}
}

// TestExternalAuthFaults: a service that does not answer as it should lets nobody in,
// whatever is wrong with it.
func TestExternalAuthFaults(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	says := func(text string) []string {
		return []string{rawPod(t, func(c net.Conn) {
			c.Read(make([]byte, 4096))
			io.WriteString(c, text)
			if strings.HasSuffix(text, "...") {
				io.Copy(io.Discard, c) // and no more, until the proxy hangs up
			}
		})}
	}
	web := speaker(t)
	for name, c := range map[string]struct {
		pods []string
		in   bool
	}{
		"missing":          {nil, false},
		"dead":             {[]string{dead}, false},
		"silent":           {says(""), false},
		"hanging":          {says("HTTP/1.1 200 OK\r\nX: ..."), false},
		"garbage":          {says("SSH-2.0-OpenSSH_9.2\r\n\r\n"), false},
		"no status":        {says("HTTP/1.1 \r\n\r\n"), false},
		"large head":       {says("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<17) + "\r\n\r\n"), false},
		"endless interims": {says(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: <"+strings.Repeat("x", 4000)+">\r\n\r\n", 40) + "HTTP/1.1 200 OK\r\n\r\n"), false},
		"only an interim":  {says("HTTP/1.1 100 Continue\r\n\r\n"), false},
		"switches":         {says("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), false},
		"after an interim": {says("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"), true},
		"slow body":        {says("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n..."), true},
		"endless body":     {says("HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("x", 1<<20)), true},
	} {
		t.Run(name, func(t *testing.T) {
			policy := asks(nil)
			policy.ReadTimeoutMs = 1000
			p := proxytest.Start(t, []proxytest.Service{
				{Name: "default/gate:80", Path: "/gate", Backends: c.pods},
				{Name: "default/web:80", Path: "/", Backends: []string{web}, Policy: policy},
			}, nil)
			answer := shop(t, p, "GET /")
			if c.in {
				has(t, answer, "200 OK", "reached GET")
				return
			}
			has(t, answer, "500 ", "external_failed")
			proxytest.Counted(t, p.Metrics, exchange.ExternalFailed, 1)
		})
	}
}

// TestExternalAuthCache: an answer is asked for once for each key and host, for as long as
// the rule says, and never kept where it brings a cookie.
func TestExternalAuthCache(t *testing.T) {
	service, asked := gate(t)
	kept := asks(func(a *feedpb.Access) {
		a.External.CacheKey = "$http_authorization"
		a.External.CacheFor = []*feedpb.CacheTime{{Status: []uint32{200, 401}, ForSeconds: 1}}
	})
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "default/gate:80", Path: "/gate", Backends: []string{service}},
		{Name: "default/web:80", Path: "/", Backends: []string{speaker(t)}, Policy: kept},
	}, nil)
	questions := func(n int, want int32, fields ...string) {
		t.Helper()
		before := asked.Load()
		for range n {
			shop(t, p, "GET /", fields...)
		}
		if got := asked.Load() - before; got != want {
			t.Errorf("%d questions about %d requests with %v, want %d", got, n, fields, want)
		}
	}
	questions(5, 1, "Authorization: Bearer nameless")
	questions(5, 1, "Authorization: Bearer unknown")
	questions(5, 5) // no key
	questions(5, 5, "Authorization: Bearer good")
	questions(5, 5, "Authorization: Bearer forbidden") // a status that is not to be kept
	has(t, shop(t, p, "GET /", "Authorization: Bearer unknown"), "401 ")
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		before := asked.Load()
		shop(t, p, "GET /", "Authorization: Bearer nameless")
		if asked.Load() > before {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("an answer is kept for ever")
		}
	}
}
