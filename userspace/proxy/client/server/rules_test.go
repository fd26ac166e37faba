package server_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// echo is a pod that tells what it got.
func echo(t *testing.T, name string) string {
	return pod(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Pod", name)
		w.Header().Set("Server", "pod")
		w.Header().Add("Set-Cookie", "a=1; Domain=pod.local; Path=/in")
		if r.URL.Path == "/in/redirect" {
			w.Header().Set("Location", "http://pod.local/in/next")
			w.WriteHeader(http.StatusFound)
		}
		fmt.Fprintf(w, "%s %s host=%s forwarded-host=%s body=%d x=%s\n", r.Method, r.RequestURI, r.Host, r.Header.Get("X-Forwarded-Host"), len(body), r.Header.Values("X-Rule"))
	})
}

// shop sends one request for shop.test on a connection of its own.
func shop(t *testing.T, p *proxytest.Proxy, line string, fields ...string) string {
	t.Helper()
	return talk(t, p, line+" HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n"+strings.Join(append(fields, ""), "\r\n")+"\r\n")
}

func has(t *testing.T, answer string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(answer, part) {
			t.Errorf("%q is missing in\n%s", part, answer)
		}
	}
}

// TestRules: what the rules of a route do to requests and responses on their way.
func TestRules(t *testing.T) {
	p := proxytest.Start(t, []proxytest.Service{{
		Name: "default/web:80", Path: "/api(/|$)(.*)", Regexp: true, Backends: []string{echo(t, "web")},
		Policy: &feedpb.Policy{
			Rewrite: "/in/$2", Host: "inner.test",
			RequestHeaders:  []*feedpb.HeaderRule{{Name: "X-Rule", Value: "$scheme:$request_uri"}, {Name: "X-Forwarded-Host", Value: "rule.test"}},
			ResponseHeaders: []*feedpb.HeaderRule{{Name: "Server"}, {Name: "X-Frame-Options", Value: "DENY"}},
			CookieDomains:   []*feedpb.Replacement{{From: "pod.local", To: "shop.test"}},
			CookiePaths:     []*feedpb.Replacement{{From: "/in", To: "/api"}},
			Locations:       []*feedpb.Replacement{{From: "http://pod.local/in/", To: "/api/"}},
			Cors:            &feedpb.CORS{Origins: []string{"https://a.test"}, Methods: []string{"GET"}, Headers: []string{"X-A"}, MaxAgeSeconds: 5},
			MaxBodyBytes:    new(uint64(10)),
			Redirects:       []*feedpb.Redirect{{Path: "/api/old", Status: 308, Target: "$scheme://$http_host/api/new$is_args$args"}},
		},
	}}, &feedpb.Settings{AccessLogSample: 1, MaxBodyBytes: 5})

	answer := shop(t, p, "GET /API/x%20y?q=1", "X-Rule: client", "Origin: https://a.test")
	has(t, answer, "200 OK", "GET /in/x%20y?q=1 host=inner.test forwarded-host=rule.test body=0 x=[http:/API/x%20y?q=1]",
		"X-Frame-Options: DENY\r\n", "Set-Cookie: a=1; Domain=shop.test; Path=/api\r\n", "Access-Control-Allow-Origin: https://a.test\r\n")
	if strings.Contains(answer, "Server: pod") {
		t.Errorf("a removed field arrives:\n%s", answer)
	}
	has(t, shop(t, p, "GET /api/redirect"), "302 Found", "Location: /api/next\r\n")
	has(t, shop(t, p, "GET /api/old?a=b"), "308 ", "location: http://shop.test/api/new?a=b\r\n", "Content-Length: 0\r\n")
	has(t, shop(t, p, "OPTIONS /api/x", "Origin: https://a.test"), "204 ", "access-control-allow-methods: GET\r\n")
	has(t, shop(t, p, "OPTIONS /api/x", "Origin: https://b.test"), "200 OK", "OPTIONS /in/x")
	has(t, shop(t, p, "POST /api/x", "Content-Length: 10", "", "0123456789"), "200 OK", "body=10")
	has(t, shop(t, p, "POST /api/x", "Content-Length: 11", "", "0123456789a"), "413 ", "body_too_large")
	has(t, shop(t, p, "GET /api/../api../x"), "404 ")
	has(t, shop(t, p, "GET /other"), "404 ")
	for deadline := time.Now().Add(5 * time.Second); strings.Count(p.Log.String(), "\n") < 9; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("log: %s", p.Log)
		}
	}
	has(t, p.Log.String(), `"path":"/API/x%20y","query":"q=1"`, `"reason":"rule_answered"`)
}

