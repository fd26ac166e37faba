package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// affinityCookie returns the Set-Cookie of a route with this path, for a client that sends
// this User-Agent.
func affinityCookie(t *testing.T, a *feedpb.Affinity, path string, regexp, secure bool, agent string) string {
	t.Helper()
	p, err := Compile(&feedpb.Policy{Balance: &feedpb.Balance{Affinity: a}}, path, regexp)
	if err != nil {
		t.Fatal(err)
	}
	var r http1.Request
	head := "GET / HTTP/1.1\r\nHost: a.test\r\nUser-Agent: " + agent + "\r\nCookie: x=1; route=abc\r\n\r\n"
	if n, err := r.Parse([]byte(head), message.DefaultLimits); err != nil || n != len(head) {
		t.Fatal(n, err)
	}
	var q Request
	q.Of(&r.Request, []byte("/"))
	q.Secure, q.Now = secure, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano()
	if v := p.Balance.Affinity.Value(&q); string(v) != "abc" {
		t.Errorf("the client's cookie is %q", v)
	}
	return string(p.Balance.Affinity.AppendCookie(nil, &q, []byte("VALUE")))
}

func TestAffinityCookie(t *testing.T) {
	for _, c := range []struct {
		a              *feedpb.Affinity
		path           string
		regexp, secure bool
		want           string
	}{
		{&feedpb.Affinity{}, "/shop", false, false, "route=VALUE; Path=/shop; HttpOnly"},
		{&feedpb.Affinity{}, "/shop", false, true, "route=VALUE; Path=/shop; Secure; HttpOnly"},
		{&feedpb.Affinity{}, "/shop(/|$)(.*)", true, false, "route=VALUE; Path=/; HttpOnly"},
		{&feedpb.Affinity{}, "/a;b", false, false, "route=VALUE; Path=/; HttpOnly"},
		{&feedpb.Affinity{Path: "/x", Domain: "a.test", MaxAgeSeconds: 5}, "/shop", false, false, "route=VALUE; Path=/x; Domain=a.test; Max-Age=5; HttpOnly"},
		{&feedpb.Affinity{ExpiresSeconds: 60, SameSite: "Lax"}, "/", false, false, "route=VALUE; Path=/; Expires=Fri, 02 Jan 2026 03:05:05 GMT; HttpOnly; SameSite=Lax"},
		{&feedpb.Affinity{Secure: new(true)}, "/", false, false, "route=VALUE; Path=/; Secure; HttpOnly"},
		{&feedpb.Affinity{Secure: new(false)}, "/", false, true, "route=VALUE; Path=/; Secure; HttpOnly"}, // as ingress-nginx over https
		{&feedpb.Affinity{Secure: new(false)}, "/", false, false, "route=VALUE; Path=/; HttpOnly"},
	} {
		c.a.Cookie = "route"
		if got := affinityCookie(t, c.a, c.path, c.regexp, c.secure, "x"); got != c.want {
			t.Errorf("%v:\n got %s\nwant %s", c.a, got, c.want)
		}
	}
}

// TestSameSiteNone: browsers that misread it do not get it.
func TestSameSiteNone(t *testing.T) {
	for agent, misreads := range map[string]bool{
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/66.0.3359.117 Safari/537.36":                          true,
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/67.0.3396.62 Safari/537.36":                           false,
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/50.0.2661.102 Safari/537.36":                          false,
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36":                              false,
		"Mozilla/5.0 (iPhone; CPU iPhone OS 12_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1.2 Mobile Safari/604.1": true,
		"Mozilla/5.0 (iPhone; CPU iPhone OS 13_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.0.1 Mobile Safari/604.1": false,
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_14_6) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1.2 Safari/605.1.15":            true,
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_14_6) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/90.0.4430.93 Safari/537.36":           false,
		"Mozilla/5.0 (Linux; U; Android 8.1; en) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 UCBrowser/12.13.0.1207 Mobile":           true,
		"Mozilla/5.0 (Linux; U; Android 8.1; en) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 UCBrowser/12.13.2.1005 Mobile":           false,
		"curl/8.5.0": false,
	} {
		for _, conditional := range []bool{true, false} {
			a := &feedpb.Affinity{Cookie: "route", SameSite: "None", ConditionalSameSite: conditional}
			if got := strings.Contains(affinityCookie(t, a, "/", false, true, agent), "SameSite=None"); got == (misreads && conditional) {
				t.Errorf("conditional %t, %s: SameSite=None %t", conditional, agent, got)
			}
		}
	}
}

func TestBalanceRefused(t *testing.T) {
	for want, b := range map[string]*feedpb.Balance{
		"algorithm 9":   {Algorithm: 9},
		"$nothing":      {HashBy: "$nothing"},
		"cookie's name": {Affinity: &feedpb.Affinity{Cookie: "a b"}},
		"attribute":     {Affinity: &feedpb.Affinity{Cookie: "a", Domain: "x; Secure"}},
		`"/a\r\nb"`:     {Affinity: &feedpb.Affinity{Cookie: "a", Path: "/a\r\nb"}},
		"SameSite":      {Affinity: &feedpb.Affinity{Cookie: "a", SameSite: "Lax; x"}},
	} {
		if _, err := Compile(&feedpb.Policy{Balance: b}, "/", false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", b, err, want)
		}
	}
}

func TestRetryConditions(t *testing.T) {
	all := map[int]model.RetryOn{500: model.Retry500, 502: model.Retry502, 503: model.Retry503, 504: model.Retry504, 403: model.Retry403, 404: model.Retry404, 429: model.Retry429}
	for status, on := range all {
		p, err := Compile(&feedpb.Policy{Retry: &feedpb.Retry{On: uint32(on)}}, "/", false)
		if err != nil {
			t.Fatal(err)
		}
		for other := range all {
			if p.Retry.OnStatus(other) != (other == status) {
				t.Errorf("the rule for %d and the status %d", status, other)
			}
		}
		if p.Retry.OnStatus(200) || p.Retry.OnStatus(501) || p.Retry.On(model.RetryError) {
			t.Errorf("the rule for %d fits others", status)
		}
	}
}
