package http3

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/quicvarint"

	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// step is one thing to do with the response writer.
type step struct {
	status   int         // send a head, if not 0
	header   http.Header // of it
	data     *[]byte     // send a piece of body
	trailers http.Header
}

// copies hold pieces of bodies while they are written. The exchange's own buffer will not
// do: if the exchange gives up, it goes to another one while the goroutine still writes.
var copies = sync.Pool{New: func() any { return new([]byte) }}

// output is what the exchange has to say. It is gathered on the loop's thread and written,
// all that there is at once, by the request's goroutine.
//
// quic-go's response writer sends the heads. Behind the final one the goroutine has the stream
// for itself: the writer has no way to end the response other than to return from the handler,
// and then it tells the client at once to stop sending what is left of the request's body.
type output struct {
	stream *stream
	writer http.ResponseWriter // of the goroutine
	wire   *http3.Stream       // of the goroutine; nil before the final head
	todo   chan []step         // closed at the end
	reset  bool                // set before todo is closed

	queued  []step // not handed over yet
	writing bool   // handed over, not done
	failed  bool   // writing has failed: the client is gone
	bare    bool   // no body may follow
	sent    int64  // bytes of bodies
}

func (o *output) init(p *stream, w http.ResponseWriter) {
	o.stream, o.writer = p, w
	o.todo = make(chan []step, 1)
}

// write is what the request's goroutine does until the exchange has ended. It does not end the
// stream.
func (o *output) write() {
	loop := o.stream.server.worker.Loop
	for steps := range o.todo {
		err := o.carryOut(steps)
		loop.Submit(func() {
			o.writing = false
			o.failed = o.failed || err != nil
			o.stream.signal(reactor.Writable)
		})
	}
}

// end ends the response: properly, or by a reset. It reports whether the client has got a
// whole one. Without a head it panics as net/http's handlers do, so that quic-go resets the
// stream.
func (o *output) end() (whole bool) {
	switch {
	case o.wire == nil:
		panic(http.ErrAbortHandler)
	case o.reset:
		o.wire.CancelWrite(quic.StreamErrorCode(http3.ErrCodeInternalError))
		return false
	}
	return o.wire.Close() == nil
}

func (o *output) carryOut(steps []step) error {
	w := o.writer
	for i := range steps {
		s := &steps[i]
		if s.status != 0 {
			h := w.Header()
			clear(h)
			for name, values := range s.header {
				h[name] = values
			}
			if _, told := h["Content-Type"]; !told {
				h["Content-Type"] = nil // it is the pod's affair, not to be guessed
			}
			w.WriteHeader(s.status)
			if s.status >= http.StatusOK {
				if err := o.takeOver(); err != nil {
					return err
				}
			}
		}
		if s.data != nil {
			_, err := o.wire.Write(*s.data)
			copies.Put(s.data)
			if err != nil {
				return err
			}
		}
		if len(s.trailers) > 0 {
			if _, err := o.wire.QUICStream().Write(trailersFrame(s.trailers)); err != nil {
				return err
			}
		}
	}
	return nil
}

// takeOver sends the final head, and takes the stream from quic-go's writer.
func (o *output) takeOver() (err error) {
	streamer, ok := o.writer.(http3.HTTPStreamer)
	if !ok {
		return errors.ErrUnsupported
	}
	o.wire, err = streamer.HTTPStream()
	return err
}

// trailersFrame makes a HEADERS frame (RFC 9114 section 7.2.2).
func trailersFrame(trailers http.Header) []byte {
	const headersFrame = 1
	var block bytes.Buffer // to which writing does not fail
	encoder := qpack.NewEncoder(&block)
	for name, values := range trailers {
		name = strings.ToLower(name)
		for _, v := range values {
			encoder.WriteField(qpack.HeaderField{Name: name, Value: v})
		}
	}
	return append(quicvarint.Append([]byte{headersFrame}, uint64(block.Len())), block.Bytes()...)
}

// close has the goroutine end the stream. What it may be writing just now nobody waits for any
// more.
func (o *output) close(reset bool) {
	if o.writing {
		reset = true
		http.NewResponseController(o.writer).SetWriteDeadline(time.Unix(1, 0))
	}
	o.reset = reset
	close(o.todo)
}

// header makes the fields of a response head.
func header(fields []message.Field) http.Header {
	h := make(http.Header, len(fields)+4)
	for i := range fields {
		if f := &fields[i]; !f.HopByHop && f.ID != message.FieldContentLength {
			name := http.CanonicalHeaderKey(string(f.Name))
			h[name] = append(h[name], string(f.Value))
		}
	}
	return h
}

func addAll(h http.Header, fields []message.Added) {
	for _, f := range fields {
		h.Set(f.Name, string(f.Value))
	}
}

// Inform queues an interim response.
func (p *stream) Inform(r *message.Response) {
	p.out.queued = append(p.out.queued, step{status: r.Status, header: header(r.Fields)})
}

// Respond queues the pod's head.
func (p *stream) Respond(r *message.Response) {
	p.answered = true
	h := header(r.Fields)
	addAll(h, p.exchange.AnswerFields(r.Present))
	if r.ContentLength >= 0 && r.Status != 204 {
		h.Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	p.out.bare = r.Body == message.BodyNone
	p.out.queued = append(p.out.queued, step{status: r.Status, header: h})
}

// Reply queues a response of the proxy's own: a line of plain text with the reason's token.
func (p *stream) Reply(status int, reason exchange.Reason, detail string) {
	p.reply(status, exchange.LineOf(reason, detail), p.exchange.ReplyFields(reason))
}

func (p *stream) reply(status int, line exchange.Line, fields []message.Added) {
	p.answered = true
	text := line.Append(nil)
	h := http.Header{"Content-Length": {strconv.Itoa(len(text))}}
	addAll(h, line.Fields(status))
	for _, f := range fields {
		h.Add(f.Name, string(f.Value))
	}
	p.out.bare = p.request.MethodID == message.MethodHead
	p.out.queued = append(p.out.queued, step{status: status, header: h})
	p.WriteBody(text)
	p.End(nil)
}

// WriteBody queues a piece of the body.
func (p *stream) WriteBody(b []byte) {
	if p.out.bare {
		return
	}
	data := copies.Get().(*[]byte)
	*data = append((*data)[:0], b...)
	p.out.queued = append(p.out.queued, step{data: data})
	p.out.sent += int64(len(b))
}

// End queues the end of the body.
func (p *stream) End(trailers []message.Field) {
	if len(trailers) > 0 {
		p.out.queued = append(p.out.queued, step{trailers: header(trailers)})
	}
}

// Flush hands over what is queued.
func (p *stream) Flush() error {
	o := &p.out
	switch {
	case p.broken, o.failed:
		return errBroken
	case o.writing:
		return reactor.ErrWouldBlock
	case len(o.queued) == 0:
		return nil
	}
	o.writing = true
	o.todo <- o.queued // there is room: nothing is being written
	o.queued = nil
	return reactor.ErrWouldBlock
}

// Pending reports whether something queued is not written.
func (p *stream) Pending() bool { return len(p.out.queued) > 0 || p.out.writing }

// Blocked reports whether a piece of body is not written.
func (p *stream) Blocked() bool { return p.Pending() }
