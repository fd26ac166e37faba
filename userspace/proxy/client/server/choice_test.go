package server_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// named returns pods that say which one they are.
func named(t *testing.T, names ...string) (addresses []string) {
	for _, name := range names {
		addresses = append(addresses, echo(t, name))
	}
	return addresses
}

var podName, ourCookie = regexp.MustCompile(`(?m)^Pod: (\w+)\r$`), regexp.MustCompile(`(?m)^Set-Cookie: (route=([^;\r]*)[^\r]*)\r$`)

// visit asks once and returns who answered and the cookie that was set, "" if none was.
func visit(t *testing.T, p *proxytest.Proxy, path, cookie string, fields ...string) (pod, value, whole string) {
	t.Helper()
	if cookie != "" {
		fields = append(fields, "Cookie: a=b; route="+cookie+"; c=d")
	}
	answer := shop(t, p, "GET "+path, fields...)
	m := podName.FindStringSubmatch(answer)
	if m == nil {
		t.Fatalf("no pod answered:\n%s", answer)
	}
	if c := ourCookie.FindStringSubmatch(answer); c != nil {
		return m[1], c[2], c[1]
	}
	return m[1], "", ""
}

// TestAffinity: a client stays at its pod; when that goes it gets another for good; a cookie
// that nobody has given out is replaced; and no cookie shows an address.
func TestAffinity(t *testing.T) {
	pods := named(t, "a", "b", "c", "d")
	for mode, persistent := range map[string]bool{"persistent": true, "balanced": false} {
		t.Run(mode, func(t *testing.T) {
			services := []proxytest.Service{{
				Name: "default/web:80", Path: "/shop", Backends: pods,
				Policy: &feedpb.Policy{Balance: &feedpb.Balance{Algorithm: feedpb.Algorithm_SERVICE, Affinity: &feedpb.Affinity{
					Cookie: "route", Persistent: persistent, MaxAgeSeconds: 60, Domain: "shop.test", SameSite: "None", ConditionalSameSite: true,
				}}},
			}}
			p := proxytest.Start(t, services, nil)
			homes := map[string]string{} // cookie -> pod
			for range 60 {
				pod, cookie, whole := visit(t, p, "/shop", "")
				if cookie == "" || !strings.HasSuffix(whole, "; Path=/shop; Domain=shop.test; Max-Age=60; HttpOnly; SameSite=None") {
					t.Fatalf("cookie %q", whole)
				}
				homes[cookie] = pod
			}
			used := map[string]bool{}
			for cookie, pod := range homes {
				used[pod] = true
				for range 3 {
					if got, again, _ := visit(t, p, "/shop", cookie); got != pod || again != "" {
						t.Fatalf("cookie of %s: %s answers, and sets %q", pod, got, again)
					}
				}
			}
			if len(used) != 4 {
				t.Errorf("only %v are used", used)
			}
			for _, forged := range []string{"x", "127.0.0.1", strings.Repeat("A", 22), strings.Repeat("A", 4000)} {
				if _, cookie, _ := visit(t, p, "/shop", forged); cookie == "" {
					t.Errorf("%.30q is kept", forged)
				}
			}
			_, _, whole := visit(t, p, "/shop", "", "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/60.0.3112.0 Safari/537.36")
			if strings.Contains(whole, "SameSite") {
				t.Errorf("a browser that misreads SameSite=None gets %q", whole)
			}

			services[0].Backends = pods[:3] // "d" is gone
			p.Configure(t, services, nil)
			for cookie, pod := range homes {
				got, again, _ := visit(t, p, "/shop", cookie)
				switch {
				case pod != "d" && persistent && (got != pod || again != ""):
					t.Errorf("a client of %s, which is there, is sent to %s", pod, got)
				case got == "d" || persistent && pod == "d" && again == "":
					t.Errorf("a client of d, which is gone: %s answers, cookie %q", got, again)
				}
			}
		})
	}
}

// TestAffinityFailure: a client whose pod cannot answer is served by another, and comes
// back or not, as the rule says.
func TestAffinityFailure(t *testing.T) {
	pods := named(t, "a", "b", "c")
	for _, change := range []bool{false, true} {
		for _, persistent := range []bool{false, true} {
			p := proxytest.Start(t, []proxytest.Service{{
				Name: "default/web:80", Path: "/", Backends: pods,
				Policy: &feedpb.Policy{Balance: &feedpb.Balance{Affinity: &feedpb.Affinity{Cookie: "route", Persistent: persistent, ChangeOnFailure: change}}},
			}}, nil)
			home, cookie, _ := visit(t, p, "/", "")
			id := uint32(strings.Index("abc", home) + 1)
			p.OnLoop(func() { p.View.Load(1, id).Health = 1 })
			pod, moved, _ := visit(t, p, "/", cookie)
			if pod == home || change != (moved != "") {
				t.Errorf("change %t: %s answers for %s, cookie %q", change, pod, home, moved)
			}
			p.OnLoop(func() { p.View.Load(1, id).Health = 0 })
			if change {
				cookie, home = moved, pod
			}
			if pod, _, _ := visit(t, p, "/", cookie); pod != home {
				t.Errorf("change %t: afterwards %s answers, want %s", change, pod, home)
			}
		}
	}
}

