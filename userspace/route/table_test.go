package route

import (
	"fmt"
	"strings"
	"testing"
)

func mustNew(t testing.TB, hosts []Host[int]) *Table[int] {
	t.Helper()
	table, err := New(hosts)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// check compares one match with the naive model.
func check(t testing.TB, table *Table[int], hosts []Host[int], host, path string) {
	t.Helper()
	checkRequest(t, table, hosts, host, path, nil)
}

func checkRequest(t testing.TB, table *Table[int], hosts []Host[int], host, path string, q Request) {
	t.Helper()
	want := naive(hosts, host, path, q)
	got, ok := table.Match([]byte(host), []byte(path), q)
	switch {
	case ok != (got != nil):
		t.Fatalf("%q %q: route %v, but ok is %t", host, path, got, ok)
	case want == nil && got != nil:
		t.Fatalf("%q %q: got %q, want nothing", host, path, got.Path)
	case want != nil && got == nil:
		t.Fatalf("%q %q: got nothing, want %q", host, path, want.Path)
	case want != nil && got.Value != want.Value:
		t.Fatalf("%q %q: got %q (%d), want %q (%d)", host, path, got.Path, got.Value, want.Path, want.Value)
	}
}

// TestMatchKubernetesExamples is the table in the documentation of Ingress
// ("Multiple matches", "Examples" of path types).
func TestMatchKubernetesExamples(t *testing.T) {
	p := func(path string) Route[int] { return Route[int]{Path: path} }
	e := func(path string) Route[int] { return Route[int]{Path: path, Exact: true} }
	for _, c := range []struct {
		routes []Route[int]
		path   string
		want   int // index, or -1
	}{
		{[]Route[int]{p("/")}, "/anything", 0},
		{[]Route[int]{p("/")}, "/", 0},
		{[]Route[int]{e("/foo")}, "/foo", 0},
		{[]Route[int]{e("/foo")}, "/bar", -1},
		{[]Route[int]{e("/foo")}, "/foo/", -1},
		{[]Route[int]{e("/foo/")}, "/foo", -1},
		{[]Route[int]{p("/foo")}, "/foo", 0},
		{[]Route[int]{p("/foo")}, "/foo/", 0},
		{[]Route[int]{p("/foo/")}, "/foo", 0},
		{[]Route[int]{p("/foo/")}, "/foo/", 0},
		{[]Route[int]{p("/aaa/bb")}, "/aaa/bbb", -1},
		{[]Route[int]{p("/aaa/bbb")}, "/aaa/bbb", 0},
		{[]Route[int]{p("/aaa/bbb/")}, "/aaa/bbb", 0},
		{[]Route[int]{p("/aaa/bbb")}, "/aaa/bbb/", 0},
		{[]Route[int]{p("/aaa/bbb")}, "/aaa/bbb/ccc", 0},
		{[]Route[int]{p("/aaa/bbb")}, "/aaa/bbbxyz", -1},
		{[]Route[int]{p("/"), p("/aaa")}, "/aaa/ccc", 1},
		{[]Route[int]{p("/"), p("/aaa")}, "/ccc", 0},
		{[]Route[int]{p("/aaa")}, "/ccc", -1},
		{[]Route[int]{e("/foo"), p("/foo")}, "/foo", 0},
		{[]Route[int]{p("/foo"), e("/foo")}, "/foo", 1},
		{[]Route[int]{p("/foo"), e("/foo")}, "/foo/", 0},
		{[]Route[int]{e("/"), p("/")}, "/", 0},
		{[]Route[int]{e("/"), p("/")}, "/a", 1},
		{[]Route[int]{p("/"), p("/a")}, "*", 0},
		{[]Route[int]{p("/a")}, "*", -1},
	} {
		// The same with few routes (lists) and with many (maps).
		for _, filler := range []int{0, 2 * few} {
			routes := append([]Route[int](nil), c.routes...)
			for i := range filler {
				routes = append(routes, p(fmt.Sprintf("/filler/%d", i)), e(fmt.Sprintf("/filler/%d/x", i)))
			}
			for i := range routes {
				routes[i].Value = i
			}
			hosts := []Host[int]{{Name: "h", Routes: routes}}
			table := mustNew(t, hosts)
			got, ok := table.Match([]byte("h"), []byte(c.path), nil)
			if ok != (c.want >= 0) || ok && got.Value != c.want {
				t.Errorf("%q among %v and %d more: got %v, want index %d", c.path, c.routes, filler, got, c.want)
			}
			check(t, table, hosts, "h", c.path)
		}
	}
}

func TestMatchHost(t *testing.T) {
	hosts := []Host[int]{
		{Name: "", Routes: []Route[int]{{Path: "/", Value: 1}}},
		{Name: "a.example.com", Routes: []Route[int]{{Path: "/only", Value: 2}}},
		{Name: "*.example.com", Routes: []Route[int]{{Path: "/", Value: 3}}},
		{Name: "*.b.example.com", Routes: []Route[int]{{Path: "/", Value: 4}}},
		{Name: "empty.org"},
	}
	table := mustNew(t, hosts)
	for _, c := range []struct {
		host, path string
		want       int // 0: nothing
	}{
		{"a.example.com", "/only", 2},
		{"a.example.com", "/other", 0}, // neither the wildcard nor any host
		{"c.example.com", "/other", 3},
		{"b.example.com", "/", 3},
		{"x.b.example.com", "/", 4},
		{"x.y.b.example.com", "/", 1},
		{"example.com", "/", 1},
		{".example.com", "/", 1},
		{"*.example.com", "/", 3},
		{"", "/", 1},
		{"com", "/", 1},
		{"empty.org", "/", 0},
	} {
		got, ok := table.Match([]byte(c.host), []byte(c.path), nil)
		if ok != (c.want != 0) || ok && got.Value != c.want {
			t.Errorf("%s%s: got %v, want %d", c.host, c.path, got, c.want)
		}
		check(t, table, hosts, c.host, c.path)
	}
	if table.Len() != len(hosts) {
		t.Errorf("Len is %d, want %d", table.Len(), len(hosts))
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		hosts []Host[int]
		want  string
	}{
		{[]Host[int]{{Name: "a"}, {Name: "a"}}, `host "a" is there twice`},
		{[]Host[int]{{Name: ""}, {Name: ""}}, `host "" is there twice`},
		{[]Host[int]{{Name: "*.a"}, {Name: "*.a"}}, `host "*.a" is there twice`},
		{[]Host[int]{{Name: "*"}}, "wildcard must be"},
		{[]Host[int]{{Name: "**"}}, "wildcard must be"},
		{[]Host[int]{{Name: "***.a"}}, "wildcard must be"},
		{[]Host[int]{{Name: "**.a"}, {Name: "**.a"}}, `host "**.a" is there twice`},
		{[]Host[int]{{Name: "*."}}, "wildcard must be"},
		{[]Host[int]{{Name: "*a.b"}}, "wildcard must be"},
		{[]Host[int]{{Name: "a.*.b"}}, "lower-case"},
		{[]Host[int]{{Name: "A.b"}}, "lower-case"},
		{[]Host[int]{{Name: "a b"}}, "lower-case"},
		{[]Host[int]{{Name: "a/b"}}, "lower-case"},
		{[]Host[int]{{Name: "a", Routes: []Route[int]{{Path: ""}}}}, `host "a": path "": it must begin`},
		{[]Host[int]{{Name: "a", Routes: []Route[int]{{Path: "b"}}}}, `path "b": it must begin`},
		{[]Host[int]{{Name: "a", Routes: []Route[int]{{Path: "/b"}, {Path: "/b/"}}}}, `path "/b/" is there twice`},
		{[]Host[int]{{Name: "a", Routes: []Route[int]{{Path: "/b", Exact: true}, {Path: "/b", Exact: true}}}}, `path "/b" is there twice`},
	} {
		if _, err := New(c.hosts); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v, want one with %q", c.hosts, err, c.want)
		}
	}
}

