package leaky

import (
	"testing"
	"time"
)

// TestBucket: a burst may come at once, and what leaks within a second may follow it, but never
// more than the burst, however long the peer was silent.
func TestBucket(t *testing.T) {
	rate := Rate{Burst: 100, PerSecond: 10}
	var b Bucket
	now := 5 * int64(time.Hour)
	step := func(what string, n, after int64, want bool) {
		t.Helper()
		now += after
		if got := b.Take(n, now, rate); got != want {
			t.Errorf("%s: Take(%d) = %v, want %v", what, n, got, want)
		}
	}
	step("the burst", 100, 0, true)
	step("beyond it", 1, int64(time.Second)-1, false)
	step("what has leaked in a second, less what was too much", 9, 1, true)
	step("more than that", 1, 0, false)
	step("the burst after a day", 100, 24*int64(time.Hour), true)
	step("beyond it after a day", 1, 0, false)
	b.Empty()
	step("the burst once all is forgiven", 100, 0, true)
	step("beyond it once all is forgiven", 1, 0, false)
}

// TestNothingLeaks: without a rate only Empty gives the burst back.
func TestNothingLeaks(t *testing.T) {
	rate := Rate{Burst: 1}
	var b Bucket
	if !b.Take(1, 0, rate) || b.Take(1, int64(time.Hour), rate) {
		t.Error("an hour has given something back")
	}
	b.Empty()
	if !b.Take(1, int64(time.Hour), rate) {
		t.Error("Empty has given nothing back")
	}
}