// TestAffinityCanary: who came to a canary stays there, and who did not, does not come
// later; unless the rule says that each request is decided anew.
func TestAffinityCanary(t *testing.T) {
	main, canary := named(t, "a", "b"), named(t, "x", "y")
	for _, sticky := range []bool{true, false} {
		policy := &feedpb.Policy{Balance: &feedpb.Balance{Affinity: &feedpb.Affinity{Cookie: "route", Persistent: true, Canary: sticky}}}
		p := proxytest.Start(t, []proxytest.Service{
			{Name: "default/web:80", Path: "/", Backends: main, Policy: policy},
			{Name: "default/canary:80", Path: "/", Backends: canary, Canary: &feedpb.Split{Source: "default/canary", Weight: 50, Total: 100}},
		}, nil)
		changed := 0
		for range 40 {
			pod, cookie, _ := visit(t, p, "/", "")
			for range 3 {
				got, again, _ := visit(t, p, "/", cookie)
				if got != pod {
					changed++
				}
				if (got != pod) != (again != "") {
					t.Errorf("%s after %s, cookie %q", got, pod, again)
				}
			}
		}
		if sticky && changed > 0 || !sticky && changed < 20 {
			t.Errorf("sticky %t: %d of 120 requests went elsewhere", sticky, changed)
		}
	}
}

// TestHashBy: a value goes to one pod, or to a few of them, and different values to
// different ones.
func TestHashBy(t *testing.T) {
	pods := named(t, "a", "b", "c", "d", "e")
	by := func(path string, b *feedpb.Balance) proxytest.Service {
		return proxytest.Service{Name: "default/" + path[1:] + ":80", Path: path, Backends: pods, Policy: &feedpb.Policy{Balance: b}}
	}
	p := proxytest.Start(t, []proxytest.Service{
		by("/one", &feedpb.Balance{HashBy: "$arg_user"}),
		by("/few", &feedpb.Balance{HashBy: "$arg_user", Subset: 2, Algorithm: feedpb.Algorithm_ROUND_ROBIN}),
		by("/latency", &feedpb.Balance{Algorithm: feedpb.Algorithm_EWMA}),
	}, nil)
	for path, want := range map[string]int{"/one?user=": 1, "/few?user=": 2} {
		all := map[string]bool{}
		for user := range 12 {
			seen := map[string]bool{}
			for range 6 {
				pod, _, _ := visit(t, p, fmt.Sprintf("%s%d", path, user), "")
				seen[pod], all[pod] = true, true
			}
			if len(seen) != want {
				t.Errorf("%s%d is answered by %v", path, user, seen)
			}
		}
		if len(all) < 4 {
			t.Errorf("%s: all users together are answered by %v", path, all)
		}
	}
	for _, path := range []string{"/one", "/latency"} { // nothing to hash
		seen := map[string]bool{}
		for range 40 {
			pod, _, _ := visit(t, p, path, "")
			seen[pod] = true
		}
		if len(seen) < 3 {
			t.Errorf("%s is answered by %v alone", path, seen)
		}
	}
}