func TestWith(t *testing.T) {
	one := func(name string, value int) Host[int] {
		return Host[int]{Name: name, Routes: []Route[int]{{Path: "/", Value: value}}}
	}
	first := []Host[int]{one("", 1), one("a", 2), one("*.b", 3), one("c", 4)}
	old := mustNew(t, first)
	next, err := old.With([]Host[int]{one("a", 5), one("*.d", 6)}, []string{"", "*.b", "missing"})
	if err != nil {
		t.Fatal(err)
	}
	second := []Host[int]{one("a", 5), one("c", 4), one("*.d", 6)}
	for _, host := range []string{"", "a", "b", "x.b", "c", "x.d", "e"} {
		check(t, old, first, host, "/")
		check(t, next, second, host, "/")
	}
	if _, err := old.With([]Host[int]{one("*", 1)}, nil); err == nil {
		t.Error("a bad host was taken")
	}
	if next.Len() != 3 {
		t.Errorf("Len is %d, want 3", next.Len())
	}
}

func TestMatchAllocates(t *testing.T) {
	table := mustNew(t, benchHosts(50, 20))
	host, wild, other := []byte("host7.example.com"), []byte("x.host7.example.com"), []byte("other.org")
	path := []byte("/path3/below/it")
	if n := testing.AllocsPerRun(100, func() {
		table.Match(host, path, nil)
		table.Match(wild, path, nil)
		table.Match(other, path, nil)
	}); n != 0 {
		t.Errorf("%v allocations per match, want 0", n)
	}
}

// FuzzMatch makes a table of lines "host path" (a path with a leading '=' is
// Exact) and compares every match of the fuzzed host and path with the model.
func FuzzMatch(f *testing.F) {
	f.Add("a.example.com /\na.example.com /foo/bar\n*.example.com =/foo\n /", "a.example.com", "/foo/bar/baz")
	f.Add("a /a\na /a/b\na /a/b/c\na /a/b/c/d\na /b\na /c\na /d\na /e\na /f\na /g\na =/a/b", "a", "/a/b/cc")
	f.Add("a =/1\na =/2\na =/3\na =/4\na =/5\na =/6\na =/7\na =/8\na =/9\na /", "a", "/9/")
	f.Add("*.b /x//\n*.b /x", "a.b", "/x///y")
	f.Fuzz(func(t *testing.T, config, host, path string) {
		var hosts []Host[int]
		index := make(map[string]int)
		for n, line := range strings.Split(config, "\n") {
			name, p, _ := strings.Cut(line, " ")
			i, known := index[name]
			if !known {
				i = len(hosts)
				index[name] = i
				hosts = append(hosts, Host[int]{Name: name})
			}
			exact := strings.HasPrefix(p, "=")
			hosts[i].Routes = append(hosts[i].Routes, Route[int]{Path: strings.TrimPrefix(p, "="), Exact: exact, Value: n})
		}
		table, err := New(hosts)
		if err != nil {
			return
		}
		check(t, table, hosts, host, path)
		// All that is in the table, and what lies around it.
		for i := range hosts {
			for _, name := range []string{hosts[i].Name, strings.Replace(hosts[i].Name, "*", "x", 1)} {
				check(t, table, hosts, name, path)
				for _, r := range hosts[i].Routes {
					for _, end := range []string{"", "/", "/x", "x"} {
						check(t, table, hosts, name, r.Path+end)
					}
				}
			}
		}
	})
}
