package exchange

import "net/netip"

// Front ends end an exchange here: what is counted, logged and given back is the same by whatever
// protocol the request has come.

// AccessLog writes down how exchanges ended. It belongs to the worker's loop.
type AccessLog interface {
	// Log is called once for each exchange, which ended at a loop time, and for whose response sent
	// bytes went to the client.
	Log(x *Exchange, end, sent int64)
}

// Record counts and logs an exchange that has ended.
func (x *Exchange) Record(sent int64) {
	end := x.worker.Loop.Clock()
	x.worker.Metrics.Record(&x.Outcome, end, sent)
	x.worker.Access.Log(x, end, sent)
}

// TakenBack makes the outcome that of a request that its client has taken back before it was begun.
func (x *Exchange) TakenBack() { x.Outcome.Blame(ClientAborted, ClientAborted.Status(), false) }

// Blame gives the outcome another reason: the front end knows better why the exchange was broken
// off. The status is the client's to see if it has not got one yet.
func (o *Outcome) Blame(reason Reason, status int, answered bool) {
	o.Reason = reason
	if !answered {
		o.Status = status
	}
}

// Crashed ends the exchange after a panic: what was under way is recorded, and what it held of others
// is let go, its count of requests in flight and its connection to the pod among it. Buffers are
// left to the collector, since their state is unknown.
func (x *Exchange) Crashed(w *Worker, sent int64) {
	if x.co == nil { // between two requests: there is none to log
		w.Metrics.Ended[Crashed].Add(1)
	} else {
		x.Outcome.Blame(Crashed, Crashed.Status(), x.response.begun)
		x.Record(sent)
	}
	if x.worker != nil {
		x.abandon()
	}
}

// Fault counts and logs a panic that ended something of a client's: a request, a connection.
func (w *Worker) Fault(ended string, client netip.AddrPort, reason any, stack []byte) {
	w.Metrics.Panics.Add(1)
	w.Log.Error().Interface("panic", reason).Bytes("stack", stack).Stringer("client", client).
		Msg("a fault in the proxy ended this " + ended + "; please report it")
}
