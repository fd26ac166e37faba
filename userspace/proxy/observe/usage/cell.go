package usage

import (
	"sync/atomic"
	"time"
)

// Reasons is how many reasons there may be for how a request ends; package exchange has them.
const Reasons = 64

// Cell is what one worker has counted of an account. Anybody may read it.
type Cell struct {
	Status   [6]atomic.Uint64 // by hundreds; 0: none was sent
	Ended    [Reasons]atomic.Uint64
	Faults   [Reasons]atomic.Uint64 // attempts at a pod that failed, by reason
	Retries  atomic.Uint64
	Sent     atomic.Uint64 // bytes of responses
	Received atomic.Uint64 // bytes of request bodies
	Buckets  [len(Bounds) + 1]atomic.Uint64
	Sum      atomic.Uint64 // ns
}

// Bounds are the upper bounds of a cell's buckets: fewer than those for the whole proxy,
// because each of them is a series for each account.
var Bounds = [...]time.Duration{
	time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// Took counts how long a request took.
func (c *Cell) Took(d time.Duration) {
	i := 0
	for i < len(Bounds) && d > Bounds[i] {
		i++
	}
	c.Buckets[i].Add(1)
	c.Sum.Add(uint64(max(d, 0)))
}
