package inspect

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDrops: what bpf/reasons.h says is dropped is, in both programs.
func TestDrops(t *testing.T) {
	header, err := os.ReadFile("../../bpf/reasons.h")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`KG_(LOOKUP|QUIC|EGRESS)_(\w+?)(?: = 0)?,\s*/\* (\w+)`).FindAllStringSubmatch(string(header), -1) {
		r := Reason{"kg_" + strings.ToLower(m[1]), strings.ToLower(m[2])}
		if r.Drops() != (m[3] == "dropped") {
			t.Errorf("%v: Drops is %v, and reasons.h says %q", r, r.Drops(), m[3])
		}
	}
	seen := 0
	for _, m := range regexp.MustCompile(`KG_XDP_(\w+),\s*/\* (\w+)`).FindAllStringSubmatch(string(header), -1) {
		seen++
		for _, program := range watchedPrograms {
			r := Reason{program, strings.ToLower(m[1])}
			if r.Drops() != (m[2] == "dropped") {
				t.Errorf("%v: Drops is %v, and reasons.h says %q", r, r.Drops(), m[2])
			}
		}
	}
	if want := len(WatchedReasons()) / 2; seen < want {
		t.Errorf("found %d reasons in reasons.h, want %d", seen, want)
	}
}
