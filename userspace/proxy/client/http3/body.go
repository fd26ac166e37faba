package http3

import (
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// pieceSize is how much of a body is read at once, in bytes.
const pieceSize = 16 << 10

var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

// piece is what one read has brought: bytes, or the error that ended the body.
type piece struct {
	buf *[pieceSize]byte
	n   int
	err error
}

// body is the request's body. A goroutine reads it, two pieces ahead of the exchange.
type body struct {
	stream   *stream
	request  *http.Request
	arrived  chan piece
	closed   chan struct{}
	left     chan struct{} // closed when the goroutine that reads has returned
	unused   piece         // what it has read last, if the exchange did not take that
	seen     int64         // bytes that it has read
	begun    bool
	held     piece // what ReadBody returned last
	done     bool
	received int64
	trailers message.ComposedTrailers
}

func (b *body) init(p *stream, r *http.Request) {
	b.stream, b.request = p, r
	b.done = ended(r)
}

// read is the goroutine that reads.
func (b *body) read() {
	defer close(b.left)
	loop := b.stream.server.worker.Loop
	wake := func() { b.stream.signal(reactor.Readable) }
	for {
		p := piece{buf: pieces.Get().(*[pieceSize]byte)}
		p.n, p.err = b.request.Body.Read(p.buf[:])
		b.seen += int64(p.n)
		if !b.deliver(p) {
			pieces.Put(p.buf)
			b.unused = piece{n: p.n, err: p.err}
			return
		}
		loop.Submit(wake)
		if p.err != nil {
			b.unused.err = p.err
			return
		}
	}
}

// deliver hands a piece over as soon as the exchange has taken the one before. It reports false
// if the exchange has ended.
func (b *body) deliver(p piece) bool {
	select {
	case b.arrived <- p:
		return true
	default:
	}
	// The pod is slower than the client. quic-go does not tell how much of the body is unread
	// meanwhile: count the stream's window, which doubles with what was read of the body.
	n := int(min(firstStreamWindow+2*b.seen, maxStreamWindow))
	s := b.stream
	w := s.server.worker
	if w.Greedy(&s.conn.held) {
		w.Loop.Submit(s.evict)
	}
	w.Metrics.BodiesHeld.Add(&s.conn.held, n)
	defer w.Metrics.BodiesHeld.Add(&s.conn.held, -n)
	select {
	case b.arrived <- p:
		return true
	case <-b.closed:
		return false
	}
}

// close ends the goroutine with what it reads next, or when the stream ends.
func (b *body) close() {
	if b.begun {
		close(b.closed)
	}
}

// ReadBody returns the next piece of the body.
func (p *stream) ReadBody() ([]byte, error) {
	b := &p.body
	if b.done {
		return nil, io.EOF
	}
	if !b.begun {
		b.begun = true
		b.arrived, b.closed, b.left = make(chan piece, 1), make(chan struct{}), make(chan struct{})
		go b.read()
		return nil, reactor.ErrWouldBlock
	}
	for {
		if b.held.buf != nil {
			pieces.Put(b.held.buf)
			b.held.buf = nil
		}
		switch {
		case b.held.err == io.EOF:
			b.done = true
			return nil, b.readTrailers()
		case b.held.err != nil:
			p.takenBack()
			return nil, errBroken
		}
		select {
		case b.held = <-b.arrived:
		default:
			return nil, reactor.ErrWouldBlock
		}
		if b.held.n > 0 {
			b.received += int64(b.held.n)
			return b.held.buf[:b.held.n], nil
		}
	}
}

// readTrailers returns io.EOF if they are valid.
func (b *body) readTrailers() error {
	b.trailers.Limits = b.stream.server.worker.Config.Load().Settings.RequestLimits()
	for name, values := range b.request.Trailer {
		for _, v := range values {
			b.trailers.AddField(strings.ToLower(name), v)
		}
	}
	if err := b.trailers.Finish(); err != nil {
		return err
	}
	return io.EOF
}

// Trailers returns the fields after the body.
func (p *stream) Trailers() []message.Field { return p.body.trailers.Fields }

// RewindBody reports whether nothing of the body was read yet.
func (p *stream) RewindBody() bool { return p.body.received == 0 && p.body.held.err == nil }
