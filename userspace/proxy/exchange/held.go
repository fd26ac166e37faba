package exchange

import "sync/atomic"

// BodiesHeld is what a worker keeps of request bodies that have come by HTTP/2 and HTTP/3 and
// that no pod has taken, in bytes.
//
// A stream's window bounds what is kept of it, and a connection's window is given back as bytes
// come: a pod that reads nothing holds up its own stream and no other one of the connection, of
// which some may be for other Services (RFC 9113 section 5.2.1). So a connection may hold as much
// as all its streams' windows, and all connections together need a bound. It is
// --request-buffer-total:
//
//   - beyond it a connection's window is given back as pods take bytes, and no stream's window
//     grows;
//   - beyond twice as much a connection that holds at least the average of those that hold
//     anything loses the streams on which it sends more.
type BodiesHeld struct{ bytes, holders atomic.Int64 }

// HeldBy is the part of one connection.
type HeldBy struct{ bytes atomic.Int64 }

// Add counts n bytes more, or less, of a connection.
func (h *BodiesHeld) Add(by *HeldBy, n int) {
	if n == 0 {
		return
	}
	h.bytes.Add(int64(n))
	switch after := by.bytes.Add(int64(n)); {
	case after == int64(n):
		h.holders.Add(1)
	case after == 0:
		h.holders.Add(-1)
	}
}

// Bytes returns the sum.
func (h *BodiesHeld) Bytes() int64 { return h.bytes.Load() }

// Crowded reports whether bodies take as much memory as they should.
func (w *Worker) Crowded() bool {
	return w.Metrics.BodiesHeld.Bytes() >= w.Config.Load().Settings.RequestBuffers
}

// Greedy reports whether more of a body is too much: memory is short, and other connections hold
// less than this one.
func (w *Worker) Greedy(by *HeldBy) bool {
	h := &w.Metrics.BodiesHeld
	all := h.Bytes()
	return all >= 2*w.Config.Load().Settings.RequestBuffers && by.bytes.Load()*h.holders.Load() >= all
}
