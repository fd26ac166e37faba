package policy

import (
	"bytes"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/route"
)

// FuzzRewrite: whatever expression, target and path, the result is a path as it may stand
// in a request line, and leads to no other directory than it says.
func FuzzRewrite(f *testing.F) {
	for _, pattern := range []string{"/a(/|$)(.*)", "/(.*)", "/x(.*)", "/v([0-9]+)/(.*)", "/é"} {
		for _, target := range []string{"/$2", "$1", "/a/$1?b=$2", "/base/.$1", "/x?"} {
			f.Add(pattern, target, []byte("/a/b%0d%0aX"), []byte("q=1"))
			f.Add(pattern, target, []byte("/x../%2e%2e/y"), []byte(nil))
		}
	}
	f.Fuzz(func(t *testing.T, pattern, target string, raw, query []byte) {
		p, err := Compile(&feedpb.Policy{Rewrite: target}, pattern, true)
		if err != nil {
			return
		}
		r := &http1.Request{}
		head := "GET " + string(raw) + "?" + string(query) + " HTTP/1.1\r\nHost: a\r\n\r\n"
		if n, err := r.Parse([]byte(head), message.DefaultLimits); err != nil || n != len(head) {
			return
		}
		normal, err := route.NormalisePath(nil, r.Path)
		if err != nil {
			return
		}
		var q Request
		q.Of(&r.Request, normal)
		_, path, newQuery, outcome := p.Rewrite(nil, &q)
		if outcome != Replaced {
			return
		}
		line := append([]byte("GET "), path...)
		if newQuery != nil {
			line = append(append(line, '?'), newQuery...)
		}
		line = append(line, " HTTP/1.1\r\nHost: a\r\n\r\n"...)
		var again http1.Request
		n, err := again.Parse(line, message.Limits{RequestLine: 1 << 20, Head: 1 << 20, Fields: 10})
		if err != nil || n != len(line) || len(again.Fields) != 1 || !bytes.Equal(again.Path, path) {
			t.Fatalf("%q: %v", line, err)
		}
		if hasDotSegment(path) || bytes.HasPrefix(path, []byte("//")) {
			t.Fatalf("path %q", path)
		}
	})
}

// FuzzHeaders: no rule and no request makes a field that ends early.
func FuzzHeaders(f *testing.F) {
	f.Add("X-A", "$uri$arg_a", "/a%0d%0ab?a=%0d%0a", "backend", "front", "a=1; Domain=backend")
	f.Add("X-B", "a\tb", "/", "/", "/x", "a=1; path=/;secure")
	f.Fuzz(func(t *testing.T, name, value, target, from, to, cookie string) {
		rules := []*feedpb.HeaderRule{{Op: feedpb.HeaderRule_ADD, Name: name, Value: value}}
		p, err := Compile(&feedpb.Policy{
			ResponseHeaders: rules,
			CookieDomains:   []*feedpb.Replacement{{From: from, To: to}},
			CookiePaths:     []*feedpb.Replacement{{From: from, To: to, Pattern: true}},
			Locations:       []*feedpb.Replacement{{From: from, To: to, Pattern: true}},
		}, "/", false)
		if err != nil {
			return
		}
		r := &http1.Request{}
		head := "GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n"
		if n, err := r.Parse([]byte(head), message.DefaultLimits); err != nil || n != len(head) {
			return
		}
		normal, err := route.NormalisePath(nil, r.Path)
		if err != nil {
			return
		}
		var resp http1.Response
		raw := "HTTP/1.1 200 OK\r\nSet-Cookie: " + cookie + "\r\nLocation: " + cookie + "\r\nContent-Length: 0\r\n\r\n"
		if n, err := resp.Parse([]byte(raw), message.DefaultLimits, message.MethodGet); err != nil || n != len(raw) {
			return
		}
		before := len(resp.Fields)
		var q Request
		q.Of(&r.Request, normal)
		p.EditResponse(nil, &q, &resp.Response)
		out := "HTTP/1.1 200 OK\r\n" + string(http1.AppendEndToEnd(nil, resp.Fields, 0)) + "\r\n"
		var again http1.Response
		if n, err := again.Parse([]byte(out), message.Limits{RequestLine: 1 << 20, Head: 1 << 20, Fields: 10}, message.MethodGet); err != nil || n != len(out) || len(again.Fields) > before+1 {
			t.Fatalf("%q: %v", out, err)
		}
	})
}

// FuzzCredentials: decoding ends in a name and a password, or in none.
func FuzzCredentials(f *testing.F) {
	for _, v := range []string{"Basic YW5uOnNlY3JldA==", "basic", "Basic =", "Basic " + strings.Repeat("A", 4000), "Basic Og=="} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, value string) {
		r := &http1.Request{}
		head := "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: " + value + "\r\n\r\n"
		if n, err := r.Parse([]byte(head), message.DefaultLimits); err != nil || n != len(head) {
			return
		}
		var room [maxCredentials]byte
		name, _, ok := credentials(room[:0], &r.Request)
		if ok && (len(name) == 0 || bytes.IndexByte(name, ':') >= 0) {
			t.Errorf("%q: name %q", value, name)
		}
	})
}
