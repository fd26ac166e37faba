package message

import (
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/route"
)

func TestFieldIDs(t *testing.T) {
	for id := FieldOther + 1; id < fieldCount; id++ {
		name := fieldNames[id]
		if name == "" {
			t.Fatalf("field %d has no name", id)
		}
		for _, spelling := range []string{name, strings.ToUpper(name)} {
			if got := FieldIDOf([]byte(spelling)); got != id {
				t.Errorf("%q has id %d, want %d: do two names share a slot of the hash?", spelling, got, id)
			}
		}
		// One character changed at any place is another name.
		for i := range name {
			b := []byte(name)
			b[i] ^= 1
			if got := FieldIDOf(b); got != FieldOther {
				t.Errorf("%q has id %d", b, got)
			}
		}
		if strings.Contains(name, "-") && !lookalike([]byte(strings.ReplaceAll(name, "-", "_"))) {
			t.Errorf("%q with underscores is no lookalike", name)
		}
		if !Fields(id).Has(id) || Fields(id).Has(id-1) {
			t.Errorf("FieldSet of %d", id)
		}
	}
	if fieldCount > 64 {
		t.Errorf("%d fields do not fit in a FieldSet", fieldCount)
	}
}

func TestErrors(t *testing.T) {
	tokens := make(map[string]bool)
	for _, e := range Errors() {
		if tokens[e.Reason] || e.Reason == "" || strings.Trim(e.Reason, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			t.Errorf("reason %q is there twice or is no token", e.Reason)
		}
		tokens[e.Reason] = true
		if StatusText(e.Status) == "" || e.Error() == "" {
			t.Errorf("%s: status %d, text %q", e.Reason, e.Status, e.Error())
		}
	}
	if !tokens[ErrTLS.Reason] || !tokens[route.ErrPathEscapes.Reason] {
		t.Errorf("errors are missing: %v", tokens)
	}
}
