package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAttackClasses: each row of the table of attacks in security.md names tests that exist, or says
// why there is nothing to attack.
func TestAttackClasses(t *testing.T) {
	const file, begin, end = "security.md", "<!-- begin attack classes -->", "<!-- end attack classes -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), begin)
	table, _, closed := strings.Cut(table, end)
	if !found || !closed {
		t.Fatalf("%s has no table between %q and %q", file, begin, end)
	}
	test := regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz)[A-Za-z0-9]+)`")
	rows := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || strings.Contains(cells[1], "---") || strings.TrimSpace(cells[1]) == "class" {
			continue
		}
		rows++
		named := test.FindAllStringSubmatch(line, -1)
		if len(named) == 0 && !strings.Contains(line, "not possible:") {
			t.Errorf("no test covers %s, and nothing says that it is \"not possible:\", and why", strings.TrimSpace(cells[1]))
		}
		for _, m := range named {
			if !declares(t, m[1], m[2]) {
				t.Errorf("%s: there is no %s in %s", strings.TrimSpace(cells[1]), m[2], m[1])
			}
		}
	}
	if rows < 20 {
		t.Errorf("the table has %d rows: is it read right?", rows)
	}
}

// declares reports whether a test of a package is of that name.
func declares(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}
