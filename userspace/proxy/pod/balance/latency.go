package balance

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/kerngate/kerngate/loader/state"
)

// latencies are the peaks of each backend's latency, as this process has seen them: a
// response that takes longer counts at once, a faster one by and by. They decay with time
// alone, so that a backend that was slow, and is asked by nobody since, is tried again.
// (Peak EWMA is Finagle's; kg_backend_load.latency_us is a plain average, for people.)
//
// Each is one word: microseconds in the upper half, when in milliseconds in the lower. An
// update that another worker's overwrites does not matter.
type latencies []atomic.Uint64

const (
	// latencyDecay is the time in which a peak falls to 1/e.
	latencyDecay = 10 * time.Second
	// failureLatency is what a request that fails counts at least: a backend that refuses
	// at once must not look fast.
	failureLatency = time.Second
)

// at returns what is expected of a backend now, in microseconds, 0 if nothing is known.
func (l latencies) at(id state.BackendID, now int64) uint64 {
	if int(id) >= len(l) {
		return 0
	}
	word := l[id].Load()
	if word == 0 {
		return 0
	}
	age := time.Duration(uint32(now/1e6)-uint32(word)) * time.Millisecond
	return max(1, uint64(float64(word>>32)*math.Exp(-float64(age)/float64(latencyDecay))))
}

// costs returns what is expected of two backends. Of which nothing is known is taken to be
// like the other: else a new pod would get every request until it has answered one.
func (l latencies) costs(one, two state.BackendID, now int64) (float64, float64) {
	a, b := float64(l.at(one, now)), float64(l.at(two, now))
	switch {
	case a == 0 && b == 0:
		return 1, 1
	case a == 0:
		return b, b
	case b == 0:
		return a, a
	}
	return a, b
}

func (l latencies) observe(id state.BackendID, now int64, latency time.Duration) {
	us := uint64(min(max(1, latency.Microseconds()), 1<<31))
	if old := l.at(id, now); us < old {
		us = old - old/8 + us/8
	}
	l[id].Store(us<<32 | uint64(uint32(now/1e6)))
}
