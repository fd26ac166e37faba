package template

import (
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Template{
		"":                            nil,
		"plain":                       {{Text: "plain"}},
		"https://$host$request_uri":   {{Text: "https://"}, {Value: Host}, {Value: Target}},
		"${scheme}s":                  {{Value: Scheme}, {Text: "s"}},
		"$http_X_Foo-$cookie_a$arg_b": {{Value: Field, Text: "x-foo"}, {Text: "-"}, {Value: Cookie, Text: "a"}, {Value: Argument, Text: "b"}},
	} {
		got, err := Parse(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"$":                        "must be followed",
		"a$ b":                     "must be followed",
		"${host":                   "} is missing",
		"$1":                       "not a value",
		"$http_":                   "not a value",
		"${http_a b}":              "not a value",
		"$connection":              "not a value",
		"a\r\nb":                   "control character",
		"a\x00":                    "control character",
		strings.Repeat("a", 5000):  "more than 4096",
		strings.Repeat("$uri", 40): "more than 32",
	} {
		if got, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, %v", text, got, err)
		}
	}
}

// FuzzParse: what is accepted holds no control character.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"https://$host$request_uri", "${a}", "$http_a_b", "$", "a\n", "\x7f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parts, err := Parse(text)
		if err != nil {
			return
		}
		for _, p := range parts {
			if strings.ContainsFunc(p.Text, func(r rune) bool { return r < ' ' || r == 0x7f }) || p.Value != Host && p.Value == Literal && p.Text == "" {
				t.Errorf("%q: part %v", text, p)
			}
		}
	})
}
