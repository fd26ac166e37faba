package http1

import (
	"strings"
	"testing"
)

func TestAppendEndToEnd(t *testing.T) {
	var r Request
	if _, err := r.Parse([]byte("POST / HTTP/1.1\r\n"+host+"Connection: close, X-A\r\nX-A: 1\r\nx-b:2 \r\nKeep-Alive: 1\r\nProxy-Connection: x\r\n"+
		"TE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nContent-Length: 3\r\nX_Real_IP: 6\r\nX-Real-IP: 7\r\nEmpty:\r\n\r\n"), Limits{}); err != nil {
		t.Fatal(err)
	}
	got := string(r.AppendEndToEnd([]byte("> "), Fields(FieldXRealIP)))
	if want := "> Host: example.com\r\nx-b: 2\r\nEmpty: \r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFieldIDs(t *testing.T) {
	for id := FieldOther + 1; id < fieldCount; id++ {
		name := fieldNames[id]
		if name == "" {
			t.Fatalf("field %d has no name", id)
		}
		for _, spelling := range []string{name, strings.ToUpper(name)} {
			if got := fieldIDOf([]byte(spelling)); got != id {
				t.Errorf("%q has id %d, want %d: do two names share a slot of the hash?", spelling, got, id)
			}
		}
		// One character changed at any place is another name.
		for i := range name {
			b := []byte(name)
			b[i] ^= 1
			if got := fieldIDOf(b); got != FieldOther {
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
		if StatusText(e.Status) == "" || e.Error() == "http1: " {
			t.Errorf("%s: status %d, text %q", e.Reason, e.Status, e.Error())
		}
	}
	if !tokens[ErrTLS.Reason] || !tokens[ErrPathEscapes.Reason] || tokens[errMore.Reason] {
		t.Errorf("errors are missing, or errMore is among them: %v", tokens)
	}
}

// TestScans compares the scans that look at eight or sixteen bytes at a time
// with the tables, for every byte at every place among various others.
func TestScans(t *testing.T) {
	for _, filler := range []byte{'a', '!', '~', '$', '"'} {
		for length := range 40 {
			for c := range 256 {
				for at := range length {
					buf := []byte(strings.Repeat(string(filler), length))
					buf[at] = byte(c)
					if at+3 < length {
						buf[at+3] = 0 // the first one counts
					}
					control, target := length, length
					for i := length - 1; i >= 0; i-- {
						if buf[i] < 0x20 || buf[i] == 0x7f {
							control = i
						}
						if classes[buf[i]]&classTarget == 0 {
							target = i
						}
					}
					if got := controlAt(buf, 0); got != control {
						t.Fatalf("controlAt(%q) is %d, want %d", buf, got, control)
					}
					if got := targetEnd(buf, 0); got != target {
						t.Fatalf("targetEnd(%q) is %d, want %d", buf, got, target)
					}
				}
			}
		}
	}
}
