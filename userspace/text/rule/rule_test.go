package rule

import (
	"strings"
	"testing"
)

// takes holds a check to values that it takes and values that it does not.
func takes(t *testing.T, check string, takes func(string) bool, good, bad []string) {
	t.Helper()
	for _, v := range good {
		if !takes(v) {
			t.Errorf("%s does not take %q", check, Shorten(v))
		}
	}
	for _, v := range bad {
		if takes(v) {
			t.Errorf("%s takes %q", check, Shorten(v))
		}
	}
}

func ok[T any](read func(string) (T, error)) func(string) bool {
	return func(v string) bool { _, err := read(v); return err == nil }
}

func TestTexts(t *testing.T) {
	long := func(n int) string { return strings.Repeat("a", n) }
	takes(t, "Token", Token, []string{"a", "X-A", "*", "a.b", "!#$%&'*+-.^_`|~", long(256)}, []string{"", "a b", "a:b", "a\x00", "é", "a\r\n", "a=b", "{a}", long(257)})
	takes(t, "FieldName", func(v string) bool { return FieldName(v) == nil }, []string{"X-A", "Set-Cookie", "Hosts"}, []string{"", "a b", "Host", "hOST", "te", "Content_Length", "transfer-encoding", "Expect"})
	takes(t, "FieldValue", FieldValue, []string{"", "a b", "a\tb", "é"}, []string{"a\r\nb", "\x00", "\x7f"})
	takes(t, "Realm", Realm, []string{"", "Staff only"}, []string{`a"b`, `a\b`, "é", "a\tb"})
	takes(t, "CookieText", CookieText, []string{"", "/a/b", "example.com"}, []string{"a b", "a;b", "a,b", "é", "\x7f"})
	takes(t, "SameSite", ok(SameSite), []string{"", "Strict", "lax", "NONE"}, []string{"stric", "one", "non", "strict lax", " "})
	takes(t, "Rewrite", func(v string) bool { return Rewrite(v) == nil }, []string{"/", "/$1", "$9", "/é", "/" + long(2047)}, []string{"/ ", "/$", "/$0", "/$a", "/\x00", "/" + long(2048)})
	takes(t, "HostName", HostName, []string{"a", "a.example", "*.a.example", long(63)}, []string{"", "*", "*.", "A", "a_b", "-a", "a-", "a..b", "a.", "é", long(64), strings.Repeat("a.", 127) + "a"})
	takes(t, "AbsoluteURL", AbsoluteURL, []string{"https://a.example/x?y", "http://a"}, []string{"", "/x", "ftp://a/", "https://", "https://a/ b", "https://a/\"", "https://é.example/"})
	for v, want := range map[string]string{"sTRICT": "Strict", "none": "None", "": ""} {
		if got, _ := SameSite(v); got != want {
			t.Errorf("SameSite of %q is %q", v, got)
		}
	}
}

func TestExpression(t *testing.T) {
	takes(t, "Expression", ok(Expression),
		[]string{"", "^/a(.*)$", "a{1000}", `\Qabc`, "(?i)é", strings.Repeat("a", MaxExpression)},
		[]string{"(", "a)(b", "(?=a)", `(a)\1`, "a{1001}", "a**", strings.Repeat("a", MaxExpression+1), strings.Repeat("a{1000}", 3), strings.Repeat(".{0,1000}", 110), "((a{100}){100}){10}", strings.Repeat(`\pL`, 300), "[^a]{0,1000}(b|c){1000}"})
	takes(t, "Within", func(v string) bool { _, err := Within("(?i:", v, ").*"); return err == nil },
		[]string{"a|b", `\Qabc\E`}, []string{"a)(b", `\Qabc`, "(", `a\`})
	takes(t, "Subject", ok(Subject), []string{"CN=me", strings.Repeat("a", MaxSubject)}, []string{"(", strings.Repeat("a", MaxSubject+1)})
	if re, err := Within("^", "a|b", "c"); err != nil || re.MatchString("a") || !re.MatchString("bc") {
		t.Errorf("%v, %v: what stands around an expression holds for all of it", re, err)
	}
	if _, err := Expression("(?=a)"); err == nil || !strings.Contains(err.Error(), "no look-around") {
		t.Errorf("%v does not say what is missing", err)
	}
}

func TestPrefix(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.0/24": "192.0.2.0/24", "192.0.2.7/24": "192.0.2.0/24", "192.0.2.7": "192.0.2.7/32", "2001:db8::1": "2001:db8::1/128", "::/0": "::/0",
		"::ffff:192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.0/120": "192.0.2.0/24", "::ffff:0:0/96": "0.0.0.0/0", "::ffff:0:0/95": "",
		"": "", "a": "", "192.0.2.0/33": "", "192.0.2.0/": "", "192.0.2.0/024": "", "fe80::1%eth0": "", "fe80::%eth0/64": "", "01.2.3.4": "", " 192.0.2.7": "",
	} {
		p, err := Prefix(text)
		if got := p.String(); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%q is %s, %v, want %q", text, got, err, want)
		}
	}
}

func TestTargets(t *testing.T) {
	for _, c := range []struct {
		status          int
		target, pattern string
		good            bool
	}{
		{301, "https://a$request_uri", "", true}, {403, "", "", true}, {304, "", "", true}, {302, "/$1", "^/(.*)", true}, {200, "", "", true},
		{301, "", "", false}, {305, "", "", false}, {399, "", "", false}, {199, "", "", false}, {600, "", "", false}, {302, "/$1", "", false}, {302, "/$2", "^/(.*)", false},
		{302, "$nope", "", false}, {302, "a\r\nb", "", false}, {302, "/", "(", false},
	} {
		if _, _, err := Redirect(c.status, c.target, c.pattern); (err == nil) != c.good {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, c := range []struct {
		from, to      string
		pattern, good bool
	}{
		{"/a", "/b", false, true}, {"(", "", false, true}, {"^/(a)", "/$1", true, true},
		{"", "a", false, false}, {"a;b", "", false, false}, {"a", "b\n", false, false}, {"(", "", true, false}, {`\Qa`, "", true, false}, {strings.Repeat("a", 1024), "b", false, false},
	} {
		if _, err := Replacement(c.from, c.to, c.pattern); (err == nil) != c.good {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestURLs(t *testing.T) {
	for text, want := range map[string]int{"a": 0, "a.example:80": 80, "192.0.2.7:65535": 65535, "[::1]": 0, "[::1]:8443": 8443} {
		if _, port, err := Authority(text); err != nil || port != want {
			t.Errorf("%q: port %d, %v", text, port, err)
		}
	}
	authority := func(v string) bool { _, _, err := Authority(v); return err == nil }
	takes(t, "Authority", authority, nil, []string{"", "A", "a:", "a:0", "a:65536", "a:x", "::1", "[::1", "[::1]x", "[192.0.2.7]", "[fe80::1%eth0]", "*.a", "a b", "u@a", "a/b", "$host", "a.", "[]"})
	origin := func(v string) bool { _, _, err := Origin(v); return err == nil }
	takes(t, "Origin", origin, []string{"https://a.example", "http://a:80", "https://*.a.example:8443", "capacitor://localhost"},
		[]string{"", "a.example", "https://", "https://*", "https://*a.example", "https://a/b", "https://a:", "https://a:x", "https://A", "https://a b", "h ttps://a"})
}
