package docs

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestPackages compares userspace/README.md with the packages that there are.
func TestPackages(t *testing.T) {
	const file = "../userspace/README.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "list", "../userspace/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	there := map[string]bool{}
	for path := range strings.Lines(string(out)) {
		_, name, _ := strings.Cut(strings.TrimSpace(path), "/userspace/")
		there[name] = true
	}
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9/]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		if listed[m[1]] {
			t.Errorf("%s lists %s twice", file, m[1])
		}
		if listed[m[1]] = true; !there[m[1]] {
			t.Errorf("%s lists %s, which is not a package", file, m[1])
		}
	}
	for name := range there {
		if !listed[name] {
			t.Errorf("%s lacks a line for %s", file, name)
		}
	}
}
