package policies

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/control/agent"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/look/explain"
	"github.com/kerngate/kerngate/userspace/look/status"
)

// explained is one request, by what explain is told of it and by how it is sent.
type explained struct {
	url    string
	method string
	fields []string
	body   int64
	from   string // a loopback address that the client has; "": 127.0.0.1, which explain is not told
	auth   int    // what the external auth service answers; explain is told
	hide   bool   // explain is not told
	when   string // the case of the explanation that is looked at, "": the answer itself
}

// result is what a client gets, and how the log names it.
type result struct {
	status   int
	reason   string
	location string
	service  string // whose pod has answered; "": none
}

// settingsOfAgent are those of the proxy, and so of the agent that explain asks.
var settingsOfAgent = &feedpb.Settings{TrustedProxies: []string{"127.0.0.0/8"}, AccessLogSample: 1, MaxBodyBytes: 5000}

// explain follows a request as kerngatectl does, with what the agent tells about the site's
// model, by way of JSON.
func (s *site) explain(c explained) explain.Explanation {
	s.t.Helper()
	target, err := explain.ParseTarget(c.url)
	if err != nil {
		s.t.Fatal(err)
	}
	if c.from != "" {
		target.From = netip.MustParseAddr(c.from)
	}
	target.Request = explain.Request{Method: c.method, Fields: c.fields, Body: c.body}
	if !c.hide {
		target.Request.AuthStatus = c.auth
	}
	if err := target.Check(); err != nil {
		s.t.Fatal(err)
	}
	in := explain.Input{Target: target, Maps: s.maps(), Routes: new(status.Routes)}
	copyJSON(s.t, agent.Routes(s.model, nil), in.Routes)
	if of, ok := explain.RuleOf(in); ok {
		query, ok := status.ParseRuleOf(of.Query())
		if !ok {
			s.t.Fatalf("%q cannot be read", of.Query())
		}
		in.Rules = new(status.Rules)
		copyJSON(s.t, agent.Rules(s.model, nil, settingsOfAgent, query), in.Rules)
	}
	in.RulesOf = func(of status.RuleOf) (*status.Rules, error) {
		rules := new(status.Rules)
		copyJSON(s.t, agent.Rules(s.model, nil, settingsOfAgent, of), rules)
		return rules, nil
	}
	return explain.Explain(in)
}

