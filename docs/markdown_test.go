package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// width is how long a line of a page may be, in characters.
const width = 100

// TestWidth: no line of a page is longer, but for tables, code, and words that are. Pages that are
// written by measurements are wrapped by -update, like all others.
func TestWidth(t *testing.T) {
	var pages []string
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && len(d.Name()) > 2 && d.Name()[0] == '.':
			return fs.SkipDir
		case filepath.Ext(path) == ".md":
			pages = append(pages, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(pages) < 10 {
		t.Fatalf("only %q", pages)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		wrapped := wrap(string(text))
		if wrapped == string(text) {
			continue
		}
		if !*update {
			t.Errorf("%s has lines of more than %d characters; go test ./docs -update wraps them", page, width)
		} else if err := os.WriteFile(page, []byte(wrapped), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestIndex: README.md lists each page, and nothing else.
func TestIndex(t *testing.T) {
	index, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if page != "README.md" && !strings.Contains(string(index), "]("+page+")") {
			t.Errorf("README.md lacks a line for %s", page)
		}
	}
	for _, m := range regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllStringSubmatch(string(index), -1) {
		if _, err := os.Stat(m[1]); err != nil {
			t.Errorf("README.md names %s: %v", m[1], err)
		}
	}
}

func TestWrap(t *testing.T) {
	long := strings.TrimSpace(strings.Repeat("word ", 30))
	for _, same := range []string{
		"", "# " + long + "\n", "| " + long + " |\n", "    " + long + "\n", "```\n" + long + "\n```\n", "short\nlines\n", strings.Repeat("x", 150) + "\n",
	} {
		if got := wrap(same); got != same {
			t.Errorf("%q became %q", same, got)
		}
	}
	for long, want := range map[string]string{
		"a " + strings.Repeat("b", 97) + " c d\n":                  "a " + strings.Repeat("b", 97) + "\nc d\n",
		"- a " + strings.Repeat("ü", 96) + " c\n  d\n- e\n":        "- a " + strings.Repeat("ü", 96) + "\n  c d\n- e\n",
		"1. " + strings.Repeat("b", 90) + " `in code` d":           "1. " + strings.Repeat("b", 90) + "\n   `in code` d",
		strings.Repeat("b", 90) + " [a link](to/something) f\ng\n": strings.Repeat("b", 90) + "\n[a link](to/something) f g\n",
	} {
		if got := wrap(long); got != want {
			t.Errorf("%q became\n%q, want\n%q", long, got, want)
		}
	}
}

var (
	item  = regexp.MustCompile(`^\s*([-*]|\d+\.) +`)
	words = regexp.MustCompile("(?:`[^`]*`|\\[[^\\]]*\\]\\([^)]*\\)|\\S)+") // code and links stay in one line
)

// isText reports whether a line is one of a paragraph or a list.
func isText(line string) bool {
	plain := strings.TrimSpace(line)
	return plain != "" && !strings.HasPrefix(line, "    ") && !strings.ContainsAny(plain[:1], "#|<")
}

// wrap breaks the paragraphs and items of a page anew that have a line which is too long.
func wrap(page string) string {
	lines := strings.Split(page, "\n")
	var out []string
	code := false
	for i := 0; i < len(lines); {
		first := lines[i]
		if strings.HasPrefix(strings.TrimSpace(first), "```") {
			code = !code
			out, i = append(out, first), i+1
			continue
		}
		if code || !isText(first) {
			out, i = append(out, first), i+1
			continue
		}
		end := i + 1
		for end < len(lines) && isText(lines[end]) && !item.MatchString(lines[end]) && !strings.HasPrefix(strings.TrimSpace(lines[end]), "```") {
			end++
		}
		out, i = append(out, fill(lines[i:end])...), end
	}
	return strings.Join(out, "\n")
}

// fill breaks a paragraph or an item anew if it has a line that is too long.
func fill(lines []string) (out []string) {
	tooLong := false
	for _, l := range lines {
		tooLong = tooLong || utf8.RuneCountInString(l) > width
	}
	if !tooLong {
		return lines
	}
	mark := item.FindString(lines[0])
	indent := strings.Repeat(" ", len(mark))
	if mark == "" {
		mark = lines[0][:len(lines[0])-len(strings.TrimLeft(lines[0], " "))]
		indent = mark
	}
	text := strings.TrimPrefix(lines[0], mark) + "\n" + strings.Join(lines[1:], "\n")
	line, empty := mark, true
	for _, word := range words.FindAllString(text, -1) {
		word = strings.Join(strings.Fields(word), " ")
		if !empty && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			out, line, empty = append(out, line), indent, true
		}
		if !empty {
			line += " "
		}
		line, empty = line+word, false
	}
	return append(out, line)
}
