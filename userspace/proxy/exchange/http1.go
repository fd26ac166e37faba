package exchange

import (
	"errors"
	"io"

	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/pod/upstream"
)

// podHTTP1 is the side of a pod that speaks HTTP/1.1.
type podHTTP1 struct {
	x       *Exchange
	conn    *upstream.Conn // nil once it has been given back
	out     reactor.Output
	chunked bool // the request's body is sent in chunks
	open    bool // a chunk's data was queued, its CRLF is due

	in        []byte
	r, w      int  // in[r:w] is received and not used yet
	got       bool // the pod has sent something
	filled    bool // the last read filled the buffer
	response  http1.Response
	framing   http1.Body
	remaining int64 // bytes of the response's body, http1.BodyLength
	decoder   http1.Chunked
	limits    http1.Limits // of the response
}

// attach makes p the side of the pod at the other end of c.
func (p *podHTTP1) attach(x *Exchange, c *upstream.Conn) Upstream {
	p.x, p.conn = x, c
	p.out.Open(&c.Conn)
	p.r, p.w, p.got, p.filled = 0, 0, false, false
	p.open = false
	p.response.Reset()
	p.limits = x.responseLimits()
	p.decoder.Limits = p.limits
	return p
}

func (p *podHTTP1) Begin() {
	p.chunked = p.x.Request.Chunked
	p.out.Extend(p.x.appendHead(p.out.Tail()))
}

// room is what framing needs around a piece of body.
const room = 64

func (p *podHTTP1) Blocked() bool { return p.out.Room() <= room }
func (p *podHTTP1) Pending() bool { return p.out.Pending() }

