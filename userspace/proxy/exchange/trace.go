package exchange

import (
	"encoding/binary"

	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/observe/tracing"
)

// traced is what is known of the trace that the request belongs to.
type traced struct {
	on     bool
	known  bool            // the client came with it, and is believed
	parent tracing.Context // Span is zero where the trace begins here
	state  []byte
	server [8]byte
	client [8]byte
	tries  []tracing.Attempt // of a sampled request
}

// beginTrace finds or makes the request's trace. What was decided upstream about sampling
// stands where clients are trusted; otherwise the client's trace context is discarded, since it
// would let clients write into any trace, and decide what is sampled.
func (x *Exchange) beginTrace() {
	s := x.conf.Settings.Trace
	if s == nil {
		return
	}
	trust := s.Trust
	if p := x.rules.policy; p != nil && p.Trace != nil {
		if !p.Trace.Enabled {
			return
		}
		if p.Trace.Trust != nil {
			trust = *p.Trace.Trust
		}
	}
	t := &x.trace
	*t = traced{on: true, tries: t.tries[:0]}
	if trust && x.Request.Present.Has(message.FieldTraceparent) {
		t.parent, t.known = tracing.Parse(single(x.Request, message.FieldTraceparent))
	}
	if t.known {
		t.state = x.Request.Lookup("tracestate")
	} else {
		random := x.worker.Rand
		binary.LittleEndian.PutUint64(t.parent.Trace[:], random.Uint64())
		binary.LittleEndian.PutUint64(t.parent.Trace[8:], random.Uint64()|1<<63) // never all zero
		t.parent.Sampled = s.Samples(random.Uint64())
	}
	binary.LittleEndian.PutUint64(t.server[:], x.worker.Rand.Uint64()|1<<63)
	binary.LittleEndian.PutUint64(t.client[:], x.worker.Rand.Uint64()|1<<63)
}

// passTrace tells the pod of the span that asks it.
func (x *Exchange) passTrace() {
	t := &x.trace
	if !t.on {
		return
	}
	x.Request.Drop("traceparent")
	if !t.known {
		x.Request.Drop("tracestate")
	}
	at := len(x.values)
	c := tracing.Context{Trace: t.parent.Trace, Span: t.client, Sampled: t.parent.Sampled}
	x.values = c.Append(x.values)
	x.outgoing.add("traceparent", x.values[at:])
}

// noteAttempt keeps what became of asking a pod, at loop times.
func (x *Exchange) noteAttempt(began int64, reason Reason) {
	t := &x.trace
	if !t.on || !t.parent.Sampled {
		return
	}
	a := tracing.Attempt{Pod: x.attempt.pick.Address, Begin: x.At(began)}
	if x.attempt.firstByte > 0 {
		a.First = x.At(x.attempt.firstByte)
	}
	if reason != Forwarded {
		a.Error = reason.String()
	}
	t.tries = append(t.tries, a)
}

// Trace returns the ids of the request's trace and of the proxy's span; ok is false if it is
// not traced.
func (x *Exchange) Trace() (trace [16]byte, span [8]byte, ok bool) {
	return x.trace.parent.Trace, x.trace.server, x.trace.on
}

var protocols = [...]string{HTTP2: "2", HTTP3: "3", Passthrough: ""}

// endTrace hands the spans of a sampled request over.
func (x *Exchange) endTrace() {
	t := &x.trace
	if !t.on || !t.parent.Sampled {
		return
	}
	o, r := &x.Outcome, x.Request
	s := &tracing.Request{
		Parent: t.parent, Server: t.server, Client: t.client, State: string(t.state),
		Method: string(r.Method), Host: string(r.Host), Path: string(r.Path), Scheme: "http", Protocol: protocols[x.Connection.Protocol],
		Peer: x.Client(), Status: o.Status, Reason: o.Reason.String(), Object: o.Source, ID: string(x.RequestID()),
		Begin: x.At(o.Start), End: x.At(x.worker.Loop.Clock()), Attempts: append([]tracing.Attempt(nil), t.tries...),
	}
	if x.Secure() {
		s.Scheme = "https"
	}
	if x.Connection.Protocol == HTTP1 {
		s.Protocol = [...]string{"1.0", "1.1"}[min(r.Minor, 1)]
	}
	if o.Service != nil {
		s.Service = o.Service.Name
	}
	s.UserAgent = string(r.Value(message.FieldUserAgent))
	if s.Name = s.Method; x.rules.policy != nil && x.rules.policy.Trace != nil {
		if name := x.rules.policy.Trace.Name(&x.rules.request); name != "" {
			s.Name = name
		}
	}
	x.worker.Tracer.Send(s)
}
