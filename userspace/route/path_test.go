package route

import "testing"

func TestNormalisePath(t *testing.T) {
	for _, c := range []struct {
		raw, want string
		err       error
	}{
		{"/", "/", nil},
		{"*", "*", nil},
		{"/a/b", "/a/b", nil},
		{"/a/b/", "/a/b/", nil},
		{"//", "/", nil},
		{"//a///b//", "/a/b/", nil},
		{"/.", "/", nil},
		{"/./", "/", nil},
		{"/a/.", "/a/", nil},
		{"/a/./b", "/a/b", nil},
		{"/a/..", "/", nil},
		{"/a/../", "/", nil},
		{"/a/b/..", "/a/", nil},
		{"/a/b/../c", "/a/c", nil},
		{"/a/b/../../c", "/c", nil},
		{"/a//../b", "", ErrPathAmbiguous},
		{"/a/.//../b", "", ErrPathAmbiguous},
		{"/...", "/...", nil},
		{"/.../b", "/.../b", nil},
		{"/.a/..b/c.", "/.a/..b/c.", nil},
		{"/a/.well-known", "/a/.well-known", nil},
		{"/%61", "/a", nil},
		{"/%c3%A4", "/\xc3\xa4", nil},
		{"/%2561", "/%61", nil},
		{"/a%2fb", "/a/b", nil},
		{"/a%2F%2fb", "/a/b", nil},
		{"/a/%2e%2E/b", "/b", nil},
		{"/a/%2e%2e%2fb", "", ErrPathAmbiguous},
		{"/a/.%2e/b", "/b", nil},
		{"/a%2f..", "", ErrPathAmbiguous},
		{"/%25", "/%", nil},
		{"/..", "", ErrPathEscapes},
		{"/../a", "", ErrPathEscapes},
		{"/a/../../b", "", ErrPathEscapes},
		{"/a/x/../../b", "/b", nil},
		{"/%5c", "/\\", nil},
		{"/a%5cb//c", "/a\\b/c", nil},
		{"/a;b/../c", "/c", nil},
		{"/...;b", "/...;b", nil},
		{"/a\\b", "", ErrPathAmbiguous},
		{"/public\\..\\admin", "", ErrPathAmbiguous},
		{"/public%5c..%5cadmin", "", ErrPathAmbiguous},
		{"/public/..%5cadmin", "", ErrPathAmbiguous},
		{"/public%5C%2e%2E/admin", "", ErrPathAmbiguous},
		{"/public%5c.", "", ErrPathAmbiguous},
		{"/a%5cb/../c", "", ErrPathAmbiguous},
		{"/admin//x/../y", "", ErrPathAmbiguous},
		{"/admin/x/..//y", "", ErrPathAmbiguous},
		{"/admin/x%2f../../users", "", ErrPathAmbiguous},
		{"/a/../b%2Fc", "", ErrPathAmbiguous},
		{"/a/..;/b", "", ErrPathAmbiguous},
		{"/a/.;x=1/b", "", ErrPathAmbiguous},
		{"/a/%2e%2e%3b/b", "", ErrPathAmbiguous},
		{"/a%0a", "", ErrPathControl},
		{"/a%7f", "", ErrPathControl},
		{"/%1F", "", ErrPathControl},
		{"/a%80", "/a\x80", nil},
		{"//..", "", ErrPathAmbiguous},
		{"/%2e%2e/a", "", ErrPathEscapes},
		{"/a/../../a/b", "", ErrPathEscapes},
		{"/%", "", ErrBadEscape},
		{"/%6", "", ErrBadEscape},
		{"/%6g", "", ErrBadEscape},
		{"/%g6", "", ErrBadEscape},
		{"/%u0061", "", ErrBadEscape},
		{"/%00", "", ErrBadEscape},
		{"/%%61", "", ErrBadEscape},
	} {
		got, err := NormalisePath([]byte("dst"), []byte(c.raw))
		if err != c.err || string(got) != "dst"+c.want {
			t.Errorf("%q: got %q, %v, want %q, %v", c.raw, got, err, c.want, c.err)
		}
		if err == nil && c.raw != c.want && !NeedsNormalise([]byte(c.raw)) {
			t.Errorf("%q: NeedsNormalise is false", c.raw)
		}
	}
	dst := make([]byte, 0, 64)
	raw := []byte("/a/%2e%2e/b")
	if n := testing.AllocsPerRun(100, func() {
		if _, err := NormalisePath(dst, raw); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestResolvePath(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{"/", "/"}, {"*", "*"}, {"/a%2Fb//c/", "/a%2Fb//c/"}, {"/a/...", "/a/..."}, {"/%2e%2e%2e", "/%2e%2e%2e"},
		{"//", "/"}, {"///a//b", "/a//b"},
		{"/.", "/"}, {"/a/.", "/a/"}, {"/a/./b", "/a/b"}, {"/a/b/../c%20d", "/a/c%20d"}, {"/a/b/..", "/a/"}, {"/a/..", "/"}, {"/a/../", "/"},
		{"/a/%2e%2E/b", "/b"}, {"/a/.%2e/b/%2e/c", "/b/c"}, {"/a;x/../b;y", "/b;y"}, {"/a/b/../../c", "/c"},
	} {
		raw := []byte(c.raw)
		if got := ResolvePath([]byte("dst")[:3:3], raw); string(got) != c.want || string(raw) != c.raw {
			t.Errorf("%q: got %q, want %q", c.raw, got, c.want)
		}
	}
}
