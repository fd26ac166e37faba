package nginxconf

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// text writes directives in one line: line number, words in brackets, block in braces.
func text(list []Directive) string {
	var b strings.Builder
	for _, d := range list {
		fmt.Fprintf(&b, "%d%q", d.Line, append([]string{d.Name}, d.Args...))
		switch {
		case d.Lua != "":
			fmt.Fprintf(&b, "{lua %q}", d.Lua)
		case d.HasBlock:
			b.WriteString("{" + text(d.Block) + "}")
		}
	}
	return b.String()
}

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		"":                                 "",
		"# all a comment":                  "",
		"a;":                               `1["a"]`,
		"\n a  b\n\tc ; # x ; y\nd;":       `2["a" "b" "c"]4["d"]`,
		`a "b c" 'd "e' "f\"g" h\;i;`:      `1["a" "b c" "d \"e" "f\"g" "h\\;i"]`,
		`a b#c;`:                           `1["a" "b#c"]`,
		`a ${b}c $d{e}`:                    `1["a" "${b}c" "$d"]{e`,
		"location ~ ^/a { deny all; }\nb;": `1["location" "~" "^/a"]{1["deny" "all"]}2["b"]`,
		"if ($a ~ \"x{2}\") {\n return 403; if ($b) {}\n}": `1["if" "($a" "~" "x{2}" ")"]`,
		"a }b;": "line 1: a ; is missing before this }",
		"x_by_lua_block { a = {b = \"}\"} -- }\n c = [==[ } ]] ]==] }\nd;": `1["x_by_lua_block"]{lua " a = {b = \"}\"} -- }\n c = [==[ } ]] ]==] "}3["d"]`,
		"x_by_lua_block { \"":      "line 1: a block of Lua has no end: a } is missing",
		"a\n b":                    `1["a" "b"]`,
		"a {\n b; ":                "line 2: the last directive has no end: a ; or a } is missing",
		"a;\n}":                    "line 2: this } ends no block",
		"{ a; }":                   "line 1: a { stands alone",
		";":                        "line 1: a ; stands alone",
		`"" a;`:                    "line 1: a directive has no name",
		`a "b;`:                    "line 1: a quote is not closed",
		`a "b"c;`:                  `line 1: 'c' follows a closing quote: a space or a ; is missing`,
		"a ${b;":                   "line 1: a } is missing after ${",
		strings.Repeat("a;", 257):  "line 1: there are more than 256 directives",
		strings.Repeat("a{", 20):   "line 1: blocks are nested more than 8 deep",
		strings.Repeat("a", 70000): "line 1: 70000 bytes are more than 65536",
	} {
		list, err := Parse(in)
		got := text(list)
		if err != nil {
			got = err.Error()
			if one := (*Error)(nil); !errors.As(err, &one) {
				t.Errorf("%q: %T", in, err)
			}
		}
		switch {
		case strings.HasPrefix(in, "a ${b}c"): // the block has no end
			want = "line 1: the last directive has no end: a ; or a } is missing"
		case strings.HasPrefix(in, "if"):
			want = `1["if" "($a" "~" "x{2}" ")"]{2["return" "403"]2["if" "($b)"]{}}`
		}
		if got != want {
			t.Errorf("%q:\n%s\nwant\n%s", in, got, want)
		}
	}
}

// FuzzParse: reading ends, lines lie within the text, and every directive has a name.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"a b;", "a { b; }", "x_by_lua_block { [[ ]] -- \n \"\\\"\" }", "a \"b\\\"c\" ${d};", "#\n}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		list, err := Parse(in)
		lines := strings.Count(in, "\n") + 1
		if one := (*Error)(nil); errors.As(err, &one) && (one.Line < 1 || one.Line > lines) {
			t.Fatalf("line %d of %d", one.Line, lines)
		}
		var check func([]Directive)
		check = func(list []Directive) {
			for _, d := range list {
				if d.Name == "" || d.Line < 1 || d.Line > lines {
					t.Fatalf("%+v", d)
				}
				check(d.Block)
			}
		}
		check(list)
	})
}
