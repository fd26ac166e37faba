// Package accesslog writes a line per request, of JSON or as a template says, without ever holding up the path: a
// worker appends to a buffer of its own, and whole buffers go to one writer. If that
// cannot keep up, buffers are dropped and counted.
package accesslog

import (
	"encoding/hex"
	"io"
	"strconv"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/text/logformat"
)

const (
	bufferSize = 64 << 10
	queued     = 32 // buffers waiting for the writer
)

// Logger is the writer's side, one per process.
type Logger struct {
	out     io.Writer
	full    chan []byte
	free    chan []byte
	done    chan struct{}
	Dropped atomic.Uint64 // lines
	Failed  atomic.Uint64 // buffers that could not be written
}

// New starts a logger that writes to out.
func New(out io.Writer) *Logger {
	l := &Logger{out: out, full: make(chan []byte, queued), free: make(chan []byte, queued), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		for b := range l.full {
			if _, err := l.out.Write(b); err != nil {
				l.Failed.Add(1)
			}
			select {
			case l.free <- b[:0]:
			default:
			}
		}
	}()
	return l
}

// Close writes what is queued and ends the writer. No Buffer may be used afterwards.
func (l *Logger) Close() {
	close(l.full)
	<-l.done
}

// Buffer is a worker's side. It belongs to that worker's loop.
type Buffer struct {
	logger *Logger
	buf    []byte
	lines  uint64
	skip   uint32
}

// Buffer makes a worker's side.
func (l *Logger) Buffer() *Buffer { return &Buffer{logger: l} }

// Log appends a line for an exchange that ended at loop time end, if it is sampled.
func (b *Buffer) Log(x *exchange.Exchange, end, sent int64) { b.LogAs(x.LogFormat(), x, end, sent) }

// LogAs is Log in the given format; nil: JSON.
func (b *Buffer) LogAs(f *logformat.Format, x *exchange.Exchange, end, sent int64) {
	sample := x.Sample()
	if sample == 0 {
		return
	}
	if b.skip++; b.skip < sample {
		return
	}
	b.skip = 0
	if b.buf == nil {
		select {
		case b.buf = <-b.logger.free:
		default:
			b.buf = make([]byte, 0, bufferSize)
		}
	}
	if f == nil {
		b.buf = appendLine(b.buf, x, end, sent)
	} else {
		b.buf = appendTemplate(b.buf, f, x, end, sent)
	}
	b.lines++
	if len(b.buf) > bufferSize-8<<10 {
		b.Flush()
	}
}

// Held returns how many lines have not been handed to the writer.
func (b *Buffer) Held() uint64 { return b.lines }

// Flush hands the lines to the writer; the worker calls it at the end of its turns.
func (b *Buffer) Flush() {
	if len(b.buf) == 0 {
		return
	}
	select {
	case b.logger.full <- b.buf:
		b.buf = nil
	default:
		if len(b.buf) < bufferSize/2 {
			return // there is room for more; the writer may catch up
		}
		b.logger.Dropped.Add(b.lines)
		b.buf = b.buf[:0]
	}
	b.lines = 0
}

func appendLine(dst []byte, x *exchange.Exchange, end, sent int64) []byte {
	o, r := &x.Outcome, x.Request
	dst = append(dst, `{"time":"`...)
	dst = x.At(o.Start).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000000Z")
	dst = append(dst, `","client":"`...)
	dst = appendClient(dst, x)
	dst = append(dst, `","method":`...)
	dst = appendString(dst, r.Method)
	dst = append(dst, `,"host":`...)
	dst = appendString(dst, r.Authority)
	dst = append(dst, `,"path":`...)
	dst = appendString(dst, r.Path)
	if r.Query != nil {
		dst = append(dst, `,"query":`...)
		dst = appendString(dst, r.Query)
	}
	switch x.Connection.Protocol {
	case exchange.HTTP2:
		dst = append(dst, `,"proto":"HTTP/2`...)
	case exchange.HTTP3:
		dst = append(dst, `,"proto":"HTTP/3`...)
	case exchange.Passthrough:
		dst = append(dst, `,"proto":"TLS`...)
	default:
		dst = append(dst, `,"proto":"HTTP/1.`...)
		dst = strconv.AppendInt(dst, int64(r.Minor), 10)
	}
	dst = append(dst, `","status":`...)
	dst = strconv.AppendInt(dst, int64(o.Status), 10)
	dst = append(dst, `,"reason":"`...)
	dst = append(dst, o.Reason.String()...)
	if o.Detail != "" {
		dst = append(dst, `","detail":"`...)
		dst = append(dst, o.Detail...)
	}
	if o.GRPC > 0 {
		dst = append(dst, `","grpc_status":"`...)
		dst = append(dst, o.GRPC.String()...)
	}
	dst = append(dst, `","bytes_in":`...)
	dst = strconv.AppendInt(dst, o.Received, 10)
	dst = append(dst, `,"bytes_out":`...)
	dst = strconv.AppendInt(dst, sent, 10)
	dst = append(dst, `,"duration_us":`...)
	dst = strconv.AppendInt(dst, (end-o.Start)/int64(time.Microsecond), 10)
	if o.Tries > 0 {
		dst = append(dst, `,"upstream":"`...)
		dst = o.Upstream.AppendTo(dst)
		dst = append(dst, `","tries":`...)
		dst = strconv.AppendInt(dst, int64(o.Tries), 10)
		if o.First > 0 {
			dst = append(dst, `,"first_byte_us":`...)
			dst = strconv.AppendInt(dst, (o.First-o.Start)/int64(time.Microsecond), 10)
		}
	}
	if o.Service != nil {
		dst = append(dst, `,"service":"`...)
		dst = append(dst, o.Service.Name...)
		dst = append(dst, '"')
	}
	if o.Source.Kind != "" {
		dst = append(dst, `,"ingress":"`...)
		dst = o.Source.AppendFullName(dst)
		dst = append(dst, '"')
		if o.Source.Kind != "Ingress" {
			dst = append(dst, `,"route_kind":"`...)
			dst = append(dst, o.Source.Kind...)
			dst = append(dst, '"')
		}
	}
	if r.Method != nil {
		dst = append(dst, `,"request_id":"`...)
		dst = append(dst, x.RequestID()...)
		dst = append(dst, '"')
	}
	if trace, span, traced := x.Trace(); traced {
		dst = append(dst, `,"trace_id":"`...)
		dst = hex.AppendEncode(dst, trace[:])
		dst = append(dst, `","span_id":"`...)
		dst = hex.AppendEncode(dst, span[:])
		dst = append(dst, '"')
	}
	return append(dst, "}\n"...)
}

// appendClient appends the client's address; its port is known only where the connection is
// its own. Behind a trusted proxy, or one that sends PROXY headers, that one is told too.
func appendClient(dst []byte, x *exchange.Exchange) []byte {
	c := x.Connection
	if client := x.Client(); client != c.Client.Addr() {
		dst = client.AppendTo(dst)
	} else {
		dst = c.Client.AppendTo(dst)
		if c.Client == c.Peer {
			return dst
		}
	}
	dst = append(dst, `","peer":"`...)
	return c.Peer.AppendTo(dst)
}

// appendString appends a client's bytes as a JSON string: whatever they are, the line
// stays one line of valid JSON.
func appendString(dst, s []byte) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20 || c == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			r, n := utf8.DecodeRune(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(dst, `\ufffd`...)
			} else {
				dst = append(dst, s[i:i+n]...)
			}
			i += n
			continue
		}
		i++
	}
	return append(dst, '"')
}
