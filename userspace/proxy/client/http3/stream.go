package http3

import (
	"context"
	"errors"
	"net/http"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// errBroken is what a stream answers once the client has taken it back or is gone.
var errBroken = errors.New("stream is closed")

// stream is one request and its response: the task that runs on a coroutine, and the
// Downstream of its exchange. Its fields belong to the loop's thread, but for those of
// body and output that say otherwise.
type stream struct {
	server   *Server
	conn     *connection
	co       *reactor.Coroutine
	request  message.Request
	exchange exchange.Exchange
	wants    reactor.Interest
	refusal  *message.Error // the request is answered with it, in place of an exchange
	charged  bool           // the client, for having taken it back
	answered bool           // a final head is queued
	broken   bool           // the client has taken the request back or is gone
	evicted  bool           // there was no memory for its body
	aborted  bool           // the response is not whole

	body body
	out  output
}

// serve is called by quic-go for each request, on a goroutine of its own.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	conn, _ := r.Context().Value(connectionKey{}).(*connection)
	p := &stream{server: s, conn: conn}
	p.exchange.Setup()
	p.exchange.Crowded = conn.crowded
	p.body.init(p, r)
	p.out.init(p, w)
	p.refusal = compose(&p.request, r, s.worker.Config.Load().Settings.RequestLimits())
	s.stats.Requests.Add(1)
	s.stats.Active.Add(1)
	defer s.stats.Active.Add(-1)
	conn.begin(r.Context())
	defer conn.end()
	loop := s.worker.Loop
	loop.Submit(func() { loop.Go(p) })
	stop := context.AfterFunc(r.Context(), func() { loop.Submit(p.lost) })
	p.out.write()
	stop() // the end of our side ends that context, too
	if p.out.end() {
		p.dropBody()
		p.out.wire.CancelRead(quic.StreamErrorCode(http3.ErrCodeNoError))
	} else {
		p.out.wire.CancelRead(quic.StreamErrorCode(http3.ErrCodeInternalError))
	}
}

// lost is told that the client has taken the request back or is gone.
func (p *stream) lost() {
	p.takenBack()
	p.broken = true
	if p.co != nil {
		p.co.Wake()
	}
}

// takenBack charges the client for having taken back the request, or its body, if it had no
// answer yet.
func (p *stream) takenBack() {
	if !p.charged && !p.answered && !p.evicted {
		p.charged = true
		p.conn.takenBack()
	}
}

// evict ends a request whose body there is no memory for.
func (p *stream) evict() {
	p.evicted = true
	p.lost()
}

// Run carries the request out.
func (p *stream) Run(co *reactor.Coroutine) {
	p.co = co
	x := &p.exchange
	x.Init(p.server.worker, p, &p.request, &p.conn.about)
	switch {
	case p.broken: // taken back before it was begun
		x.TakenBack()
	case p.refusal != nil:
		p.refuse(p.refusal)
	default:
		x.Serve(co)
	}
	p.co = nil
	p.end()
}

// end counts and logs the exchange, and has the request's goroutine end the stream.
func (p *stream) end() {
	o := &p.exchange.Outcome
	o.Received = p.body.received
	if p.evicted && o.Reason == exchange.ClientAborted {
		o.Blame(exchange.BuffersFull, exchange.BuffersFull.Status(), o.Status != exchange.ClientAborted.Status())
	}
	p.exchange.Record(p.out.sent)
	p.body.close()
	p.out.close(p.aborted)
}

// Crashed ends the stream after a panic; what it held is left to the collector, since its
// state is unknown.
func (p *stream) Crashed(reason any, stack []byte) {
	w := p.server.worker
	w.Fault("request", p.conn.about.Client, reason, stack)
	p.exchange.Crashed(w, p.out.sent)
	p.co = nil
	p.body.close()
	p.out.close(true)
}

// refuse answers a request whose head was refused.
func (p *stream) refuse(e *message.Error) {
	x := &p.exchange
	x.Refused(p.server.worker, p, &p.request, &p.conn.about, exchange.BadRequest, e.Status, e.Reason)
	p.reply(e.Status, exchange.LineOfError(e), x.ReplyFields(exchange.BadRequest))
	x.Send(p.co)
}

// signal wakes the exchange if it waits for this.
func (p *stream) signal(i reactor.Interest) {
	if p.co != nil && p.wants&i != 0 {
		p.co.Wake()
	}
}

// Want says what wakes the exchange, like the methods in body.go and output.go part of
// exchange.Downstream.
func (p *stream) Want(i reactor.Interest) { p.wants = i }

// Broken reports whether the client has taken the request back or is gone.
func (p *stream) Broken() bool { return p.broken }

// Abort makes the stream end in a reset.
func (p *stream) Abort() { p.aborted = true }

// Source returns nil, like Sink: bodies are not in a socket of their own.
func (p *stream) Source() (*reactor.Conn, int64) { return nil, 0 }

// Took is not called without a Source.
func (p *stream) Took(int64) {}

// Sink returns nil.
func (p *stream) Sink() *reactor.Conn { return nil }

// Sent is not called without a Sink.
func (p *stream) Sent(int64) {}

// Taken returns what was handed to the connection of the response, but for the piece that is being
// written.
func (p *stream) Taken() (bytes int64, among int) { return p.out.sent, p.conn.requests() }

// Tunnel is not called: no request of this protocol asks for an upgrade.
func (p *stream) Tunnel() {}

// CloseWrite is not called without a tunnel.
func (p *stream) CloseWrite() {}
