package compression

import (
	"slices"
	"testing"
)

func TestChoose(t *testing.T) {
	all := []Encoding{Zstd, Brotli, Gzip}
	for _, tc := range []struct {
		accept []string
		list   []Encoding
		want   Encoding
	}{
		{nil, all, Identity},
		{[]string{""}, all, Identity},
		{[]string{"gzip"}, all, Gzip},
		{[]string{"GZip"}, all, Gzip},
		{[]string{"x-gzip"}, all, Gzip},
		{[]string{"gzip, deflate, br, zstd"}, all, Zstd},
		{[]string{"gzip, deflate, br, zstd"}, []Encoding{Gzip, Brotli}, Gzip},
		{[]string{"gzip;q=1.0, br;q=0.5"}, all, Gzip},
		{[]string{"gzip;q=0.5,br;Q=0.501"}, all, Brotli},
		{[]string{"gzip ; q=0.8", "br"}, all, Brotli},
		{[]string{"*"}, all, Zstd},
		{[]string{"*;q=0.1, zstd;q=0"}, all, Brotli},
		{[]string{"*;q=0"}, all, Identity},
		{[]string{"gzip;q=0"}, all, Identity},
		{[]string{"gzip;q=0.000"}, all, Identity},
		{[]string{"identity, gzip;q=0.5"}, all, Identity},
		{[]string{"identity;q=0.5, gzip;q=0.5"}, all, Gzip},
		{[]string{"identity;q=0, gzip"}, all, Gzip},
		{[]string{"identity;q=0"}, all, Identity}, // nothing is left: better a response that it refuses than none
		{[]string{"gzip;q=2"}, all, Identity},
		{[]string{"gzip;q=1.5"}, all, Identity},
		{[]string{"gzip;q=0.1234"}, all, Identity},
		{[]string{"gzip;q="}, all, Identity},
		{[]string{"gzip;q=.5"}, all, Identity},
		{[]string{"gzip;level=9"}, all, Identity},
		{[]string{"gzip;q=0x1"}, all, Identity},
		{[]string{"g zip"}, all, Identity},
		{[]string{",,gzip,,"}, all, Gzip},
		{[]string{"gzip"}, nil, Identity},
		{[]string{"gzip"}, []Encoding{Brotli}, Identity},
	} {
		var a Accepted
		for _, v := range tc.accept {
			a.Add([]byte(v))
		}
		if got := a.Choose(tc.list); got != tc.want {
			t.Errorf("%q of %v: got %v, want %v", tc.accept, tc.list, got, tc.want)
		}
	}
}

func TestLongFieldsAreReadInPart(t *testing.T) {
	value := slices.Repeat([]byte("deflate,"), maxMembers)
	var a Accepted
	a.Add(append(value, "gzip"...))
	if got := a.Choose([]Encoding{Gzip}); got != Identity {
		t.Errorf("got %v: member %d was read", got, maxMembers+1)
	}
}

func TestParseEncodings(t *testing.T) {
	got, err := ParseEncodings([]string{"zstd", "br", "gzip"})
	if err != nil || !slices.Equal(got, []Encoding{Zstd, Brotli, Gzip}) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range [][]string{{"deflate"}, {""}, {"identity"}, {"gzip", "gzip"}, {"GZIP"}} {
		if got, err := ParseEncodings(bad); err == nil {
			t.Errorf("%q: %v, want an error", bad, got)
		}
	}
}

func TestParseType(t *testing.T) {
	for in, want := range map[string]string{"Text/HTML": "text/html", "text/*": "text/*", "application/vnd.x+json": "application/vnd.x+json",
		"text": "", "*/*": "", "text/": "", "/html": "", "text/html; charset=utf-8": "", "text /html": "", "a/b/c": ""} {
		if got, err := ParseType(in); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
	for _, name := range DefaultTypes {
		if got, err := ParseType(name); got != name || err != nil {
			t.Errorf("%q: got %q, %v", name, got, err)
		}
	}
}

// Whatever the field says, a coding that is chosen is one of the list, and none is that the
// client gave the weight 0 by its name.
func FuzzAccept(f *testing.F) {
	for _, seed := range []string{"gzip, br;q=0.5", "*;q=0", "identity;q=0", "zstd;q=1.000,gzip;q=0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		var a Accepted
		a.Add([]byte(value))
		list := []Encoding{Gzip, Zstd}
		switch e := a.Choose(list); {
		case e != Identity && !slices.Contains(list, e):
			t.Errorf("%q: %v is not of the list", value, e)
		case e != Identity && a.of(e) <= 0:
			t.Errorf("%q: %v, which the client does not take", value, e)
		}
		var refused Accepted
		refused.Add([]byte("gzip;q=0," + value))
		if a.members < maxMembers-1 && a.weight[Gzip] == 0 && refused.Choose(list) == Gzip {
			t.Errorf("%q: gzip, which is refused", value)
		}
	})
}
