package docs

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
	"github.com/kerngate/kerngate/userspace/look/check"
)

// TestMigration compares the part of migration.md that lists differences with the code.
func TestMigration(t *testing.T) {
	var b strings.Builder
	b.WriteString("Defaults, for every Ingress:\n\n")
	for _, d := range check.Defaults() {
		fmt.Fprintf(&b, "- %s\n", d)
	}
	b.WriteString("\nAnnotations:\n\n| annotation | difference, or why it is not honoured |\n| --- | --- |\n")
	for _, k := range ingressnginx.Keys() {
		if k.Verdict != ingressnginx.Supported {
			fmt.Fprintf(&b, "| `%s` | %s |\n", k.Name, k.Why)
		}
	}
	b.WriteString("\nKeys of the controller's ConfigMap that are not supported (all keys: [configmap.md](configmap.md)):\n\n| key | why |\n| --- | --- |\n")
	for _, s := range ingressnginx.Settings() {
		if s.By == ingressnginx.NotSupported {
			fmt.Fprintf(&b, "| `%s` | %s |\n", s.Name, s.Why)
		}
	}
	const file, begin, end = "migration.md", "<!-- begin differences -->\n", "<!-- end differences -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	got, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no part for the differences", file)
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+begin+wrap(b.String())+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != wrap(b.String()) {
		t.Errorf("%s is not what the code says; go test ./docs -update mends it", file)
	}
}
