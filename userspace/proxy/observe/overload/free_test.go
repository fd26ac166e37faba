package overload

import (
	"slices"
	"testing"
	"time"
)

// TestFree: memory is given back once for each crowd that has left, and not while connections come
// and go.
func TestFree(t *testing.T) {
	var c crowd
	at := time.Unix(1000, 0)
	times := 0
	run := func(connections int64, seconds int) {
		for range seconds {
			at = at.Add(time.Second)
			if c.left(connections, largeCrowd, at) {
				times++
			}
		}
	}
	for _, step := range []struct {
		connections   int64
		seconds, want int
	}{
		{100, 60, 0}, {0, 60, 0}, // few
		{1000, 60, 0}, {400, 3, 0}, {900, 60, 0}, // not for long
		{100, 60, 1}, {90, 60, 1}, {0, 60, 1},
		{5000, 1, 1}, {2000, 60, 2}, {900, 60, 3}, {300, 60, 4}, {300, 600, 4},
	} {
		if run(step.connections, step.seconds); times != step.want {
			t.Errorf("%+v: memory was given back %d times", step, times)
		}
	}
}

// TestStragglers: memory is given back once more some time after a crowd has left, and then no more.
func TestStragglers(t *testing.T) {
	var m Monitor
	at := time.Unix(1000, 0)
	m.allocated.at = at.Add(time.Hour) // what the test allocates does not count
	var given []time.Duration
	m.connections.Store(1000)
	m.crowdLeft(at)
	m.connections.Store(100)
	for second := range 120 {
		if now := at.Add(time.Duration(second) * time.Second); m.crowdLeft(now) {
			given = append(given, now.Sub(at))
		}
	}
	if want := []time.Duration{afterCrowd, afterCrowd + stragglers}; !slices.Equal(given, want) {
		t.Errorf("memory was given back after %v, want %v", given, want)
	}
}
