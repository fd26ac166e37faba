package exchange

import (
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// Downstream is the client's side of one exchange. Nothing in it blocks.
type Downstream interface {
	// ReadBody returns the next piece of the request's body, which stays valid until the
	// call after. io.EOF: the body has ended. reactor.ErrWouldBlock: later.
	// *message.Error: the body is not valid. Anything else: the client is gone.
	ReadBody() ([]byte, error)
	// Trailers returns the fields after the body, once ReadBody has returned io.EOF.
	Trailers() []message.Field
	// RewindBody makes ReadBody start again, if all that was read is still there.
	RewindBody() bool

	// Inform queues an interim response (1xx, not 101).
	Inform(r *message.Response)
	// Respond queues the head of the pod's final response, or of a 101.
	Respond(r *message.Response)
	// Reply queues a whole response of the proxy's own.
	Reply(status int, reason Reason, detail string)
	// WriteBody queues a piece of the body, which must stay as it is until Flush returns
	// nil. Only while Blocked is false.
	WriteBody(p []byte)
	// End queues the end of the body.
	End(trailers []message.Field)
	// Flush sends what is queued: nil when all of it is sent, else reactor.ErrWouldBlock
	// or the connection's error.
	Flush() error
	// Pending reports whether something queued is not sent yet; Blocked, whether a
	// borrowed piece is among it.
	Pending() bool
	Blocked() bool
	// Abort gives the response up: the client must be able to tell that it is not whole.
	Abort()

	// Source returns the socket from which the next n bytes of the request's body may be
	// taken past ReadBody, and Took says that it was done. nil: not possible.
	Source() (c *reactor.Conn, n int64)
	Took(n int64)
	// Sink returns the socket to which body may be sent past WriteBody once Pending is
	// false, and Sent says how much was. nil: not possible.
	Sink() *reactor.Conn
	Sent(n int64)

	// Taken returns how many bytes of the response the client has taken, and how many requests of
	// its connection share what that can carry.
	Taken() (bytes int64, among int)

	// Tunnel makes ReadBody and WriteBody move raw bytes, after a 101.
	Tunnel()
	// CloseWrite tells the client that a tunnel's other side has ended.
	CloseWrite()

	// Want says what wakes the exchange's coroutine while it is parked.
	Want(reactor.Interest)
	// Broken reports whether the client's connection was reset.
	Broken() bool
}
