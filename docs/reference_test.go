// Package docs holds the documentation to the code: what reference.md lists is what the
// programs have. `go test ./docs -update` writes the generated parts anew.
package docs

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/userspace/proxy/client/http2"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/text/logformat"
)

var update = flag.Bool("update", false, "rewrite the generated parts of reference.md")

const reference = "reference.md"

// section compares the part of reference.md between its markers with want.
func section(t *testing.T, name, want string) {
	t.Helper()
	begin := fmt.Sprintf("<!-- begin %s -->\n", name)
	end := fmt.Sprintf("<!-- end %s -->", name)
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	got, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no part %q", reference, name)
	}
	want = strings.TrimRight(want, "\n") + "\n"
	if *update {
		if err := os.WriteFile(reference, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("%s, part %q is not what the code says; go test ./docs -update mends it. Want:\n%s", reference, name, want)
	}
}

// sources calls f with every Go file of the product.
func sources(t *testing.T, f func(path string, text []byte)) {
	t.Helper()
	for _, top := range []string{"../cmd", "../loader", "../userspace"} {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			if err == nil {
				f(path, text)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestLogFields(t *testing.T) {
	var b strings.Builder
	b.WriteString("| field | what |\n| --- | --- |\n")
	for _, f := range logformat.Fields {
		fmt.Fprintf(&b, "| `{%s}` | %s |\n", f.Name, f.Text)
	}
	section(t, "log fields", b.String())
}

func TestFlags(t *testing.T) {
	for _, command := range []string{"kerngate-agent", "kerngate-proxy", "kerngatectl"} {
		out, err := exec.Command("go", "run", "../cmd/"+command, "--help").CombinedOutput()
		if err != nil {
			t.Fatalf("%s --help: %v\n%s", command, err, out)
		}
		_, flags, ok := strings.Cut(string(out), "\nFlags:\n")
		if !ok {
			t.Fatalf("%s --help lists no flags:\n%s", command, out)
		}
		flags, _, _ = strings.Cut(flags, "\n\n")
		section(t, "flags of "+command, "```\n"+strings.TrimRight(flags, "\n")+"\n```")
	}
}

// metric is a name with its help.
type metric struct{ name, help string }

// TestMetrics finds metrics where they are declared: calls of prometheus.NewDesc, and
// prometheus.XxxOpts literals.
func TestMetrics(t *testing.T) {
	found := map[string]metric{}
	add := func(path, name, help string) {
		if !strings.HasPrefix(name, "kerngate_") {
			return
		}
		if !strings.HasSuffix(help, ".") {
			t.Errorf("%s: the help of %s is no sentence: %q", path, name, help)
		}
		found[name] = metric{name, help}
	}
	sources(t, func(path string, text []byte) {
		file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if len(n.Args) >= 2 {
					if name, ok := literal(n.Args[0]); ok {
						if help, ok := literal(n.Args[1]); ok {
							add(path, name, help)
						}
					}
				}
			case *ast.CompositeLit:
				fields := map[string]string{}
				for _, e := range n.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok {
						if key, ok := kv.Key.(*ast.Ident); ok {
							fields[key.Name], _ = literal(kv.Value)
						}
					}
				}
				if fields["Help"] != "" {
					add(path, fields["Name"], fields["Help"])
				}
			}
			return true
		})
	})
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	var table strings.Builder
	table.WriteString("| metric | meaning |\n| --- | --- |\n")
	for _, name := range names {
		fmt.Fprintf(&table, "| `%s` | %s |\n", name, found[name].help)
	}
	section(t, "metrics", table.String())

	// Nothing is named kerngate_ in a way that the search above does not see.
	pattern := regexp.MustCompile(`"(kerngate_(?:agent|proxy|kernel)_[a-z0-9_]+)"`)
	sources(t, func(path string, text []byte) {
		for _, m := range pattern.FindAllSubmatch(text, -1) {
			if _, ok := found[string(m[1])]; !ok {
				t.Errorf("%s mentions %s, which this test does not find declared", path, m[1])
			}
		}
	})
}

// literal returns the value of a string literal, or of several added up.
func literal(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, err == nil && e.Kind == token.STRING
	case *ast.BinaryExpr:
		a, ok := literal(e.X)
		b, also := literal(e.Y)
		return a + b, ok && also
	}
	return "", false
}

func TestReasons(t *testing.T) {
	var table strings.Builder
	table.WriteString("| reason | status | meaning |\n| --- | --- | --- |\n")
	for r := range exchange.Reasons {
		text := r.Text()
		if r == exchange.Forwarded {
			text = "a pod's response was passed on whole, with its own status"
		}
		fmt.Fprintf(&table, "| `%s` | %d | %s |\n", r, r.Status(), text)
	}
	section(t, "reasons", table.String())

	table.Reset()
	table.WriteString("| detail | status | meaning |\n| --- | --- | --- |\n")
	for _, e := range message.Errors() {
		fmt.Fprintf(&table, "| `%s` | %d | %s |\n", e.Reason, e.Status, e.Text())
	}
	section(t, "details", table.String())

	table.Reset()
	table.WriteString("| limit | at once | per second | what |\n| --- | --- | --- | --- |\n")
	for l := range http2.Limits {
		fmt.Fprintf(&table, "| `%s` | %d | %d | %s |\n", l, l.Burst(), l.Rate(), l.Text())
	}
	section(t, "limits of HTTP/2", table.String())

	table.Reset()
	table.WriteString("| reason | what |\n| --- | --- |\n")
	for f := range http2.Faults {
		fmt.Fprintf(&table, "| `%s` | %s |\n", f, f.Text())
	}
	section(t, "faults of HTTP/2", table.String())

	table.Reset()
	table.WriteString("| program | reason |\n| --- | --- |\n")
	for r := range abi.Reasons {
		program, reason := abi.ReasonNames(r)
		fmt.Fprintf(&table, "| `%s` | `%s` |\n", program, reason)
	}
	section(t, "kernel reasons", table.String())
}

// TestProblems compares the table of problems with the reasons that the source has.
func TestProblems(t *testing.T) {
	declared := map[string]bool{}
	pattern := regexp.MustCompile(`(?:model\.(?:Warning|Refused),\s*|Reason:\s+|return |\.warn\(|secretError\{|reason, message = |const Reason[A-Za-z]+ = )"([A-Z][A-Za-z]+)"`)
	sources(t, func(path string, text []byte) {
		if strings.Contains(path, "/kube/") || strings.Contains(path, "/ingressnginx/") || strings.Contains(path, "/folder/") || strings.Contains(path, "/compile/") || strings.Contains(path, "/agent/") {
			for _, m := range pattern.FindAllSubmatch(text, -1) {
				declared[string(m[1])] = true
			}
		}
	})
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(text), "## Problems\n")
	part, _, _ = strings.Cut(part, "\n## ")
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Za-z]+)` \\|").FindAllStringSubmatch(part, -1) {
		documented[m[1]] = true
	}
	for reason := range declared {
		if !documented[reason] {
			t.Errorf("%s is a reason in the source and not in %s", reason, reference)
		}
	}
	for reason := range documented {
		if !declared[reason] {
			t.Errorf("%s is documented, and no reason in the source", reason)
		}
	}
}

// TestLinks checks that what the documents point to within the tree is there.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	files, err := filepath.Glob("*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	for _, file := range append(files, "../README.md", "../bpf/README.md", "../userspace/README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); err != nil {
				t.Errorf("%s points to %s, which is not there", file, m[1])
			}
		}
	}
}
