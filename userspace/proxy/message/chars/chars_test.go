package chars

import (
	"strings"
	"testing"
)

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
						if Classes[buf[i]]&Target == 0 {
							target = i
						}
					}
					if got := ControlAt(buf, 0); got != control {
						t.Fatalf("ControlAt(%q) is %d, want %d", buf, got, control)
					}
					if got := TargetEnd(buf, 0); got != target {
						t.Fatalf("TargetEnd(%q) is %d, want %d", buf, got, target)
					}
				}
			}
		}
	}
}
