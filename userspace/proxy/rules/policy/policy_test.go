package policy

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/rules/limit"
	"github.com/kerngate/kerngate/userspace/route"
)

// request parses a head as a client sends it.
func request(t testing.TB, line string, fields ...string) *Request {
	t.Helper()
	r := &http1.Request{}
	head := line + " HTTP/1.1\r\nHost: Shop.Example:8080\r\n" + strings.Join(append(fields, ""), "\r\n") + "\r\n"
	if _, err := r.Parse([]byte(head), message.DefaultLimits); err != nil {
		t.Fatalf("%q: %v", head, err)
	}
	normal, err := route.NormalisePath(nil, r.Path)
	if err == route.ErrPathControl { // which no rule may depend on
		var path string
		path, err = url.PathUnescape(string(r.Path))
		normal = []byte(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	q := &Request{}
	q.Of(&r.Request, normal)
	q.Client, q.Port, q.Now = netip.MustParseAddr("192.0.2.7"), 80, int64(time.Hour)
	return q
}

func response(t testing.TB, fields ...string) *message.Response {
	t.Helper()
	r := &http1.Response{}
	head := "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + strings.Join(append(fields, ""), "\r\n") + "\r\n"
	if _, err := r.Parse([]byte(head), message.DefaultLimits, message.MethodGet); err != nil {
		t.Fatal(err)
	}
	return &r.Response
}

func compile(t testing.TB, p *feedpb.Policy, path string, regexp bool) *Policy {
	t.Helper()
	c, err := Compile(p, path, regexp)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRewrite(t *testing.T) {
	for _, c := range []struct {
		path   string
		regexp bool
		target string
		line   string
		want   string // path and query, "" if kept, "unsafe"
	}{
		{"/something(/|$)(.*)", true, "/$2", "GET /something/new?a=b", "/new?a=b"},
		{"/something(/|$)(.*)", true, "/$2", "GET /something", "/"},
		{"/something(/|$)(.*)", true, "/$2", "GET /Something/%41%20b%2Fc", "/A%20b/c"},
		{"/api/v([0-9]+)/(.*)", true, "/v$1/api/$2", "GET /api/v12/users", "/v12/api/users"},
		{"/", true, "/", "GET /anything", "/"},
		{"/app", false, "/index.php", "GET /app/x", "/index.php"},
		{"/a.b", false, "/$1", "GET /a.b", "/"},
		{"/(.*)", true, "/$1", "GET //host/x", "/host/x"},
		{"/x(.*)", true, "/$1", "GET /x/y", "/y"},
		{"/x(.*)", true, "$1", "GET /x/y", "/y"},
		{"/p/(.*)", true, "/q?page=$1", "GET /p/7?a=b", "/q?page=7&a=b"},
		{"/p/(.*)", true, "/q?page=$1", "GET /p/7", "/q?page=7"},
		{"/p/(.*)", true, "/q/$1?", "GET /p/7?a=b", "/q/7"},
		{"/p/(.*)", true, "/q?x=$1?", "GET /p/7?a=b", "/q?x=7"},
		{"/p/(.*)", true, "/q?x=$1", "GET /p/7%26y=%0a", "/q?x=7%26y%3D%0A"},
		{"/files(.*)", true, "/base/$1", "GET /files../secret", "unsafe"},
		{"/files(.*)", true, "/base/$1", "GET /files./secret", "unsafe"},
		{"/files(.*)", true, "/base/.$1", "GET /files.", "unsafe"},
		{"/files(.*)", true, "/base/$1", "GET /files..x", "/base/..x"},
		{"/a", true, "/é", "GET /a", "/%C3%A9"},
		{"/v[0-9]+/(.*)", true, "/$1", "GET /v1/x%0d%0aHost:%20evil", "/x%0D%0AHost:%20evil"},
	} {
		p := compile(t, &feedpb.Policy{Rewrite: c.target}, c.path, c.regexp)
		_, path, query, outcome := p.Rewrite(nil, request(t, c.line))
		got := string(path)
		if query != nil {
			got += "?" + string(query)
		}
		if outcome == Unsafe {
			got = "unsafe"
		}
		if got != c.want {
			t.Errorf("%s to %s, %s: %q, want %q", c.path, c.target, c.line, got, c.want)
		}
	}
	for _, target := range []string{"/$", "/$a", "/a b", "/a\r\nb", "/$0", "/" + strings.Repeat("a", 3000)} {
		if _, err := Compile(&feedpb.Policy{Rewrite: target}, "/(.*)", true); err == nil {
			t.Errorf("target %.20q is taken", target)
		}
	}
	if _, err := Compile(&feedpb.Policy{Rewrite: "/"}, "/(", true); err == nil {
		t.Error("an invalid path is taken")
	}
}

func TestRedirect(t *testing.T) {
	p := compile(t, &feedpb.Policy{Redirects: []*feedpb.Redirect{
		{Path: "/", Status: 302, Target: "$scheme://$http_host/app"},
		{Path: "/gone", Status: 410},
		{Path: "/n", Status: 301, Target: "https://$host$uri$is_args$args"},
		{Path: "/n\r\nx", Status: 301, Target: "https://new.example$uri"},
	}}, "/", false)
	for line, want := range map[string]string{
		"GET /":         "302 http://Shop.Example:8080/app",
		"GET /?a=b":     "302 http://Shop.Example:8080/app",
		"GET /gone":     "410 ",
		"GET /n?a=b":    "301 https://shop.example/n?a=b",
		"GET /n":        "301 https://shop.example/n",
		"GET /n%0d%0ax": "301 https://new.example/n%0D%0Ax",
		"GET /other":    "",
	} {
		got := ""
		if a := p.Answer(request(t, line)); a != nil {
			got = map[int]string{301: "301", 302: "302", 410: "410"}[a.Status] + " "
			for _, f := range a.Fields {
				got += f.Value
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	for _, r := range []*feedpb.Redirect{{Status: 302, Pattern: "(", Target: "/"}, {Status: 302, Pattern: "^/a", Target: "/$1"}, {Status: 302, Pattern: strings.Repeat("a", 1025), Target: "/"}, {Status: 302}, {Status: 99, Target: "/"}, {Status: 600}, {Status: 301, Target: "$1"}, {Status: 301, Target: "/a\nb"}} {
		if _, err := Compile(&feedpb.Policy{Redirects: []*feedpb.Redirect{r}}, "/", false); err == nil {
			t.Errorf("%v is taken", r)
		}
	}
}

func fields(r *message.Response) string {
	return string(http1.AppendEndToEnd(nil, r.Fields, 0))
}

func TestResponseHeaders(t *testing.T) {
	p := compile(t, &feedpb.Policy{
		ResponseHeaders: []*feedpb.HeaderRule{
			{Op: feedpb.HeaderRule_SET, Name: "X-Frame-Options", Value: "DENY"},
			{Op: feedpb.HeaderRule_ADD, Name: "Link", Value: "<$uri>"},
			{Op: feedpb.HeaderRule_SET, Name: "Server"},
			{Op: feedpb.HeaderRule_DEFAULT, Name: "Cache-Control", Value: "no-store"},
			{Op: feedpb.HeaderRule_DEFAULT, Name: "X-There", Value: "mine"},
			{Op: feedpb.HeaderRule_SET, Name: "X-Echo", Value: "$http_x_echo"},
		},
		CookieDomains: []*feedpb.Replacement{{From: "backend.local", To: "shop.example"}},
		CookiePaths:   []*feedpb.Replacement{{From: "/app(/.*)?$", To: "/x$1", Pattern: true}, {From: "/", To: "/root/"}},
		Locations:     []*feedpb.Replacement{{From: "http://backend.local/", To: "https://shop.example/"}},
	}, "/", false)
	r := response(t, "x-frame-options: SAMEORIGIN", "Link: </a>", "Server: pod", "X-There: theirs",
		"Set-Cookie: path=1; Path=/app/y; Domain=backend.local; HttpOnly", "Set-Cookie: b=2; path=/z", "Set-Cookie: c=3",
		"Location: http://backend.local/next", "Refresh: 5; url=http://backend.local/r")
	p.EditResponse(nil, request(t, "GET /a%0d%0ab", "X-Echo: hi"), r)
	want := "Link: </a>\r\nX-There: theirs\r\n" +
		"Set-Cookie: path=1; Path=/x/y; Domain=shop.example; HttpOnly\r\nSet-Cookie: b=2; path=/root/z\r\nSet-Cookie: c=3\r\n" +
		"Location: https://shop.example/next\r\nRefresh: 5; url=https://shop.example/r\r\n" +
		"X-Frame-Options: DENY\r\nLink: </a%0D%0Ab>\r\nCache-Control: no-store\r\nX-Echo: hi\r\n"
	if got := fields(r); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, h := range []*feedpb.HeaderRule{
		{Name: "", Value: "x"}, {Name: "a b", Value: "x"}, {Name: "a\r\nb", Value: "x"}, {Name: "a:", Value: "x"},
		{Name: "X-A", Value: "a\r\nb"}, {Name: "X-A", Value: "a\x00"}, {Name: "Content-Length", Value: "1"},
		{Name: "Transfer_Encoding", Value: "chunked"}, {Name: "Connection", Value: "x"}, {Name: "X-A", Value: "$nonsense"},
	} {
		if _, err := Compile(&feedpb.Policy{ResponseHeaders: []*feedpb.HeaderRule{h}}, "/", false); err == nil {
			t.Errorf("%v is taken", h)
		}
	}
}

func TestCORS(t *testing.T) {
	rule := &feedpb.CORS{
		Origins: []string{"https://one.example", "https://*.two.example:8443"}, Methods: []string{"GET", "PUT"},
		Headers: []string{"X-A", "Authorization"}, Expose: []string{"X-B"}, Credentials: true, MaxAgeSeconds: 60,
	}
	p := compile(t, &feedpb.Policy{Cors: rule}, "/", false)
	for origin, want := range map[string]bool{
		"https://one.example": true, "https://ONE.example": true, "https://one.example.evil": false, "https://xone.example": false,
		"http://one.example": false, "https://a.two.example:8443": true, "https://a.b.two.example:8443": false,
		"https://.two.example:8443": false, "https://two.example:8443": false, "null": false, "": false,
	} {
		answer := p.Answer(request(t, "OPTIONS /", "Origin: "+origin, "Access-Control-Request-Method: PUT"))
		if (answer != nil) != want {
			t.Errorf("%q: preflight %v", origin, answer)
		}
		if want && (answer.Status != 204 || answer.Fields[0].Value != origin || answer.Fields[1].Value != "true") {
			t.Errorf("%q: %v", origin, answer)
		}
		r := response(t, "Access-Control-Allow-Origin: https://pod.example", "Vary: Accept")
		p.EditResponse(nil, request(t, "GET /", "Origin: "+origin), r)
		head := fields(r)
		if strings.Contains(head, "pod.example") == want || strings.Contains(head, "Access-Control-Allow-Origin: "+origin+"\r\n") != want ||
			!strings.Contains(head, "Vary: Origin\r\n") || strings.Contains(head, "Expose") != want {
			t.Errorf("%q: response\n%s", origin, head)
		}
	}
	if p.Answer(request(t, "GET /", "Origin: https://one.example")) != nil {
		t.Error("GET is answered as a preflight")
	}
	rule.Origins, rule.Credentials = []string{"*"}, false
	p = compile(t, &feedpb.Policy{Cors: rule}, "/", false)
	if a := p.Answer(request(t, "OPTIONS /")); a == nil || a.Fields[0].Value != "*" {
		t.Errorf("any origin: %v", a)
	}
	for _, origin := range []string{"one.example", "https://", "https://*", "https://*a.example", "https://a/b", "https://a\r\nb", "https://a b"} {
		if _, err := Compile(&feedpb.Policy{Cors: &feedpb.CORS{Origins: []string{origin}}}, "/", false); err == nil {
			t.Errorf("origin %q is taken", origin)
		}
	}
	for _, method := range []string{"", "GET\r\nX: y", "G T", "a,b"} {
		if _, err := Compile(&feedpb.Policy{Cors: &feedpb.CORS{Methods: []string{method}}}, "/", false); err == nil {
			t.Errorf("method %q is taken", method)
		}
	}
}

// TestDividedLimits: of three proxies each lets a third through, the burst's too.
func TestDividedLimits(t *testing.T) {
	p := compile(t, &feedpb.Policy{Limits: &feedpb.Limits{
		Rates: []*feedpb.Rate{{Requests: 60, PeriodMs: 60000, Burst: 29}}, Connections: 7, Status: 503, Scope: "ns/a",
	}}, "/", false)
	by := limit.New(16)
	q := request(t, "GET /")
	q.Proxies = 3
	held := make([]Admitted, 3) // 7 at once, of three: 3 each
	for i := range held {
		if v, _ := p.Admit(q, by, &held[i]); v != Pass {
			t.Errorf("request %d: %d", i, v)
		}
	}
	var a Admitted
	if v, _ := p.Admit(q, by, &a); v != TooManyAtOnce {
		t.Errorf("four at once: %d", v)
	}
	for i := range held {
		held[i].Release()
	}
	passed := 4 // so many have used up some of the rate, the refused one among them
	for range 60 {
		if v, _ := p.Admit(q, by, &a); v == Pass {
			passed++
			a.Release()
		}
	}
	if passed != 10 {
		t.Errorf("%d of 60 at one moment: want a third of a burst of 29, and one", passed)
	}
	q.Now += 30e9
	passed = 0
	for range 60 {
		if v, _ := p.Admit(q, by, &a); v == Pass {
			passed++
			a.Release()
		}
	}
	if passed != 10 {
		t.Errorf("%d of 60 after half a minute: want a third of 30", passed)
	}
}

func TestLimits(t *testing.T) {
	p := compile(t, &feedpb.Policy{Limits: &feedpb.Limits{
		Rates:       []*feedpb.Rate{{Requests: 10, PeriodMs: 1000, Burst: 4}, {Requests: 6, PeriodMs: 60000, Burst: 5}},
		Connections: 2, Exempt: []string{"198.51.100.0/24"}, Status: 503, Scope: "ns/a",
	}}, "/", false)
	by := limit.New(16)
	q := request(t, "GET /")
	var first, second, third Admitted
	for i, a := range []*Admitted{&first, &second} {
		if v, _ := p.Admit(q, by, a); v != Pass {
			t.Errorf("request %d: %d", i, v)
		}
	}
	if v, _ := p.Admit(q, by, &third); v != TooManyAtOnce {
		t.Errorf("third at once: %d", v)
	}
	third.Release()
	first.Release()
	first.Release()
	if v, _ := p.Admit(q, by, &third); v != Pass {
		t.Error("the place that came free is not given")
	}
	third.Release()
	second.Release()
	if v, _ := p.Admit(q, by, &third); v != Pass {
		t.Error("the fifth is refused")
	}
	third.Release()
	if v, _ := p.Admit(q, by, &third); v != TooMany {
		t.Error("the sixth is within the burst of four")
	}
	q.Client = netip.MustParseAddr("198.51.100.1")
	for range 100 {
		if v, _ := p.Admit(q, by, &third); v != Pass {
			t.Fatal("an exempt client is limited")
		}
	}
	for _, l := range []*feedpb.Limits{{Status: 503}, {Scope: "a", Status: 200}, {Scope: "a", Status: 503, Exempt: []string{"x"}}, {Scope: "a", Status: 503, Rates: []*feedpb.Rate{{}}}} {
		if _, err := Compile(&feedpb.Policy{Limits: l}, "/", false); err == nil {
			t.Errorf("%v is taken", l)
		}
	}
}

func TestAccess(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	basic := &feedpb.BasicAuth{Realm: "staff", Users: []byte("ann:" + string(hash))}
	const right, wrong = "Authorization: basic YW5uOnNlY3JldA==", "Authorization: Basic YW5uOndyb25n"
	for _, c := range []struct {
		name   string
		rule   *feedpb.Access
		fields []string
		want   Verdict
	}{
		{"allowed source", &feedpb.Access{Allow: []string{"192.0.2.0/24"}}, nil, Pass},
		{"other source", &feedpb.Access{Allow: []string{"192.0.3.0/24"}}, nil, SourceDenied},
		{"denied source", &feedpb.Access{Deny: []string{"192.0.2.7"}}, nil, SourceDenied},
		{"deny before allow", &feedpb.Access{Allow: []string{"192.0.2.0/24"}, Deny: []string{"192.0.2.7"}}, nil, SourceDenied},
		{"closed", &feedpb.Access{Closed: "no Secret"}, []string{right}, Closed},
		{"closed before any", &feedpb.Access{Closed: "no Secret", Any: true, Allow: []string{"192.0.2.0/24"}}, nil, Closed},
		{"no password", &feedpb.Access{Basic: basic}, nil, NeedPassword},
		{"right password", &feedpb.Access{Basic: basic}, []string{right}, Pass},
		{"wrong password", &feedpb.Access{Basic: basic}, []string{wrong}, NeedPassword},
		{"two passwords", &feedpb.Access{Basic: basic}, []string{right, wrong}, NeedPassword},
		{"another scheme", &feedpb.Access{Basic: basic}, []string{"Authorization: Bearer YW5uOnNlY3JldA=="}, NeedPassword},
		{"no base64", &feedpb.Access{Basic: basic}, []string{"Authorization: Basic ***"}, NeedPassword},
		{"much too long", &feedpb.Access{Basic: basic}, []string{"Authorization: Basic " + strings.Repeat("YW5u", 2000)}, NeedPassword},
		{"both: source fails", &feedpb.Access{Basic: basic, Allow: []string{"192.0.3.0/24"}}, []string{right}, SourceDenied},
		{"both: password fails", &feedpb.Access{Basic: basic, Allow: []string{"192.0.2.0/24"}}, []string{wrong}, NeedPassword},
		{"any: source", &feedpb.Access{Basic: basic, Any: true, Allow: []string{"192.0.2.0/24"}}, nil, Pass},
		{"any: password", &feedpb.Access{Basic: basic, Any: true, Allow: []string{"192.0.3.0/24"}}, []string{right}, Pass},
		{"any: neither", &feedpb.Access{Basic: basic, Any: true, Allow: []string{"192.0.3.0/24"}}, []string{wrong}, NeedPassword},
		{"any without ranges lets nobody in", &feedpb.Access{Basic: basic, Any: true}, nil, NeedPassword},
	} {
		p := compile(t, &feedpb.Policy{Access: c.rule}, "/", false)
		for range 2 { // the second time with what is remembered
			var a Admitted
			v, check := p.Admit(request(t, "GET /", c.fields...), nil, &a)
			if v == Verify {
				if v = NeedPassword; check.Run() {
					v = Pass
				}
			}
			if v != c.want {
				t.Errorf("%s: %d, want %d", c.name, v, c.want)
			}
		}
	}
	p := compile(t, &feedpb.Policy{Access: &feedpb.Access{Basic: basic}}, "/", false)
	_, check := p.Admit(request(t, "GET /", right), nil, nil)
	if !check.Run() {
		t.Fatal("not verified")
	}
	if v, _ := p.Admit(request(t, "GET /", right), nil, nil); v != Pass {
		t.Error("a verified password is verified again")
	}
	if v, _ := p.Admit(request(t, "GET /", wrong), nil, nil); v != Verify {
		t.Error("a wrong password profits from the right one")
	}
	for _, a := range []*feedpb.Access{{Allow: []string{"x"}}, {Deny: []string{"x"}}, {Basic: &feedpb.BasicAuth{}}, {Basic: &feedpb.BasicAuth{Realm: "a\"b", Users: basic.Users}}} {
		if _, err := Compile(&feedpb.Policy{Access: a}, "/", false); err == nil {
			t.Errorf("%v is taken", a)
		}
	}
}

func TestCanary(t *testing.T) {
	for _, c := range []struct {
		name   string
		rule   *feedpb.Split
		fields []string
		want   bool
	}{
		{"always", &feedpb.Split{Header: "X-Canary"}, []string{"x-canary: always"}, true},
		{"never before weight", &feedpb.Split{Header: "X-Canary", Weight: 100, Total: 100}, []string{"x-canary: never"}, false},
		{"other value falls through", &feedpb.Split{Header: "X-Canary", Weight: 100, Total: 100}, []string{"x-canary: maybe"}, true},
		{"value", &feedpb.Split{Header: "X-Canary", Value: "beta"}, []string{"x-canary: beta"}, true},
		{"value differs", &feedpb.Split{Header: "X-Canary", Value: "beta"}, []string{"x-canary: always"}, false},
		{"pattern", &feedpb.Split{Header: "X-Canary", Pattern: "^b[0-9]$"}, []string{"x-canary: b7"}, true},
		{"pattern differs", &feedpb.Split{Header: "X-Canary", Pattern: "^b[0-9]$"}, []string{"x-canary: b77"}, false},
		{"cookie always", &feedpb.Split{Cookie: "canary"}, []string{"Cookie: a=b; canary=always"}, true},
		{"cookie never", &feedpb.Split{Cookie: "canary", Weight: 1, Total: 1}, []string{"Cookie: canary=never"}, false},
		{"header before cookie", &feedpb.Split{Header: "X-Canary", Cookie: "c"}, []string{"X-Canary: never", "Cookie: c=always"}, false},
		{"weight 0", &feedpb.Split{Total: 100}, nil, false},
		{"weight all", &feedpb.Split{Weight: 100, Total: 100}, nil, true},
		{"weight beyond all", &feedpb.Split{Weight: 200, Total: 100}, nil, true},
	} {
		canary, err := CompileSplit(c.rule)
		if err != nil {
			t.Fatal(err)
		}
		for _, random := range []uint32{0, 1 << 31, 1<<32 - 1} {
			if got := canary.Wants(request(t, "GET /", c.fields...), random); got != c.want {
				t.Errorf("%s: %t", c.name, got)
			}
		}
	}
	canary, _ := CompileSplit(&feedpb.Split{Weight: 25, Total: 100})
	n := 0
	for i := range 1000 {
		if canary.Wants(request(t, "GET /"), uint32(i)*4294967) {
			n++
		}
	}
	if n < 245 || n > 255 {
		t.Errorf("%d of 1000 with weight 25 %%", n)
	}
	for _, c := range []*feedpb.Split{{Header: "a b"}, {Pattern: "("}, {Cookie: "a b"}, {Cookie: "a;b"}} {
		if _, err := CompileSplit(c); err == nil {
			t.Errorf("%v is taken", c)
		}
	}
}

func TestTemplateValues(t *testing.T) {
	p := compile(t, &feedpb.Policy{Host: "$host|$http_host|$scheme|$uri|$request_uri|$args|$request_method|$remote_addr|$server_port|$http_x_a|$cookie_b|$arg_c"}, "/", false)
	q := request(t, "POST /%41/../b?c=%20d&c=e", "X-A: v", "Cookie: x=1; b=2; b=3")
	q.Secure, q.Port = true, 443
	const want = "shop.example|Shop.Example:8080|https|/b|/%41/../b?c=%20d&c=e|c=%20d&c=e|POST|192.0.2.7|443|v|2|%20d"
	if got := string(p.Host(nil, q)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestRedirectByPattern: what groups have matched is escaped, and never part of a host.
func TestRedirectByPattern(t *testing.T) {
	p := compile(t, &feedpb.Policy{Redirects: []*feedpb.Redirect{
		{Pattern: "^/old/(.*)$", Status: 301, Target: "$scheme://$host/new/$1", Query: true},
		{Pattern: "^/at(.*)$", Status: 302, Target: "https://new.example$1", Query: true},
		{Pattern: "^/q/(.)(.*)", Status: 302, Target: "https://new.example/?first=$1&rest=$2", Query: true},
		{Pattern: "(?s)^/all/(.*)$", Status: 302, Target: "/of/$1"},
		{Pattern: "/any/(x)?", Status: 302, Target: "/some$1/$1/"},
	}}, "/", false)
	for line, want := range map[string]string{
		"GET /old/a/b?c=d":     "http://shop.example/new/a/b?c=d",
		"GET /old/":            "http://shop.example/new/",
		"GET /old/%0d%0aX:%20": "",
		"GET /all/%0d%0aX:%20": "/of/%0D%0AX:%20",
		"GET /old/a%3fb%23c":   "http://shop.example/new/a%3Fb%23c",
		"GET /OLD/a":           "",
		"GET /at/x":            "https://new.example/x",
		"GET /at":              "https://new.example",
		"GET /at.evil.example": "https://new.example/.evil.example",
		"GET /at@evil.example": "https://new.example/@evil.example",
		"GET /at:1?q":          "https://new.example/:1?q",
		"GET /q/ab?c=d":        "https://new.example/?first=a&rest=b&c=d",
		"GET /in/any/x?y":      "/somex/x/",
		"GET /in/any/":         "/some//",
		"GET /other":           "",
	} {
		got := ""
		if a := p.Answer(request(t, line)); a != nil {
			got = a.Fields[0].Value
		}
		if got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

// TestRedirectCost: an expression that would take too long to find may be what keeps somebody out.
func TestRedirectCost(t *testing.T) {
	p := compile(t, &feedpb.Policy{Redirects: []*feedpb.Redirect{{Pattern: "^/a(b|c){300}", Status: 403}, {Pattern: "x(b|c){100}", Status: 403}}}, "/", false)
	if p.TooCostly(100) || !p.TooCostly(1000) || (*Policy)(nil).TooCostly(1<<20) {
		t.Error("what redirects cost is not what their expressions cost together")
	}
}
