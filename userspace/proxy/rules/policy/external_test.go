package policy

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/route"
)

// FuzzExternal: whatever a service answers and a client asks, only 2xx lets in, no value
// ends a field, and each field that is the service's to say is settled.
func FuzzExternal(f *testing.F) {
	f.Add(200, "ann", "a=1", "Bearer x", "/a?b=c", "max-age=5")
	f.Add(401, "a\r\nX: y", "a\x00b", "Basic realm=\"\x7f\"", "/%0d%0a?rd=x", "no-store")
	f.Add(103, "", "", "", "/", "")
	e, err := compileExternal(&feedpb.ExternalAuth{
		To: &feedpb.Destination{Authority: "auth.test", Path: "$uri"}, Response: []string{"X-User", "x-none"},
		SignIn: "https://login.test/?a=$arg_a", CacheKey: "$request_uri", CacheFor: []*feedpb.CacheTime{{ForSeconds: 1}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, user, cookie, challenge, target, control string) {
		var r http1.Request
		head := "GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n"
		if n, err := r.Parse([]byte(head), message.DefaultLimits); err != nil || n != len(head) {
			return
		}
		normal, err := route.NormalisePath(nil, r.Path)
		if err != nil {
			return
		}
		var q Request
		q.Of(&r.Request, normal)
		q.Client = netip.MustParseAddr("192.0.2.1")
		h := http.Header{"X-User": {user}, "Set-Cookie": {cookie}, "Www-Authenticate": {challenge}, "Cache-Control": {control}}
		a := e.Read(status, h)
		if a.OK() != (status/100 == 2) {
			t.Fatalf("status %d: %t", status, a.OK())
		}
		if len(a.Fields) != 2 || a.Fields[1].Value != "" {
			t.Fatalf("fields %v", a.Fields)
		}
		for _, v := range append(append([]string{a.Fields[0].Value}, a.Cookies...), a.Challenge...) {
			if strings.ContainsAny(v, "\r\n\x00\x7f") {
				t.Fatalf("value %q", v)
			}
		}
		if to := e.SignIn(nil, &q); strings.ContainsAny(string(to), "\r\n\x00 ") || !strings.HasPrefix(string(to), "https://login.test/?a=") {
			t.Fatalf("sign in at %q", to)
		}
		if path := e.To.Target(nil, &q); path[0] != '/' || strings.ContainsAny(string(path), "\r\n\x00 ") {
			t.Fatalf("asks for %q", path)
		}
		key, now := e.CacheKey(&q, "ns/name"), time.Unix(1, 0)
		e.Keep(key, a, h, now)
		if kept := e.Kept(key, now); kept != nil && (len(a.Cookies) > 0 || strings.Contains(control, "no-store")) {
			t.Fatalf("kept with cookies %q, control %q", a.Cookies, control)
		}
		e.Kept(key, now.Add(time.Hour)) // forgets it
	})
}

// FuzzDestination: what is taken for a host is the host that net/url would ask, with
// nothing of the path, the user or a request in it.
func FuzzDestination(f *testing.F) {
	for _, s := range []string{"a.test", "a.test:80", "[2001:db8::1]:443", "u@a", "a/b", "a?b", "a#b", "$host", "$http_host", "a$arg_x", "a b", "a\r\nb", "", "%41"} {
		f.Add(s, "/x$request_uri")
	}
	f.Fuzz(func(t *testing.T, authority, path string) {
		d, err := compileDestination(&feedpb.Destination{Authority: authority, Path: path})
		if err != nil || d.Own {
			return
		}
		if d.Authority != authority || strings.ContainsAny(authority, "/?#@\\\r\n ") {
			t.Fatalf("authority %q", d.Authority)
		}
		if u, err := url.Parse("http://" + authority + "/"); err == nil && u.Host != authority && u.Host != unescaped(authority) || err == nil && u.User != nil {
			t.Fatalf("%q is host %q", authority, u.Host)
		}
	})
}

func unescaped(s string) string {
	out, err := url.PathUnescape(s)
	if err != nil {
		return s
	}
	return out
}

// TestKeptBounds: what a rule remembers has a bound in number and in size.
func TestKeptBounds(t *testing.T) {
	e, err := compileExternal(&feedpb.ExternalAuth{
		To: &feedpb.Destination{Authority: "auth.test", Path: "/"}, CacheKey: "$remote_addr", CacheFor: []*feedpb.CacheTime{{ForSeconds: 60}},
	})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1, 0)
	for i := range 3 * maxKept {
		key := fmt.Sprint(i)
		e.Keep(key, &Allowed{Status: 200}, nil, now)
		if e.Kept(key, now) == nil {
			t.Fatalf("answer %d is not kept", i)
		}
	}
	if len(e.kept) != maxKept {
		t.Errorf("%d are kept", len(e.kept))
	}
	e.Keep("large", &Allowed{Status: 200, Fields: []AnswerField{{Value: strings.Repeat("x", maxKeptSize)}}}, nil, now)
	e.Keep(strings.Repeat("k", maxKeptSize+1), &Allowed{Status: 200}, nil, now)
	if e.Kept("large", now) != nil || e.Kept(strings.Repeat("k", maxKeptSize+1), now) != nil {
		t.Error("something too large is kept")
	}
	for _, control := range []string{"private", "No-Store", "max-age=1, no-cache"} {
		e.Keep("c", &Allowed{Status: 200}, http.Header{"Cache-Control": {control}}, now)
		if e.Kept("c", now) != nil {
			t.Errorf("kept in spite of %s", control)
		}
	}
}

// TestSignInParameter: clients come back to where they were, and no path or query of theirs
// adds a parameter.
func TestSignInParameter(t *testing.T) {
	for head, want := range map[string]string{
		"GET /x?a=b&c=d HTTP/1.1\r\nHost: shop.test\r\n\r\n":  "https://login.test/start?rd=http://shop.test%2Fx%3Fa%3Db%26c%3Dd",
		"GET / HTTP/1.1\r\nHost: shop.test:8443\r\n\r\n":      "https://login.test/start?rd=http://shop.test:8443%2F",
		"GET /%26x=y HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n": "https://login.test/start?rd=http://[2001:db8::1]%2F%2526x%3Dy",
	} {
		e, err := compileExternal(&feedpb.ExternalAuth{To: &feedpb.Destination{Authority: "auth.test", Path: "/"}, SignIn: "https://login.test/start"})
		if err != nil {
			t.Fatal(err)
		}
		var r http1.Request
		if n, err := r.Parse([]byte(head), message.DefaultLimits); err != nil || n != len(head) {
			t.Fatalf("%q: %v", head, err)
		}
		normal, err := route.NormalisePath(nil, r.Path)
		if err != nil {
			t.Fatal(err)
		}
		var q Request
		q.Of(&r.Request, normal)
		if got := string(e.SignIn(nil, &q)); got != want {
			t.Errorf("%q: %q, want %q", head, got, want)
		}
	}
}
