package overload

import (
	"runtime/metrics"
	"time"
)

// Go's runtime gives the memory of a crowd that has left back only when its next collection is
// due: while little happens that is after two minutes, and then bit by bit.

const (
	largeCrowd = 256             // connections, of clients and to pods: smaller ones leave little
	largeWork  = 2 << 20         // bytes that are allocated in a second: less leaves little, too
	afterCrowd = 5 * time.Second // for which they must have left
	// stragglers is how long after that memory is given back once more: what ends late, such as
	// handshakes of QUIC that nobody goes on with, is too little to be a crowd of its own.
	stragglers = 15 * time.Second
)

// crowd sees when much of something has ended.
type crowd struct {
	most int64 // that there was since memory was given back last
	low  time.Time
}

// crowdLeft reports whether memory is to be given back. Few connections can need as much as many,
// by the number of their requests: what is allocated tells.
func (m *Monitor) crowdLeft(at time.Time) bool {
	clients := m.clients.left(m.connections.Load(), largeCrowd, at)
	servers := m.servers.left(m.pods.Load(), largeCrowd, at)
	if m.work.left(m.allocated.perSecond(at), largeWork, at) || servers || clients {
		m.last = at.Add(stragglers)
		return true
	}
	if m.last.IsZero() || at.Before(m.last) {
		return false
	}
	m.last = time.Time{}
	return true
}

// allocation measures how much the process allocates.
type allocation struct {
	sample [1]metrics.Sample
	bytes  uint64    // in the life of the process
	at     time.Time // when that was so
	rate   int64
}

// perSecond returns the bytes that were allocated in a recent second.
func (a *allocation) perSecond(at time.Time) int64 {
	passed := at.Sub(a.at)
	if passed < time.Second {
		return a.rate
	}
	a.sample[0].Name = "/gc/heap/allocs:bytes"
	metrics.Read(a.sample[:])
	bytes := a.sample[0].Value.Uint64()
	if !a.at.IsZero() {
		a.rate = int64(float64(bytes-a.bytes) / passed.Seconds())
	}
	a.bytes, a.at = bytes, at
	return a.rate
}

// left reports whether, of the most that there was and that was large, half has ended some time
// ago. It does so once.
func (c *crowd) left(now, large int64, at time.Time) bool {
	c.most = max(c.most, now)
	if c.most < large || now > c.most/2 {
		c.low = time.Time{}
		return false
	}
	if c.low.IsZero() {
		c.low = at
	}
	if at.Sub(c.low) < afterCrowd {
		return false
	}
	*c = crowd{most: now}
	return true
}