// TestAccessRules: nobody gets past an access rule, and each refusal is counted.
func TestAccessRules(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), 6)
	if err != nil {
		t.Fatal(err)
	}
	web := echo(t, "web")
	rule := func(path string, p *feedpb.Policy) proxytest.Service {
		return proxytest.Service{Name: "default/" + path[1:] + ":80", Path: path, Policy: p, Backends: []string{web}}
	}
	users := &feedpb.BasicAuth{Realm: "staff", Users: []byte("ann:" + string(hash))}
	p := proxytest.Start(t, []proxytest.Service{
		rule("/basic", &feedpb.Policy{Access: &feedpb.Access{Basic: users}}),
		rule("/inside", &feedpb.Policy{Access: &feedpb.Access{Allow: []string{"127.0.0.0/8"}}}),
		rule("/outside", &feedpb.Policy{Access: &feedpb.Access{Allow: []string{"192.0.2.0/24"}}}),
		rule("/closed", &feedpb.Policy{Access: &feedpb.Access{Closed: "the Secret is missing"}}),
		rule("/limited", &feedpb.Policy{Limits: &feedpb.Limits{Rates: []*feedpb.Rate{{Requests: 1, PeriodMs: 60000, Burst: 2}}, Status: 429, Scope: "a"}}),
	}, nil)
	const right, wrong = "Authorization: Basic YW5uOnNlY3JldA==", "Authorization: Basic YW5uOndyb25n"
	has(t, shop(t, p, "GET /basic"), "401 ", `www-authenticate: Basic realm="staff", charset="UTF-8"`+"\r\n")
	has(t, shop(t, p, "GET /basic", wrong), "401 ")
	for range 3 {
		has(t, shop(t, p, "GET /basic", right), "200 OK", "GET /basic")
	}
	has(t, shop(t, p, "GET /%62asic/../basic/x"), "401 ")
	has(t, shop(t, p, "GET //basic"), "401 ")
	has(t, shop(t, p, "GET /inside"), "200 OK")
	has(t, shop(t, p, "GET /outside"), "403 ", "source_denied")
	has(t, shop(t, p, "GET /closed", right), "503 ", "access_closed")
	for i := range 5 {
		want := "200 OK"
		if i > 2 {
			want = "429 "
		}
		has(t, shop(t, p, "GET /limited"), want)
	}
	// Many at once, right and wrong, on connections that also break off.
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			field, want := right, "HTTP/1.1 200"
			if i%2 == 0 {
				field, want = fmt.Sprintf("Authorization: Basic YW5uOndyb25n%02d==", i), "HTTP/1.1 401"
			}
			if i%5 == 4 {
				c := p.Dial(t)
				fmt.Fprintf(c, "GET /basic HTTP/1.1\r\nHost: shop.test\r\n%s\r\n\r\n", wrong)
				c.Close()
				return
			}
			if answer := shop(t, p, "GET /basic", field); !strings.HasPrefix(answer, want) {
				t.Errorf("want %s: %s", want, answer)
			}
		})
	}
	wg.Wait()
	for reason, least := range map[exchange.Reason]uint64{exchange.Unauthorized: 10, exchange.SourceDenied: 1, exchange.AccessClosed: 1, exchange.RateLimited: 2} {
		proxytest.Counted(t, p.Metrics, reason, least)
	}
}

// TestAtOnceRule: places are given back however a request ends.
func TestAtOnceRule(t *testing.T) {
	hold := make(chan struct{})
	web := pod(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			<-hold
		}
	})
	p := proxytest.Start(t, []proxytest.Service{{Name: "default/web:80", Path: "/", Backends: []string{web},
		Policy: &feedpb.Policy{Limits: &feedpb.Limits{Connections: 2, Status: 503, Scope: "a"}}}}, nil)
	for range 2 {
		fmt.Fprint(p.Dial(t), "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
	}
	for deadline := time.Now().Add(5 * time.Second); !strings.Contains(shop(t, p, "GET /"), "connection_limited"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the third at once is not refused")
		}
	}
	close(hold)
	for deadline := time.Now().Add(5 * time.Second); !strings.Contains(shop(t, p, "GET /"), "200 OK"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("places are not given back")
		}
	}
	for range 20 {
		has(t, shop(t, p, "GET /"), "200 OK")
	}
}

func TestCanaryRule(t *testing.T) {
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "default/main:80", Path: "/", Backends: []string{echo(t, "main")}},
		{Name: "default/beta:80", Backends: []string{echo(t, "beta")}, Canary: &feedpb.Split{Source: "default/beta", Header: "X-Beta", Cookie: "beta", Weight: 30, Total: 100}},
	}, nil)
	has(t, shop(t, p, "GET /", "X-Beta: always"), "Pod: beta")
	has(t, shop(t, p, "GET /", "X-Beta: never"), "Pod: main")
	has(t, shop(t, p, "GET /", "Cookie: beta=always"), "Pod: beta")
	n := 0
	for range 300 {
		if strings.Contains(shop(t, p, "GET /"), "Pod: beta") {
			n++
		}
	}
	if n < 50 || n > 130 {
		t.Errorf("%d of 300 with weight 30 %%", n)
	}
}

