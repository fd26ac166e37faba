package linger

import (
	"testing"
	"time"
)

// TestBudget: a connection has a burst, and gets back so much a second and never more than
// the burst.
func TestBudget(t *testing.T) {
	var b Budget
	now := int64(time.Hour)
	if !b.Take(Burst, now) || b.Take(1, now) {
		t.Fatal("the burst is not what a connection may send at once")
	}
	now += int64(time.Second)
	if !b.Take(PerSecond-1, now) || b.Take(1, now) {
		t.Error("a second does not give back what it should")
	}
	now += int64(24 * time.Hour)
	if !b.Take(Burst, now) || b.Take(1, now) {
		t.Error("a day gives back more or less than the burst")
	}
}
