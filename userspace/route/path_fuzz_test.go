package route

import (
	"fmt"
	"strings"
	"testing"
)

// FuzzNormalise compares NormalisePath with a naive model.
func FuzzNormalise(f *testing.F) {
	for _, raw := range []string{"/", "/a/b", "//a/./b/../c/", "/%2e%2e/a", "/a%2f..%2Fb", "/%zz", "/%00", "/a/%2E%2e", "/a/...", "/.well-known/x", "/a/..//..", "/%", "/%4", `/a\b`, "/a%5c../b", "/a/..;/b", "/a%0a", "//a/b"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		raw = "/" + raw
		got, err := NormalisePath(nil, []byte(raw))
		want, wantErr := naiveNormalise(raw)
		if (err == nil) != (wantErr == nil) || string(got) != want { // of two faults either may be found first
			t.Fatalf("%q: got %q, %v, want %q, %v", raw, got, err, want, wantErr)
		}
		if err == nil {
			resolved := ResolvePath(nil, []byte(raw))
			if again, err := NormalisePath(nil, resolved); err != nil || string(again) != want || hasDots(resolved) {
				t.Fatalf("%q: resolved to %q, which is %q, %v", raw, resolved, again, err)
			}
		}
		if err == nil && want != raw && !NeedsNormalise([]byte(raw)) {
			t.Fatalf("%q: NeedsNormalise is false", raw)
		}
	})
}

// naiveNormalise does one thing after the other: decode, split, resolve, join.
func naiveNormalise(raw string) (string, error) {
	odd := strings.Contains(raw, "//")
	if strings.Contains(raw, `\`) {
		return "", ErrPathAmbiguous
	}
	var decoded strings.Builder
	for i := 0; i < len(raw); i++ {
		if raw[i] != '%' {
			decoded.WriteByte(raw[i])
			continue
		}
		var c byte
		if i+3 > len(raw) || strings.Trim(raw[i+1:i+3], "0123456789abcdefABCDEF") != "" {
			return "", ErrBadEscape
		}
		fmt.Sscanf(raw[i+1:i+3], "%02x", &c)
		switch {
		case c == 0:
			return "", ErrBadEscape
		case c < ' ' || c == 0x7f:
			return "", ErrPathControl
		}
		odd = odd || c == '/' || c == '\\'
		decoded.WriteByte(c)
		i += 2
	}
	for _, segment := range strings.FieldsFunc(decoded.String(), func(r rune) bool { return r == '/' || r == '\\' }) {
		word, _, parameter := strings.Cut(segment, ";")
		if (word == "." || word == "..") && (odd || parameter) {
			return "", ErrPathAmbiguous
		}
	}
	var path []string
	segments := strings.Split(decoded.String(), "/")[1:]
	for i, segment := range segments {
		last := i == len(segments)-1
		switch {
		case segment == "..":
			if len(path) == 0 {
				return "", ErrPathEscapes
			}
			path = path[:len(path)-1]
		case segment != "" && segment != ".":
			path = append(path, segment)
			if last {
				return "/" + strings.Join(path, "/"), nil
			}
		}
	}
	if len(path) == 0 {
		return "/", nil
	}
	return "/" + strings.Join(path, "/") + "/", nil
}