func copyJSON(t *testing.T, from, to any) {
	t.Helper()
	raw, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(raw, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// maps are those of a node that has the site's services.
func (s *site) maps() *explain.Maps {
	m := &explain.Maps{
		Serving: 1, Generations: []explain.Generation{{Number: 1, State: "serving", Workers: []explain.Worker{{Sockets: 2}}}},
		Listeners: []explain.Listener{{Address: netip.MustParseAddrPort("192.0.2.1:80"), Protocol: "TCP", Mode: "L7"}, {Address: netip.MustParseAddrPort("192.0.2.1:443"), Protocol: "TCP", Mode: "L7"}, {Address: netip.MustParseAddrPort("192.0.2.1:8080"), Protocol: "TCP", Mode: "L7"}},
	}
	for i, service := range s.model.Services {
		id := uint32(i + 1)
		one := explain.Service{ID: id, Name: service.Key.String(), Algorithm: "p2c"}
		if service.Key.Name != "empty" {
			one.Block, one.Backends = explain.Block{Count: 1}, []uint32{id}
			m.Backends = append(m.Backends, explain.Backend{ID: id, Address: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(id)), Protocol: "TCP"})
		}
		m.Services = append(m.Services, one)
	}
	return m
}

// send sends the request, and returns what has come back.
func (s *site) send(c explained) (got result) {
	s.t.Helper()
	scheme, rest, _ := strings.Cut(c.url, "://")
	host, target, _ := strings.Cut(rest, "/")
	method := c.method
	if method == "" {
		method = "GET"
	}
	var head strings.Builder
	fmt.Fprintf(&head, "%s /%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nX-Forwarded-Proto: %s\r\n", method, target, host, scheme)
	for _, f := range c.fields {
		head.WriteString(f + "\r\n")
	}
	if c.auth != 0 {
		fmt.Fprintf(&head, "X-Answer: %d\r\n", c.auth)
	}
	if c.body > 0 {
		fmt.Fprintf(&head, "Content-Length: %d\r\n", c.body)
	}
	head.WriteString("\r\n" + strings.Repeat("x", int(c.body)))
	from := c.from
	if from == "" {
		from = "127.0.0.1"
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	conn, err := dialer.Dial("tcp", s.proxy.Address)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	before := strings.Count(s.proxy.Log.String(), "\n")
	if _, err := io.WriteString(conn, head.String()); err != nil {
		s.t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		s.t.Fatalf("%s: %v", c.url, err)
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		s.t.Fatalf("%s: %v", c.url, err)
	}
	got = result{status: r.StatusCode, location: r.Header.Get("Location"), service: r.Header.Get("Pod")}
	if got.service != "" {
		got.location = "" // the pod's own
	}
	deadline := time.Now().Add(20 * time.Second)
	for strings.Count(s.proxy.Log.String(), "\n") == before {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: nothing in the log", c.url)
		}
		time.Sleep(time.Millisecond)
	}
	var line struct{ Reason string }
	lines := strings.Split(strings.TrimSpace(s.proxy.Log.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &line); err != nil {
		s.t.Fatal(err)
	}
	got.reason = line.Reason
	return got
}

// told is what an explanation says that the client gets.
func told(t *testing.T, x explain.Explanation, when string) (want result) {
	t.Helper()
	a := x.Answer
	summary := a.Summary
	want = result{status: a.Status, reason: a.Reason, location: a.Location, service: x.Service}
	if when != "" {
		i := slices.IndexFunc(a.Otherwise, func(o explain.Outcome) bool { return strings.Contains(o.When, when) })
		if i < 0 {
			t.Fatalf("%s: no case %q in %+v", x.URL, when, a.Otherwise)
		}
		o := a.Otherwise[i]
		summary = o.Summary
		want = result{status: o.Status, reason: o.Reason, location: o.Location}
		if _, rest, ok := strings.Cut(o.Summary, " of default/"); o.Reason == "forwarded" && ok {
			want.service = rest
		}
	}
	switch {
	case want.reason == "forwarded":
		want.status = 200
	case strings.Contains(summary, "takes its place"):
		want.status, want.service = 200, "errors"
	default:
		want.service = ""
	}
	want.service, _, _ = strings.Cut(strings.TrimPrefix(want.service, "default/"), ":")
	return want
}

// TestExplainAgrees: what explain says that a client gets is what a proxy answers, for
// every kind of rule: status, reason in the log, Location, and the service.
func TestExplainAgrees(t *testing.T) {
	const (
		secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: staff, namespace: default}\nstringData: {auth: \"ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\"}\n"
		right  = "Authorization: Basic YW5uOnNlY3JldA=="
		wrong  = "Authorization: Basic YW5uOndyb25n"
		signIn = "auth-signin: https://$host/oauth2/start?rd=$escaped_request_uri"
		gate   = "auth-url: http://auth.default.svc.cluster.local/verify"
	)
	tls := func(text string) string {
		return strings.Replace(text, "spec:\n", "spec:\n  tls: [{hosts: [tls.test], secretName: absent}]\n", 1)
	}
	s := serveWith(t, settingsOfAgent,
		ingress("plain", "plain.test", "/", "web"),
		ingress("gone", "gone.test", "/", "missing"),
		ingress("empty", "empty.test", "/", "empty"),
		ingress("fallback", "fallback.test", "/", "empty", "default-backend: errors"),
		ingress("pages", "pages.test", "/", "empty", "default-backend: errors", "custom-http-errors: 503,413,403,401", "denylist-source-range: 127.0.0.9", "proxy-body-size: 100"),
		ingress("closed", "closed.test", "/", "web", "auth-type: digest"),
		tls(ingress("tls", "tls.test", "/", "web")),
		ingress("force", "force.test", "/", "web", "force-ssl-redirect: true"),
		ingress("moved", "moved.test", "/", "web", "permanent-redirect: https://new.test$request_uri"),
		ingress("later", "later.test", "/", "missing", "temporal-redirect: https://new.test/$host", "auth-type: digest"),
		ingress("root", "root.test", "/", "web", "app-root: /app", "from-to-www-redirect: true"),
		ingress("slash", "slash.test", "/app/", "web", "enable-access-log: true"),
		ingress("allow", "allow.test", "/", "web", "allowlist-source-range: 127.0.0.2/32, 127.0.1.0/24"),
		ingress("deny", "deny.test", "/", "web", "denylist-source-range: 127.0.0.0/31"),
		ingress("basic", "basic.test", "/", "web", "auth-type: basic", "auth-secret: staff"),
		ingress("any", "any.test", "/", "web", "auth-type: basic", "auth-secret: staff", "satisfy: any", "allowlist-source-range: 127.0.0.2"),
		ingress("both", "both.test", "/", "web", "auth-type: basic", "auth-secret: staff", "allowlist-source-range: 127.0.0.2"),
		ingress("ask", "ask.test", "/", "web", gate, signIn),
		ingress("plainask", "plainask.test", "/", "web", gate),
		ingress("body", "body.test", "/", "web", "proxy-body-size: 1k"),
		ingress("large", "large.test", "/", "web", "proxy-body-size: 0"),
		ingress("rewrite", "rewrite.test", "/files(.*)", "web", "rewrite-target: /base/$1", "upstream-vhost: in.test"),
		ingress("elsewhere", "elsewhere.test", "/a/(.*)", "web", "rewrite-target: https://new.test/b/$1"),
		ingress("cors", "cors.test", "/", "web", "enable-cors: true", "cors-allow-origin: https://a.test"),
		ingress("snippet", "snippet.test", "/", "web", "configuration-snippet: return 418;"),
		ingress("old", "old.test", "/", "web", "configuration-snippet: rewrite ^/old/(.*)$ /new/$1 permanent;"),
		ingress("place", "place.test", "/", "web", "server-snippet: location ~* \"^/metrics\" { return 301 /login; } location = /hidden { deny all; } location /empty { } location /in { allow 127.0.0.2; deny all; }"),
		ingress("again", "again.test", "/a", "web", "configuration-snippet: rewrite ^/a/to/(.*)$ /b/$1 last; rewrite ^/a/loop(.*)$ /a/loop$1x last; rewrite ^/a/none$ /none last; rewrite ^/a/in/(.*)$ /c/$1; rewrite ^/a/deep/(.*)$ /a/to/$1 last; rewrite ^/a/up/(.*)$ /b/$1/.. last;"),
		ingress("again-b", "again.test", "/b", "beta", "denylist-source-range: 127.0.0.9"),
		ingress("again-c", "again.test", "/c", "web", "configuration-snippet: if ($arg_x) { return 418; } rewrite ^ /b/c last;"),
		ingress("before", "before.test", "/", "web", "server-snippet: rewrite ^/old/(.*)$ /new/$1 last;"),
		ingress("before-new", "before.test", "/new", "missing"),
		ingress("limited", "limited.test", "/", "web", "limit-rpm: 1", "limit-burst-multiplier: 2"),
		ingress("stable", "canary.test", "/", "web"),
		ingress("canary", "canary.test", "/", "beta", "canary: true", "canary-by-header: X-Canary", "canary-by-cookie: beta"),
		ingress("stable-all", "all.test", "/", "web"),
		ingress("canary-all", "all.test", "/", "beta", "canary: true", "canary-weight: 100"),
		ingress("stable-half", "half.test", "/", "web"),
		ingress("canary-half", "half.test", "/", "beta", "canary: true", "canary-weight: 50"),
		service("web"), service("beta"), service("empty"), service("errors"), service("auth"), secret)
	for _, c := range []explained{
		{url: "http://plain.test/"},
		{url: "http://plain.test/", body: 5001}, {url: "http://plain.test/", body: 5000}, {url: "http://large.test/", body: 5001},
		{url: "http://unknown.test/"}, {url: "http://gone.test/"}, {url: "http://empty.test/"}, {url: "http://fallback.test/"},
		{url: "http://pages.test/", from: "127.0.0.9"}, {url: "http://pages.test/", body: 200, from: "127.0.0.3"},
		{url: "http://closed.test/"},
		{url: "http://tls.test/a//b?c=d"}, {url: "https://tls.test/a"}, {url: "http://force.test/?x"},
		{url: "http://moved.test/x?y=z"}, {url: "https://moved.test/"}, {url: "http://later.test/"},
		{url: "http://root.test/"}, {url: "http://root.test:8080/"}, {url: "http://root.test/x"}, {url: "http://www.root.test/x?y"}, {url: "https://www.root.test/x?y"},
		{url: "http://slash.test/app?a=b"}, {url: "http://slash.test/app/"}, {url: "http://slash.test/other"},
		{url: "http://allow.test/", from: "127.0.0.2"}, {url: "http://allow.test/", from: "127.0.1.77"}, {url: "http://allow.test/", from: "127.0.0.3"},
		{url: "http://allow.test/", when: "is not in 127.0.0.2, 127.0.1.0/24"},
		{url: "http://deny.test/", from: "127.0.0.2"}, {url: "http://deny.test/", from: "127.0.0.1"}, {url: "http://deny.test/", when: "is in 127.0.0.0/31"},
		{url: "http://basic.test/"}, {url: "http://basic.test/", fields: []string{right}}, {url: "http://basic.test/", fields: []string{wrong}, when: "is wrong"},
		{url: "http://any.test/", from: "127.0.0.2"}, {url: "http://any.test/", from: "127.0.0.3"}, {url: "http://any.test/", from: "127.0.0.3", fields: []string{right}},
		{url: "http://any.test/", when: "is not in 127.0.0.2"},
		{url: "http://both.test/", from: "127.0.0.3", fields: []string{right}}, {url: "http://both.test/", from: "127.0.0.2"}, {url: "http://both.test/", from: "127.0.0.2", fields: []string{right}},
		{url: "http://ask.test/a?b=c", auth: 200}, {url: "http://ask.test/a?b=c", auth: 401}, {url: "http://ask.test/", auth: 403}, {url: "http://ask.test/", auth: 302},
		{url: "http://ask.test/a?b=c", auth: 401, hide: true, when: "service answers 401"}, {url: "http://ask.test/", auth: 403, hide: true, when: "service answers 403"}, {url: "http://ask.test/", auth: 500, hide: true, when: "anything else"},
		{url: "http://plainask.test/", auth: 401}, {url: "http://plainask.test/", auth: 204},
		{url: "http://body.test/", body: 1024}, {url: "http://body.test/", body: 1025}, {url: "http://body.test/", method: "POST", body: 1},
		{url: "http://rewrite.test/files/x"}, {url: "http://rewrite.test/files../x"},
		{url: "http://elsewhere.test/A/x%20y?z"}, {url: "http://elsewhere.test/b"},
		{url: "http://cors.test/", method: "OPTIONS", fields: []string{"Origin: https://a.test"}}, {url: "http://cors.test/", method: "OPTIONS", fields: []string{"Origin: https://b.test"}}, {url: "http://cors.test/"},
		{url: "http://snippet.test/"}, {url: "http://old.test/old/x?y"}, {url: "http://old.test/new/x"},
		{url: "http://place.test/METRICS/x"}, {url: "http://place.test/hidden"}, {url: "http://place.test/hidden2"}, {url: "http://place.test/empty/x"}, {url: "http://place.test/in", from: "127.0.0.2"}, {url: "http://place.test/in", from: "127.0.0.3"},
		{url: "http://canary.test/"}, {url: "http://canary.test/", fields: []string{"X-Canary: always"}}, {url: "http://canary.test/", fields: []string{"X-Canary: never", "Cookie: beta=always"}}, {url: "http://canary.test/", fields: []string{"Cookie: a=b; beta=always"}},
		{url: "http://all.test/"},
		{url: "http://again.test/a"}, {url: "http://again.test/a/to/x?y"}, {url: "http://again.test/a/to/x", from: "127.0.0.9"}, {url: "http://again.test/a/loop"}, {url: "http://again.test/a/none"},
		{url: "http://again.test/a/in/x"}, {url: "http://again.test/a/in/x?x=1"}, {url: "http://again.test/a/deep/x"}, {url: "http://again.test/a/up/x"},
		{url: "http://before.test/old/x"}, {url: "http://before.test/x"},
	} {
		x := s.explain(c)
		if want, got := told(t, x, c.when), s.send(c); got != want {
			t.Errorf("%+v:\nexplained %+v\nanswered  %+v\n%+v", c, want, got, x.Answer)
		}
	}

	// Paths that a proxy refuses are refused, and those that it changes are changed.
	for _, path := range []string{"/a/../b", "/a/%2e%2e/b", "//a", "/a//../b", "/a%2f../b", "/a%5c../b", `/a\b`, "/a%0a", "/..;/a", "/..", "/%00", "/a;b", "/a%2fb"} {
		c := explained{url: "http://plain.test" + path}
		got := s.send(c)
		if _, err := explain.ParseTarget(c.url); (err == nil) != (got.status != 400) {
			t.Errorf("%s: explained with %v, answered %+v", c.url, err, got)
		}
		if c.url = "http://tls.test" + path; got.status == 200 {
			if want, got := told(t, s.explain(c), ""), s.send(c); got != want {
				t.Errorf("%s: explained %+v, answered %+v", c.url, want, got)
			}
		}
	}

	// Limits count, so that the first requests pass, and what exceeds them is as explained.
	limited := explained{url: "http://limited.test/", when: "the client address exceeds 1 request per minute, and 2 more in a burst"}
	for i := range 5 {
		want := told(t, s.explain(limited), limited.when)
		if i < 3 {
			want = told(t, s.explain(limited), "")
		}
		if got := s.send(limited); got != want {
			t.Errorf("request %d: explained %+v, answered %+v", i+1, want, got)
		}
	}

	// A share at random: both services answer, as the explanation says.
	half := explained{url: "http://half.test/"}
	x := s.explain(half)
	if len(x.Shares) != 2 || x.Shares[0].Probability != 0.5 || x.Shares[1].Probability != 0.5 {
		t.Errorf("shares %+v", x.Shares)
	}
	seen := map[string]bool{}
	for range 200 {
		seen[s.send(half).service] = true
	}
	if !seen["web"] || !seen["beta"] {
		t.Errorf("of 200 requests only %v answered", seen)
	}
}
