package message

import (
	"testing"
	"time"
)

// TestInterims: one interim response every 20 seconds may go on for ever, and a storm may not.
func TestInterims(t *testing.T) {
	const start = int64(5e9)
	var slow Interims
	for i := range int64(10_000) {
		if !slow.Take(start + i*20*int64(time.Second)) {
			t.Fatalf("number %d, after %v, is too many", i, time.Duration(i)*20*time.Second)
		}
	}
	var storm Interims
	n := 0
	for storm.Take(start + int64(n)*int64(time.Millisecond)) {
		n++
	}
	if n != int(interimRate.Burst) {
		t.Errorf("%d at once are taken, want %d", n, interimRate.Burst)
	}
	if !storm.Take(start + 10*int64(time.Second)) {
		t.Error("nothing is forgiven after 10 s")
	}
}
