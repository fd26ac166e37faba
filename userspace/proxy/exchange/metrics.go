package exchange

import (
	"sync/atomic"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/io/linger"
	"github.com/kerngate/kerngate/userspace/proxy/observe/usage"
	"github.com/kerngate/kerngate/userspace/text/compression"
)

// Metrics are one worker's counts of exchanges. Where nothing else is said the worker alone
// adds to them; anybody may read.
type Metrics struct {
	Worker          int // by which the books of usage tell workers apart
	Ended           [Reasons]atomic.Uint64
	Status          [6]atomic.Uint64 // by hundreds; 0: none was sent
	GRPC            [GRPCStatuses]atomic.Uint64
	Panics          atomic.Uint64 // faults of the proxy that ended a request or a connection
	Retries         atomic.Uint64
	RetriesRefused  atomic.Uint64                        // for want of budget
	Mirrored        [Copies]atomic.Uint64                // of requests for mirrors; any goroutine adds
	Compressed      [compression.Encodings]atomic.Uint64 // responses
	Uncompressed    [UncompressedReasons]atomic.Uint64   // likewise, of routes that compress
	PackedIn        atomic.Uint64                        // bytes that pods sent
	PackedOut       atomic.Uint64                        // and what they came to
	Gathered        [GatheredOutcomes]atomic.Uint64      // request bodies that were to be gathered
	BodiesHeld      BodiesHeld
	BodyMemory      atomic.Int64  // bytes of buffers that hold request bodies now
	TrailersDropped atomic.Uint64 // requests of which not all trailers went on
	Durations       Histogram     // request head to end of response
	FirstByte       Histogram     // request head to first byte from the pod
	Sent            atomic.Uint64
	Received        atomic.Uint64
	Linger          linger.Stats // of bodies that went on after the answer; any goroutine adds
}

// Bounds are the upper bounds of Histogram's buckets.
var Bounds = [...]time.Duration{
	250 * time.Microsecond, 500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond,
	5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second,
	2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second, 60 * time.Second,
}

// Histogram counts durations.
type Histogram struct {
	Buckets [len(Bounds) + 1]atomic.Uint64 // each by itself, not cumulated
	Sum     atomic.Uint64                  // ns
}

// Observe counts a duration.
func (h *Histogram) Observe(d time.Duration) {
	i := 0
	for i < len(Bounds) && d > Bounds[i] {
		i++
	}
	h.Buckets[i].Add(1)
	h.Sum.Add(uint64(max(d, 0)))
}

// Record counts an exchange that ended at loop time end.
func (m *Metrics) Record(o *Outcome, end int64, sent int64) {
	m.Ended[o.Reason].Add(1)
	class := o.Status / 100
	if class < 0 || class >= len(m.Status) {
		class = 0
	}
	m.Status[class].Add(1)
	if o.GRPC > 0 {
		m.GRPC[o.GRPC].Add(1)
	}
	m.Durations.Observe(time.Duration(end - o.Start))
	if o.First > 0 {
		m.FirstByte.Observe(time.Duration(o.First - o.Start))
	}
	m.Sent.Add(uint64(sent))
	m.Received.Add(uint64(o.Received))
	if o.Usage == nil {
		return
	}
	c := o.Usage.Cell(m.Worker)
	c.Ended[o.Reason].Add(1)
	c.Status[class].Add(1)
	c.Took(time.Duration(end - o.Start))
	c.Sent.Add(uint64(sent))
	if o.Received > 0 {
		c.Received.Add(uint64(o.Received))
	}
	if o.Tries > 1 {
		c.Retries.Add(uint64(o.Tries - 1))
	}
}

// fault counts an attempt that a pod failed, even if another pod makes good for it.
func (m *Metrics) fault(o *Outcome, r Reason) {
	if o.Usage != nil {
		o.Usage.Cell(m.Worker).Faults[r].Add(1)
	}
}

var _ = [usage.Reasons - Reasons]struct{}{} // there is room for all
