package route

import (
	"strings"
	"testing"
)

// TestPatternCost: a path for which a host's expressions would take too long has no route: neither
// theirs nor that of a shorter path, which may let in whom they would keep out.
func TestPatternCost(t *testing.T) {
	var routes []Route[string]
	for _, path := range []string{"/a(.*){200}x", "/a(.|b)*(.|c)*(.|d)*y", "/[^b]*z"} {
		routes = append(routes, Route[string]{Path: path, Regexp: true, Value: path})
	}
	routes = append(routes, Route[string]{Path: "/", Value: "root"}, Route[string]{Path: "/exact" + strings.Repeat("a", 20_000), Exact: true, Value: "exact"})
	table, err := New([]Host[string]{{Name: "a", Routes: routes}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, want string }{
		{"/ab", "root"}, {"/az", "/[^b]*z"}, {"/a" + strings.Repeat("a", 2000) + "z", ""}, {"/b" + strings.Repeat("a", 2000), "root"},
		{"/exact" + strings.Repeat("a", 20_000), "exact"}, {"/b" + strings.Repeat("a", 200_000), ""},
	} {
		got := ""
		r, ok := table.Match([]byte("a"), []byte(c.path), nil)
		if ok {
			got = r.Value
		}
		if got != c.want || (got == "") != table.TooCostly([]byte("a"), []byte(c.path)) && got != "exact" {
			t.Errorf("a path of %d bytes, %.10q: %q, want %q", len(c.path), c.path, got, c.want)
		}
	}
	l, err := NewLocations([]Location[int]{{Expression, "(a|b){300}", 1}, {PlainPrefix, "/", 2}})
	if err != nil {
		t.Fatal(err)
	}
	if l.TooCostly([]byte("/short")) || !l.TooCostly([]byte("/"+strings.Repeat("b", 2000))) {
		t.Error("locations are not bounded")
	}
}
