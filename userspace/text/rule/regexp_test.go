package rule

import (
	"regexp/syntax"
	"strings"
	"testing"
)

// TestSize: what is estimated without compiling is never less than what a program has in the end,
// but for a few instructions, or hostile expressions would get past the bound.
func TestSize(t *testing.T) {
	for _, text := range []string{
		"", "a", "/foo(/|$)(.*)", "^/v[0-9]+/(a|b|cd)$", "a{0,100}", "(ab){3,7}", "(a|b|c){2,}", "((a{10}){10}){3}", "(a*)*(b+|c?)*x{50}",
		"(?i)straße|k", ".{0,30}.{0,30}", "(?:a{0}b){5}", "(a?){20}", "x{5,}y{1,1}", `\bfoo\b`, strings.Repeat("(a|b|.)*", 40),
	} {
		parsed, err := syntax.Parse(text, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		program, err := syntax.Compile(parsed.Simplify())
		if err != nil {
			t.Fatal(err)
		}
		if steps, _ := size(parsed); steps+3 < len(program.Inst) {
			t.Errorf("%q: %d steps are estimated, it has %d", text, steps, len(program.Inst))
		}
	}
}

// TestSearchBounded: a search that would take too long is not made.
func TestSearchBounded(t *testing.T) {
	re, err := Expression("(a|b){0,400}c")
	if err != nil {
		t.Fatal(err)
	}
	short, long := []byte("ac"), []byte(strings.Repeat("a", 10_000)+"c")
	if !re.Match(short) || re.FindSubmatchIndex(short) == nil || re.Cost(len(short)) > MaxSearch {
		t.Error("a short text is not searched")
	}
	if re.Match(long) || re.MatchString(string(long)) || re.FindSubmatchIndex(long) != nil || re.Cost(len(long)) <= MaxSearch {
		t.Error("a long text is searched")
	}
	plain, err := Expression("^/app(/|$)(.*)x$")
	if err != nil || plain.Cost(8<<10) > MaxSearch {
		t.Errorf("the usual expression cannot be searched for in a path of 8 KiB: %v", err)
	}
}