// TestRetry: each condition asks another pod, and only that.
func TestRetry(t *testing.T) {
	good := echo(t, "good")
	asked := new(atomic.Int64)
	status := func(code int) string {
		return pod(t, func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			w.Header().Set("Pod", "bad")
			w.WriteHeader(code)
		})
	}
	behave := func(what func(net.Conn)) string {
		return rawPod(t, func(c net.Conn) {
			c.Read(make([]byte, 4096))
			asked.Add(1)
			what(c)
		})
	}
	closes := behave(func(net.Conn) {})
	garbage := behave(func(c net.Conn) { io.WriteString(c, "SSH-2.0-x\r\n\r\n") })
	silent := behave(func(c net.Conn) { time.Sleep(2 * time.Second) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()

	rule := func(on model.RetryOn) *feedpb.Retry { return &feedpb.Retry{On: uint32(on)} }
	for name, c := range map[string]struct {
		bad    string
		rule   *feedpb.Retry
		method string
		want   string // part of the answer
		most   int64  // how often the bad pod may be asked in ten requests
	}{
		"closed":              {closes, rule(model.RetryError), "GET /", "Pod: good", 10},
		"closed, off":         {closes, rule(0), "GET /", "", 10},
		"closed, timeout":     {closes, rule(model.RetryTimeout), "GET /", "", 10},
		"garbage":             {garbage, rule(model.RetryInvalidHeader), "GET /", "Pod: good", 10},
		"garbage, error":      {garbage, rule(model.RetryError), "GET /", "", 10},
		"silent":              {silent, rule(model.RetryTimeout), "GET /", "Pod: good", 10},
		"nobody":              {nobody, rule(model.RetryError), "GET /", "Pod: good", 0},
		"nobody, POST":        {nobody, rule(model.RetryError), "POST /", "Pod: good", 0},
		"nobody, off":         {nobody, rule(0), "GET /", "", 0},
		"503":                 {status(503), rule(model.Retry503), "GET /", "Pod: good", 10},
		"503, other":          {status(503), rule(model.Retry502), "GET /", "", 10},
		"404":                 {status(404), rule(model.Retry404), "GET /", "Pod: good", 10},
		"503, POST":           {status(503), rule(model.Retry503), "POST /", "", 10},
		"503, POST, wanted":   {status(503), &feedpb.Retry{On: uint32(model.Retry503), NonIdempotent: true}, "POST /", "Pod: good", 10},
		"503, one try":        {status(503), &feedpb.Retry{On: uint32(model.Retry503), Tries: 1}, "GET /", "", 10},
		"closed, without any": {closes, nil, "GET /", "", 10},
	} {
		t.Run(name, func(t *testing.T) {
			p := proxytest.Start(t, []proxytest.Service{{
				Name: "default/web:80", Path: "/", Backends: []string{c.bad, good},
				Policy: &feedpb.Policy{Retry: c.rule, ReadTimeoutMs: 100},
			}}, nil)
			p.OnLoop(func() { p.View.Services[1].Algorithm = 1 }) // in turns
			asked.Store(0)
			failed := 0
			for range 10 {
				var body []string
				if strings.HasPrefix(c.method, "POST") {
					body = []string{"Content-Length: 5", "", "12345"}
				}
				answer := shop(t, p, c.method, body...)
				if !strings.Contains(answer, "Pod: good") {
					failed++
				} else if strings.HasPrefix(c.method, "POST") {
					has(t, answer, "body=5")
				}
			}
			if (c.want != "") != (failed == 0) {
				t.Errorf("%d of 10 requests were not answered by the good pod", failed)
			}
			if n := asked.Load(); n > c.most {
				t.Errorf("the bad pod was asked %d times", n)
			}
		})
	}
}

// TestRetryAllBad: where no pod does better the client gets the last one's response, and
// each pod was asked once.
func TestRetryAllBad(t *testing.T) {
	asked := new(atomic.Int64)
	var pods []string
	for i := range 5 {
		pods = append(pods, pod(t, func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			w.Header().Set("Pod", fmt.Sprint(i))
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "busy")
		}))
	}
	for tries, want := range map[uint32]int64{0: 5, 2: 2, 3: 3, 9: 5} {
		p := proxytest.Start(t, []proxytest.Service{{
			Name: "default/web:80", Path: "/", Backends: pods,
			Policy: &feedpb.Policy{Retry: &feedpb.Retry{On: uint32(model.Retry503), Tries: tries}},
		}}, nil)
		asked.Store(0)
		has(t, shop(t, p, "GET /"), "503 ", "Pod: ", "busy")
		if n := asked.Load(); n != want {
			t.Errorf("%d tries: %d pods were asked, want %d", tries, n, want)
		}
	}
}

// TestRetryWithin: no further try begins after the time is up.
func TestRetryWithin(t *testing.T) {
	asked := new(atomic.Int64)
	slow := func() string {
		return pod(t, func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			time.Sleep(60 * time.Millisecond)
			w.WriteHeader(http.StatusBadGateway)
		})
	}
	p := proxytest.Start(t, []proxytest.Service{{
		Name: "default/web:80", Path: "/", Backends: []string{slow(), slow(), slow(), slow()},
		Policy: &feedpb.Policy{Retry: &feedpb.Retry{On: uint32(model.Retry502), WithinMs: 50}},
	}}, nil)
	has(t, shop(t, p, "GET /"), "502 ")
	if n := asked.Load(); n != 1 {
		t.Errorf("%d pods were asked", n)
	}
}

// TestRetryBudget: a service that fails altogether is asked little more than once for each
// request, and what is not retried is counted.
func TestRetryBudget(t *testing.T) {
	asked := new(atomic.Int64)
	var pods []string
	for range 4 {
		pods = append(pods, pod(t, func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			time.Sleep(100 * time.Millisecond)
			w.WriteHeader(http.StatusBadGateway)
		}))
	}
	p := proxytest.Start(t, []proxytest.Service{{
		Name: "default/web:80", Path: "/", Backends: pods,
		Policy: &feedpb.Policy{Retry: &feedpb.Retry{On: uint32(model.Retry502)}},
	}}, &feedpb.Settings{RetryPercent: 10})
	const clients = 60
	done := make(chan string, clients)
	for range clients {
		go func() { done <- shop(t, p, "GET /") }()
	}
	for range clients {
		has(t, <-done, "502 ")
	}
	if n := asked.Load(); n > clients*3/2 {
		t.Errorf("%d requests became %d", clients, n)
	}
	if p.Metrics.RetriesRefused.Load() == 0 {
		t.Error("no refusal was counted")
	}
}
