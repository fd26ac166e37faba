package route

import (
	"strings"
	"testing"
)

// TestLocations is nginx's order: an equal path, the longest prefix if it is final, the
// first expression, the longest prefix; the rival's own path competes by its length.
func TestLocations(t *testing.T) {
	l, err := NewLocations([]Location[string]{
		{PlainPrefix, "/img/", "prefix"}, {FinalPrefix, "/img/raw/", "final"}, {Expression, `\.png$`, "png"},
		{FoldedExpression, `\.GIF$`, "gif"}, {Expression, `^/img/a`, "a"}, {Equal, "/img/one.png", "equal"}, {PlainPrefix, "/foo", "foo"},
	})
	if err != nil {
		t.Fatal(err)
	}
	root := &Route[string]{Path: "/"}
	for _, c := range []struct {
		own        *Route[string]
		path, want string
	}{
		{root, "/img/one.png", "equal"}, {root, "/img/raw/x.png", "final"}, {root, "/img/x.png", "png"}, {root, "/img/x.PNG", "prefix"},
		{root, "/x.gif", "gif"}, {root, "/img/a.png", "png"}, {root, "/img/abc", "a"}, {root, "/img/b", "prefix"}, {root, "/imgs", ""}, {root, "/", ""},
		{root, "/foobar", "foo"},
		// "location /foo/" and "location = /foo" of the Ingress are longer than "/foo".
		{&Route[string]{Path: "/foo"}, "/foo", ""}, {&Route[string]{Path: "/foo"}, "/foo/x", ""}, {&Route[string]{Path: "/foo"}, "/foo/x.png", "png"},
		{&Route[string]{Path: "/img"}, "/img/x", "prefix"}, {&Route[string]{Path: "/img/raw/y"}, "/img/raw/y/z", ""},
		{&Route[string]{Path: "/img/x.png", Exact: true}, "/img/x.png", ""}, {&Route[string]{Path: "/img/one.png", Exact: true}, "/img/one.png", "equal"},
		// The Ingress's own expressions come behind those of a server-snippet, and before prefixes.
		{&Route[string]{Path: "/(.*)", Regexp: true}, "/img/b", ""}, {&Route[string]{Path: "/(.*)", Regexp: true}, "/img/x.png", "png"}, {&Route[string]{Path: "/(.*)", Regexp: true}, "/img/raw/b", "final"},
		{root, "/x.png\n", "png"}, {root, "/x.png\n\n", ""},
	} {
		got := ""
		if found := l.Find([]byte(c.path), RivalOf(c.own, []byte(c.path))); found != nil {
			got = found.Value
		}
		if got != c.want {
			t.Errorf("%q beside %v: %q, want %q", c.path, c.own, got, c.want)
		}
	}
	for _, text := range []string{"(?!a)", "a)(b", "(", strings.Repeat("a", MaxPattern+1)} {
		if _, err := NewLocations([]Location[int]{{Expression, text, 0}}); err == nil {
			t.Errorf("%.20q is taken", text)
		}
	}
}

func TestLocationsAllocate(t *testing.T) {
	l, _ := NewLocations([]Location[int]{{PlainPrefix, "/img/", 1}, {Expression, `\.png$`, 2}, {Equal, "/x", 3}})
	path, own := []byte("/other/path"), &Route[int]{Path: "/"}
	if n := testing.AllocsPerRun(100, func() { l.Find(path, RivalOf(own, path)) }); n != 0 {
		t.Errorf("%v allocations per request", n)
	}
}