func (p *podHTTP1) WriteBody(b []byte) {
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

func (p *podHTTP1) End(trailers []http1.Field) {
	if !p.chunked {
		return
	}
	dst := p.out.Tail()
	if p.open {
		dst = append(dst, '\r', '\n')
	}
	p.out.Extend(http1.AppendLastChunk(dst, trailers))
}

func (p *podHTTP1) Flush() error {
	err := p.out.Flush()
	if err != nil && err != reactor.ErrWouldBlock {
		p.out.Reset()
	}
	return err
}

func (p *podHTTP1) ReadHead() (*http1.Response, error) {
	for {
		if p.r < p.w {
			n, err := p.response.Parse(p.in[p.r:p.w], p.limits, p.x.Request.MethodID)
			if err != nil {
				return nil, &fault{reason: UpstreamInvalid, detail: token(err)}
			}
			if n > 0 {
				p.r += n
				p.settle()
				return &p.response, nil
			}
		}
		if err := p.receive(); err != nil {
			return nil, p.lost(err)
		}
	}
}

// settle notes how the body behind the response head ends.
func (p *podHTTP1) settle() {
	r := &p.response
	p.framing, p.remaining = r.Body, r.ContentLength
	switch {
	case r.Body == http1.BodyChunked:
		p.decoder.Reset()
	case r.Body == http1.BodyLength && r.ContentLength == 0:
		p.framing = http1.BodyNone
	}
}

func (p *podHTTP1) ReadBody() ([]byte, error) {
	for {
		if p.framing == http1.BodyNone {
			return nil, io.EOF
		}
		if p.r < p.w {
			if b, err := p.use(); len(b) > 0 || err != nil {
				return b, err
			}
		}
		if err := p.receive(); err != nil {
			if err == io.EOF && p.framing == http1.BodyUntilClose {
				return nil, io.EOF
			}
			return nil, p.lost(err)
		}
	}
}

// use returns the next piece of body of what was received, nothing if there is none.
func (p *podHTTP1) use() ([]byte, error) {
	have := p.in[p.r:p.w]
	switch p.framing {
	case http1.BodyLength:
		b := have[:min(int64(len(have)), p.remaining)]
		p.r += len(b)
		if p.remaining -= int64(len(b)); p.remaining == 0 {
			return b, io.EOF
		}
		return b, nil
	case http1.BodyChunked:
		b, n, done, err := p.decoder.Decode(have)
		if err != nil {
			return nil, &fault{reason: UpstreamAborted, detail: token(err)}
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

func (p *podHTTP1) Trailers() []http1.Field {
	if p.framing == http1.BodyChunked {
		return p.decoder.Trailers()
	}
	return nil
}

var errHeadTooLarge = errors.New("response head too large")

// receive reads from the pod behind in[r:w]. Nothing before r is in use any more: a piece of
// body is valid until ReadBody is called again.
func (p *podHTTP1) receive() error {
	if p.in == nil {
		// Whoever waits for a pod holds no buffer.
		if p.conn.Layer() == nil && p.conn.Ready()&reactor.Readable == 0 {
			return reactor.ErrWouldBlock
		}
		p.in = p.x.worker.Loop.Buffers.Small()
	}
	if p.r == p.w {
		p.r, p.w = 0, 0
		if len(p.in) > reactor.LargeBuffer && p.response.Status != 0 {
			bufs := &p.x.worker.Loop.Buffers // it was needed for the head alone
			bufs.Put(p.in)
			p.in = bufs.Large()
		}
		if p.filled && p.response.Status != 0 && len(p.in) < reactor.LargeBuffer &&
			(p.framing != http1.BodyLength || p.remaining > int64(len(p.in))) {
			bufs := &p.x.worker.Loop.Buffers
			bufs.Put(p.in)
			p.in = bufs.Large()
		}
	}
	if p.w == len(p.in) {
		if p.r == 0 {
			larger, ok := p.x.worker.Loop.Buffers.Grow(p.in, p.limits.Head)
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
func (p *podHTTP1) lost(err error) error {
	switch {
	case err == reactor.ErrWouldBlock:
		return err
	case err == errHeadTooLarge:
		return &fault{reason: UpstreamInvalid, detail: "head_too_large"}
	case p.got:
		return &fault{reason: UpstreamAborted}
	case p.conn.Reused:
		return &fault{reason: UpstreamClosed, repeat: repeatIdempotent}
	default:
		return &fault{reason: UpstreamClosed}
	}
}

func (p *podHTTP1) Sink() *reactor.Conn {
	if p.chunked || p.conn == nil || p.conn.Layer() != nil || p.conn.IsJoined() {
		return nil
	}
	return &p.conn.Conn
}

func (p *podHTTP1) Source() (*reactor.Conn, int64) {
	if p.framing != http1.BodyLength || p.r < p.w || p.conn == nil || p.conn.Layer() != nil || p.conn.IsJoined() {
		return nil, 0
	}
	return &p.conn.Conn, p.remaining
}

func (p *podHTTP1) Took(n int64) {
	if p.remaining -= n; p.remaining == 0 {
		p.framing = http1.BodyNone
	}
}

func (p *podHTTP1) Tunnel() {
	p.chunked, p.framing = false, http1.BodyUntilClose
}

func (p *podHTTP1) CloseWrite() { p.conn.CloseWrite() }

func (p *podHTTP1) Want(i reactor.Interest) {
	if p.conn != nil {
		p.conn.Want(i)
	}
}

func (p *podHTTP1) Finish() {
	if p.response.KeepAlive && p.framing != http1.BodyUntilClose && p.r == p.w {
		p.conn.Release()
		p.conn = nil
	}
}

func (p *podHTTP1) Close() {
	p.Abandon()
	p.out.Release()
	p.x.worker.Loop.Buffers.Put(p.in)
	p.in = nil
}

func (p *podHTTP1) Abandon() {
	if p.conn != nil {
		p.conn.Discard()
		p.conn = nil
	}
}

// token returns the parser's token for a fault, "" if it was none of its own.
func token(err error) string {
	if e, ok := err.(*http1.Error); ok {
		return e.Reason
	}
	return ""
}
