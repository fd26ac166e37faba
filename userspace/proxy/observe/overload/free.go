package overload

import "time"

// Go's runtime gives the memory of a crowd that has left back only when its next collection is
// due: while little happens that is after two minutes, and then bit by bit.

const (
	largeCrowd = 256             // connections, of clients and to pods: smaller ones leave little
	afterCrowd = 5 * time.Second // for which they must have left
)

// crowd sees when many connections have ended.
type crowd struct {
	most int64 // that there were since memory was given back last
	low  time.Time
}

// crowdLeft reports whether memory is to be given back.
func (m *Monitor) crowdLeft(at time.Time) bool {
	clients := m.clients.left(m.connections.Load(), at)
	return m.servers.left(m.pods.Load(), at) || clients
}

// left reports whether, of the most connections that there were, half have ended some time ago.
// It does so once.
func (c *crowd) left(now int64, at time.Time) bool {
	c.most = max(c.most, now)
	if c.most < largeCrowd || now > c.most/2 {
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
