// Package linger bounds what the front ends read and drop of a request's body after they
// have answered the request.
//
// A client that is still sending may see its connection or stream reset before it has read
// the answer, and then reports a broken connection in place of a status. So a front end
// answers, goes on reading for a while, and ends the connection or stream when the body has
// ended or a bound is reached (RFC 9112 section 9.6, RFC 9113 section 8.1, RFC 9114
// section 4.1). Nothing of what it reads is kept.
package linger

import (
	"sync/atomic"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/io/leaky"
)

const (
	// Total is how long the rest of one body is read. It is nginx's default for
	// lingering_time, like Pause for lingering_timeout.
	Total = 30 * time.Second
	// Pause is how long a client may send nothing of it.
	Pause = 5 * time.Second
	// Short takes the place of both while the proxy refuses requests because it runs out
	// of something, and once the budget is used up.
	Short = time.Second
	// Burst is how many bytes of such bodies a connection may send, all its requests
	// together, and PerSecond how many more with each second.
	Burst     = 256 << 20
	PerSecond = 4 << 20
)

// Budget counts the bytes of one connection. The zero value has the whole Burst.
type Budget struct{ bucket leaky.Bucket }

// Take counts n bytes that came at a loop time, and reports whether they are within the
// budget.
func (b *Budget) Take(n int, now int64) bool {
	return b.bucket.Take(int64(n), now, leaky.Rate{Burst: Burst, PerSecond: PerSecond})
}

// Stats counts what became of such bodies; anybody may add and read.
type Stats struct {
	Bytes atomic.Uint64 // read and dropped
	Cut   atomic.Uint64 // bodies that had not ended when a bound was reached
}