// TestSplit: a split may have rules of its own and another way to speak to pods.
func TestSplit(t *testing.T) {
	pod := httptest.NewTLSServer(http.HandlerFunc(emptied))
	t.Cleanup(pod.Close)
	plain, tls := echo(t, "plain"), pod.Listener.Addr().String()
	header := func(value string) *feedpb.Policy {
		return &feedpb.Policy{ResponseHeaders: []*feedpb.HeaderRule{{Name: "X-Rules", Value: value}}}
	}
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "default/main:80", Path: "/", Backends: []string{plain}, Policy: header("route")},
		{Name: "default/own:80", Backends: []string{plain}, Policy: header("split"), Canary: &feedpb.Split{Source: "default/r", SourceKind: "HTTPRoute", Header: "X-Own"}},
		{Name: "default/tls:443", Backends: []string{tls}, Upstream: &feedpb.Upstream{Tls: &feedpb.UpstreamTLS{}}, Canary: &feedpb.Split{Source: "default/r", SourceKind: "HTTPRoute", Header: "X-TLS"}},
	}, &feedpb.Settings{AccessLogSample: 1})
	has(t, shop(t, p, "GET /"), "Pod: plain", "X-Rules: route")
	has(t, shop(t, p, "GET /", "X-Own: always"), "Pod: plain", "X-Rules: split")
	has(t, shop(t, p, "GET /", "X-TLS: always"), "200 OK", "X-Rules: route")
	waitFor(t, func() bool {
		return strings.Count(p.Log.String(), `"ingress":"default/r","route_kind":"HTTPRoute"`) == 2 && strings.Count(p.Log.String(), `"ingress":"default/test"`) == 1
	})
}

// TestConditions: routes of one path differ by what else they want of a request.
func TestConditions(t *testing.T) {
	when := func(c *feedpb.Conditions) func(*feedpb.Host, *feedpb.Route) {
		return func(_ *feedpb.Host, r *feedpb.Route) { r.When = c }
	}
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "default/post:80", Path: "/x", Backends: []string{echo(t, "post")}, Change: when(&feedpb.Conditions{Method: "POST"})},
		{Name: "default/v2:80", Path: "/x", Backends: []string{echo(t, "v2")}, Change: when(&feedpb.Conditions{
			Headers: []*feedpb.Comparison{{Name: "Version", Value: "2, 3"}}, Query: []*feedpb.Comparison{{Name: "q", Value: "[a-c]+", Regexp: true}}})},
		{Name: "default/tls:80", Path: "/x", Backends: []string{echo(t, "tls")}, Change: when(&feedpb.Conditions{Scheme: "https"})},
		{Name: "default/clear:80", Path: "/clear", Backends: []string{echo(t, "clear")}, Change: when(&feedpb.Conditions{Scheme: "http"})},
		{Name: "default/rest:80", Path: "/", Backends: []string{echo(t, "rest")}},
	}, nil)
	has(t, shop(t, p, "GET /x", "X-Forwarded-Proto: https"), "Pod: rest") // the listener's, whatever is said
	has(t, shop(t, p, "GET /clear"), "Pod: clear")
	has(t, shop(t, p, "POST /x", "Content-Length: 0"), "Pod: post")
	has(t, shop(t, p, "GET /x/y?q=abc", "Version: 2, 3"), "Pod: v2")
	has(t, shop(t, p, "GET /x?q=abc", "Version: 2", "Version: 3"), "Pod: v2")
	has(t, shop(t, p, "GET /x?q=abd", "Version: 2, 3"), "Pod: rest")
	has(t, shop(t, p, "GET /x?q=abc"), "Pod: rest")
}

// TestRedirectWithoutService: a rule that answers needs no pod.
func TestRedirectWithoutService(t *testing.T) {
	p := proxytest.Start(t, []proxytest.Service{{Name: "default/none:80", Path: "/", Policy: &feedpb.Policy{
		Redirects: []*feedpb.Redirect{{Status: 301, Target: "https://www.$host$request_uri"}}}}}, nil)
	has(t, shop(t, p, "GET /a?b"), "301 ", "location: https://www.shop.test/a?b\r\n")
	has(t, shop(t, p, "GET /%0d%0aX-Evil:%201"), "400 ", "control_in_path")
}
