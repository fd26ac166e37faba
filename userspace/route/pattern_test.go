package route

import (
	"regexp"
	"strings"
	"testing"
)

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          string // groups joined by |, "-" for no match
		simple        bool
	}{
		{"/foo", "/foo", "/foo", true},
		{"/foo", "/FOObar", "/FOO", true},
		{"/foo", "/fo", "-", true},
		{"/something(/|$)(.*)", "/something", "/something||", true},
		{"/something(/|$)(.*)", "/something/", "/something/|/|", true},
		{"/something(/|$)(.*)", "/Something/new/x", "/Something/new/x|/|new/x", true},
		{"/something(/|$)(.*)", "/somethingelse", "-", true},
		{"/something/?(.*)", "/somethingelse", "/somethingelse|else", true},
		{"/something/?(.*)", "/something/else", "/something/else|else", true},
		{"/something/?$", "/something/", "/something/", true},
		{"/something/?$", "/something/x", "-", true},
		{"/a/(.*)$", "/a/b\nc", "/a/b\nc|b\nc", true},
		{"/a/(.*)", "/a/b\nc", "/a/b\nc|b\nc", true},
		{"/(.*)", "/é", "/é|é", true},
		{"/v[0-9]+/(.*)", "/v12/x", "/v12/x|x", false},
		{"/(a|b)/(.*)", "/B/x", "/B/x|B|x", false},
		{"/k", "/\u212a", "/\u212a", true}, // the Kelvin sign is a K
	} {
		p, err := ParsePattern(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if (p.simple != nil) != c.simple {
			t.Errorf("%q: simple is %t", c.pattern, p.simple != nil)
		}
		var g Groups
		got := "-"
		if p.Find([]byte(c.path), &g) {
			var groups []string
			for n := 0; n <= p.NumGroups(); n++ {
				groups = append(groups, group(c.path, &g, n))
			}
			got = strings.Join(groups, "|")
		}
		if got != c.want {
			t.Errorf("%q on %q: %q, want %q", c.pattern, c.path, got, c.want)
		}
		if p.Match([]byte(c.path)) != (c.want != "-") {
			t.Errorf("%q on %q: Match does not agree with Find", c.pattern, c.path)
		}
	}
}

func group(path string, g *Groups, n int) string {
	if g[2*n] < 0 {
		return ""
	}
	return path[g[2*n]:g[2*n+1]]
}

func TestPatternRefused(t *testing.T) {
	for pattern, want := range map[string]string{
		"foo":                                "begin with a slash",
		"/(":                                 "missing closing )",
		"/a)(b":                              "unexpected )",
		"/(?!x)":                             "look-around",
		"/" + strings.Repeat("a", 2000):      "no more than 1024",
		"/" + strings.Repeat("(a)", 12):      "no more than 9",
		"/" + strings.Repeat("(a{1000})", 2): "",
	} {
		_, err := ParsePattern(pattern)
		if want == "" {
			continue // must only end in time
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", pattern, err, want)
		}
	}
}

// FuzzPattern compares with package regexp.
func FuzzPattern(f *testing.F) {
	for _, pattern := range []string{"/foo", "/foo(/|$)(.*)", "/foo/?(.*)", "/(.*)$", "/foo/?$", "/v[0-9]", "/a.*", "/é(.*)", "/foo(/|$)", "/(?-i)a", "/a(/|$)$", "/k(.*)"} {
		for _, path := range []string{"/foo", "/FOO/bar", "/fooo", "/foo\n/", "/v1", "/\u212a", "/é\xff"} {
			f.Add(pattern, []byte(path))
		}
	}
	f.Fuzz(func(t *testing.T, pattern string, path []byte) {
		p, err := ParsePattern(pattern)
		if err != nil {
			return
		}
		want := regexp.MustCompile("(?is)^(?:" + pattern + ")").FindSubmatchIndex(path)
		var g Groups
		found := p.Find(path, &g)
		if found != (want != nil) || p.Match(path) != found {
			t.Fatalf("%q on %q: found %t, match %t, want %v", pattern, path, found, p.Match(path), want)
		}
		for i, at := range want {
			if g[i] != at {
				t.Fatalf("%q on %q: %v, want %v", pattern, path, g, want)
			}
		}
	})
}

func BenchmarkPattern(b *testing.B) {
	for _, pattern := range []string{"/api(/|$)(.*)", "/api/v[0-9]+/(.*)"} {
		b.Run(pattern, func(b *testing.B) {
			p, err := ParsePattern(pattern)
			if err != nil {
				b.Fatal(err)
			}
			path := []byte("/api/v1/users/1234/profile")
			var g Groups
			b.ReportAllocs()
			for b.Loop() {
				if !p.Find(path, &g) {
					b.Fatal("no match")
				}
			}
		})
	}
}

// TestPatternPrecedence: Exact, then the longest expression, then the longest prefix.
func TestPatternPrecedence(t *testing.T) {
	table, err := New([]Host[string]{{Name: "a.example", Routes: []Route[string]{
		{Path: "/foo/bar", Value: "prefix"},
		{Path: "/foo", Exact: true, Value: "exact"},
		{Path: "/fo", Regexp: true, Value: "short"},
		{Path: "/foo/.*", Regexp: true, Value: "long"},
		{Path: "/", Value: "root"},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/foo": "exact", "/FOO": "short", "/foo/bar": "long", "/foX": "short", "/x": "root"} {
		if r, ok := table.Match([]byte("a.example"), []byte(path), nil); !ok || r.Value != want {
			t.Errorf("%s: %v", path, r)
		}
	}
	if _, err := New([]Host[string]{{Name: "a.example", Routes: []Route[string]{{Path: "/(", Regexp: true}}}}); err == nil {
		t.Error("an invalid expression is taken")
	}
}
