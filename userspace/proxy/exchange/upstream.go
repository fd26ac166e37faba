package exchange

import (
	"net/http"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/pod/upstream"
)

// Upstream is the pod's side of one attempt at an exchange, the counterpart of Downstream.
// Nothing in it blocks. An error that ends the pod's side is an *upstream.Fault.
type Upstream interface {
	// Begin queues the request's head.
	Begin()
	// WriteBody queues a piece of the request's body, which must stay as it is until
	// Pending is false. Only while Blocked is false.
	WriteBody(p []byte)
	// End queues the end of the body.
	End(trailers []message.Field)
	// Flush sends what is queued: nil when all of it is sent, reactor.ErrWouldBlock, or
	// another error: nothing more can be sent, though there may be a response to read.
	Flush() error
	// Pending reports whether something queued is not sent yet; Blocked, whether there is
	// no room for another piece.
	Pending() bool
	Blocked() bool

	// ReadHead returns the next response head, valid until it is called again: any number
	// of interim ones, then the final one. reactor.ErrWouldBlock: later.
	ReadHead() (*message.Response, error)
	// ReadBody returns the next piece of the final response's body, which stays valid
	// until the call after. io.EOF, maybe together with the last piece: the body has
	// ended. reactor.ErrWouldBlock: later.
	ReadBody() ([]byte, error)
	// Trailers returns the fields after the body, once ReadBody has returned io.EOF.
	Trailers() []message.Field

	// Sink returns the socket to which body may be sent past WriteBody, and Source the one
	// from which the next n bytes of body may be taken past ReadBody; Took says that it
	// was done. nil: not possible.
	Sink() *reactor.Conn
	Source() (c *reactor.Conn, n int64)
	Took(n int64)

	// Tunnel makes WriteBody and ReadBody move raw bytes, after a 101.
	Tunnel()
	// CloseWrite tells the pod that a tunnel's other side has ended.
	CloseWrite()

	// Want says what wakes the exchange's coroutine while it is parked.
	Want(reactor.Interest)
	// Finish is called when both messages are complete: the connection may serve others
	// from now on. What ReadBody and Trailers returned last stays valid until Close.
	Finish()
	// Close ends the attempt. Without Finish the pod is told, or can tell, that nobody
	// waits for the rest.
	Close()
	// Abandon is Close after a panic: what is in an unknown state is given back to nobody.
	Abandon()
}

// fault is why the exchange gives the pod's side of an attempt up, by itself.
type fault struct {
	reason Reason
	detail string // a token
	repeat repeat
}

func (f *fault) Error() string {
	if f.detail != "" {
		return f.reason.String() + " (" + f.detail + ")"
	}
	return f.reason.String()
}

// repeat says which requests may be sent again after a fault.
type repeat uint8

const (
	repeatNone repeat = iota
	// repeatIdempotent: the pod closed the connection, which was a reused one, as it was
	// used, so the request most likely never got anywhere (RFC 9110 section 9.2.2).
	repeatIdempotent
	// repeatAll: the pod has said that it did nothing about the request (RFC 9113 section 8.7).
	repeatAll
	// repeatChosen: a rule has another pod asked, and everything is ready for that.
	repeatChosen
)

// podFaults says what each kind of fault means for the exchange.
var podFaults = [...]struct {
	reason Reason
	repeat repeat
}{
	upstream.Closed:      {UpstreamClosed, repeatNone},
	upstream.Stale:       {UpstreamClosed, repeatIdempotent},
	upstream.Reset:       {UpstreamReset, repeatNone},
	upstream.Unprocessed: {UpstreamRefused, repeatAll},
	upstream.Aborted:     {UpstreamAborted, repeatNone},
	upstream.Invalid:     {UpstreamInvalid, repeatNone},
	upstream.Silent:      {UpstreamTimeout, repeatNone},
	upstream.TooLarge:    {BadRequest, repeatNone},
}

// podFault notes why the pod's side has ended.
func (x *Exchange) podFault(err error) Reason {
	var f fault
	switch e := err.(type) {
	case *fault:
		f = *e
	case *upstream.Fault:
		f = fault{podFaults[e.Kind].reason, e.Detail, podFaults[e.Kind].repeat}
		if e.Kind == upstream.TooLarge {
			x.reply.badRequest = http.StatusRequestHeaderFieldsTooLarge
		}
	default:
		return UpstreamAborted
	}
	x.attempt.repeat = f.repeat
	if f.detail != "" {
		x.Outcome.Detail = f.detail
	}
	return f.reason
}
