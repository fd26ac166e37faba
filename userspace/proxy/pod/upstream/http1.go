package upstream

import (
	"errors"
	"io"

	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// HTTP1 is a request to a pod that speaks HTTP/1.1, and its response. It is reused; Open comes
// before each use. Nothing in it blocks.
type HTTP1 struct {
	request *Outgoing
	conn    *Conn // nil once it has been given back
	buffers *reactor.Buffers
	out     reactor.Output
	chunked bool // the request's body is sent in chunks
	open    bool // a chunk's data was queued, its CRLF is due

	in        []byte
	r, w      int  // in[r:w] is received and not used yet
	got       bool // the pod has sent something
	filled    bool // the last read filled the buffer
	response  http1.Response
	framing   message.Body
	remaining int64 // bytes of the response's body, message.BodyLength
	decoder   http1.Chunked
}

// Open makes p a request over c.
func (p *HTTP1) Open(c *Conn, request *Outgoing) {
	*p = HTTP1{
		request: request, conn: c, buffers: &c.pool.loop.Buffers,
		response: p.response, decoder: p.decoder, // with what they have allocated
	}
	p.out.Open(&c.Conn)
	p.response.Reset()
	p.decoder.Limits = request.Limits
}

// Begin queues the request's head.
func (p *HTTP1) Begin() {
	p.chunked = p.request.Request.Chunked
	p.out.Extend(p.request.AppendHead(p.out.Tail()))
}

// room is what framing needs around a piece of body.
const room = 64

// Blocked reports whether there is no room for another piece of body, Pending whether something
// queued is not sent yet.
func (p *HTTP1) Blocked() bool { return p.out.Room() <= room }
func (p *HTTP1) Pending() bool { return p.out.Pending() }

// WriteBody queues a piece of the body, which must stay as it is until Pending is false.
func (p *HTTP1) WriteBody(b []byte) {
	if p.chunked {
		dst := p.out.Tail()
		if p.open {
			dst = append(dst, '\r', '\n')
		}
		p.out.Extend(http1.AppendChunkHeader(dst, len(b)))
		p.open = true
	}
	p.out.Send(b)
}

// End queues the end of the body.
func (p *HTTP1) End(trailers []message.Field) {
	if !p.chunked {
		return
	}
	dst := p.out.Tail()
	if p.open {
		dst = append(dst, '\r', '\n')
	}
	p.out.Extend(http1.AppendLastChunk(dst, trailers))
}

// Flush sends what is queued. After an error there may still be a response to read.
func (p *HTTP1) Flush() error {
	err := p.out.Flush()
	if err != nil && err != reactor.ErrWouldBlock {
		p.out.Reset()
	}
	return err
}

// ReadHead returns the next head of a response, valid until it is called again.
func (p *HTTP1) ReadHead() (*message.Response, error) {
	for {
		if p.r < p.w {
			n, err := p.response.Parse(p.in[p.r:p.w], p.request.Limits, p.request.Request.MethodID)
			if err != nil {
				return nil, &Fault{Invalid, message.Token(err)}
			}
			if n > 0 {
				p.r += n
				p.settle()
				return &p.response.Response, nil
			}
		}
		if err := p.receive(); err != nil {
			return nil, p.lost(err)
		}
	}
}

// settle notes how the body behind the response head ends.
func (p *HTTP1) settle() {
	r := &p.response.Response
	p.framing, p.remaining = r.Body, r.ContentLength
	switch {
	case r.Body == message.BodyChunked:
		p.decoder.Reset()
	case r.Body == message.BodyLength && r.ContentLength == 0:
		p.framing = message.BodyNone
	}
}

// ReadBody returns the next piece of the body, valid until it is called again.
func (p *HTTP1) ReadBody() ([]byte, error) {
	for {
		if p.framing == message.BodyNone {
			return nil, io.EOF
		}
		if p.r < p.w {
			if b, err := p.use(); len(b) > 0 || err != nil {
				return b, err
			}
		}
		if err := p.receive(); err != nil {
			if err == io.EOF && p.framing == message.BodyUntilClose {
				return nil, io.EOF
			}
			return nil, p.lost(err)
		}
	}
}

// use returns the next piece of body of what was received, nothing if there is none.
func (p *HTTP1) use() ([]byte, error) {
	have := p.in[p.r:p.w]
	switch p.framing {
	case message.BodyLength:
		b := have[:min(int64(len(have)), p.remaining)]
		p.r += len(b)
		if p.remaining -= int64(len(b)); p.remaining == 0 {
			return b, io.EOF
		}
		return b, nil
	case message.BodyChunked:
		b, n, done, err := p.decoder.Decode(have)
		if err != nil {
			return nil, &Fault{Aborted, message.Token(err)}
		}
		p.r += n
		if done {
			return b, io.EOF
		}
		return b, nil
	default:
		p.r = p.w
		return have, nil
	}
}

// Trailers returns the fields behind the body.
func (p *HTTP1) Trailers() []message.Field {
	if p.framing == message.BodyChunked {
		return p.decoder.Trailers()
	}
	return nil
}

var errHeadTooLarge = errors.New("response head too large")

// receive reads from the pod behind in[r:w]. Nothing before r is in use any more: a piece of
// body is valid until ReadBody is called again.
func (p *HTTP1) receive() error {
	if p.in == nil {
		// Whoever waits for a pod holds no buffer.
		if p.conn.Layer() == nil && p.conn.Ready()&reactor.Readable == 0 {
			return reactor.ErrWouldBlock
		}
		p.in = p.buffers.Small()
	}
	if p.r == p.w {
		p.r, p.w = 0, 0
		if len(p.in) > reactor.LargeBuffer && p.response.Status != 0 {
			p.buffers.Put(p.in) // it was needed for the head alone
			p.in = p.buffers.Large()
		}
		if p.filled && p.response.Status != 0 && len(p.in) < reactor.LargeBuffer &&
			(p.framing != message.BodyLength || p.remaining > int64(len(p.in))) {
			p.buffers.Put(p.in)
			p.in = p.buffers.Large()
		}
	}
	if p.w == len(p.in) {
		if p.r == 0 {
			larger, ok := p.buffers.Grow(p.in, p.request.Limits.Head)
			if !ok {
				return errHeadTooLarge
			}
			p.in = larger
		} else { // a head that began behind an interim one
			p.w = copy(p.in, p.in[p.r:p.w])
			p.r = 0
		}
		p.response.Reset()
	}
	n, err := p.conn.TryRead(p.in[p.w:])
	if err != nil {
		return err
	}
	p.filled = n == len(p.in)-p.w
	p.w += n
	p.got = true
	return nil
}

// lost says what the failure of a read means.
func (p *HTTP1) lost(err error) error {
	switch {
	case err == reactor.ErrWouldBlock:
		return err
	case err == errHeadTooLarge:
		return &Fault{Invalid, "head_too_large"}
	case p.got:
		return &Fault{Kind: Aborted}
	case p.conn.Reused:
		return &Fault{Kind: Stale}
	default:
		return &Fault{Kind: Closed}
	}
}

// Sink returns the socket to which body may be sent past WriteBody, nil if it may not.
func (p *HTTP1) Sink() *reactor.Conn {
	if p.chunked || p.conn == nil || p.conn.Layer() != nil || p.conn.IsJoined() {
		return nil
	}
	return &p.conn.Conn
}

// Source returns the socket from which the next n bytes of body may be taken past ReadBody, nil
// if they may not.
func (p *HTTP1) Source() (*reactor.Conn, int64) {
	if p.framing != message.BodyLength || p.r < p.w || p.conn == nil || p.conn.Layer() != nil || p.conn.IsJoined() {
		return nil, 0
	}
	return &p.conn.Conn, p.remaining
}

// Took counts body that was taken from Source.
func (p *HTTP1) Took(n int64) {
	if p.remaining -= n; p.remaining == 0 {
		p.framing = message.BodyNone
	}
}

// Tunnel makes WriteBody and ReadBody move raw bytes, after a 101.
func (p *HTTP1) Tunnel() {
	p.chunked, p.framing = false, message.BodyUntilClose
}

// CloseWrite tells the pod that a tunnel's other side has ended.
func (p *HTTP1) CloseWrite() { p.conn.CloseWrite() }

// Want says what wakes the coroutine that owns the connection.
func (p *HTTP1) Want(i reactor.Interest) {
	if p.conn != nil {
		p.conn.Want(i)
	}
}

// Finish lets the connection serve others, as both messages are complete.
func (p *HTTP1) Finish() {
	if p.response.KeepAlive && p.framing != message.BodyUntilClose && p.r == p.w {
		p.conn.Release()
		p.conn = nil
	}
}

// Close ends the request. Without Finish the connection ends with it.
func (p *HTTP1) Close() {
	p.Abandon()
	p.out.Release()
	p.buffers.Put(p.in)
	p.in = nil
}

// Abandon is Close after a panic: the buffers, whose users are not known, are not reused.
func (p *HTTP1) Abandon() {
	if p.conn != nil {
		p.conn.Discard()
		p.conn = nil
	}
}
