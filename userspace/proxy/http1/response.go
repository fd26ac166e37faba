package http1

import (
	"encoding/binary"

	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/message/chars"
)

// Response is a response whose head is read from bytes. The zero value is ready.
type Response struct {
	message.Response
	progress
}

// Reset forgets an unfinished head; see Request.Reset.
func (r *Response) Reset() {
	r.progress = progress{}
	r.Response.Reset()
}

// Parse reads the head of a response to a request with this method from the
// beginning of buf. It behaves like Request.Parse. Every error means that the
// connection cannot be trusted any further, and 502 for the client.
func (r *Response) Parse(buf []byte, lim message.Limits, method message.Method) (n int, err error) {
	lim = lim.OrDefaults()
	if r.line == 0 && r.seen == 0 {
		r.Reset()
	} else {
		limit := lim.Head
		if !r.Started {
			limit = min(limit, lim.RequestLine)
		}
		if !r.lineEnds(buf, limit) {
			return 0, nil
		}
		r.resumed = true
	}
	n, fault := r.parse(buf, &lim)
	if fault == errMore {
		r.seen = len(buf)
		return 0, nil
	}
	if fault == nil && r.resumed {
		r.Reset()
		n, fault = r.parse(buf, &lim)
	}
	if fault == nil {
		fault = r.finish(method)
	}
	r.line, r.seen = 0, 0
	if fault != nil {
		return 0, fault
	}
	return n, nil
}

func (r *Response) parse(buf []byte, lim *message.Limits) (n int, err *message.Error) {
	if !r.Started {
		next, err := r.parseLine(buf)
		limit := min(lim.RequestLine, lim.Head)
		switch {
		case err == errMore && len(buf) >= limit, err == nil && next > limit:
			return 0, message.ErrHeadLimit
		case err != nil:
			return 0, err
		}
		r.Started = true
		r.line = next
	}
	return r.parseFields(&r.Head, buf, r.line, lim)
}

// parseLine reads "HTTP/1.x SP 3DIGIT [SP reason] CRLF". Without a reason the
// second space is often missing, too.
func (r *Response) parseLine(buf []byte) (next int, err *message.Error) {
	if len(buf) < 13 {
		if hasLF(buf) {
			return 0, message.ErrBadStatusLine
		}
		return 0, errMore
	}
	const http11, http10 = 0x312e312f50545448, 0x302e312f50545448 // little endian
	switch binary.LittleEndian.Uint64(buf) {
	case http11:
		r.Minor = 1
	case http10:
		r.Minor = 0
	default:
		if err := badVersion(buf[:8]); err == message.ErrVersion && !hasLF(buf[8:12]) {
			return 0, err
		}
		return 0, message.ErrBadStatusLine
	}
	if buf[8] != ' ' {
		return 0, message.ErrBadStatusLine
	}
	status := 0
	for _, c := range buf[9:12] {
		if chars.Classes[c]&chars.Digit == 0 {
			return 0, message.ErrBadStatusLine
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 || buf[12] != ' ' && buf[12] != '\r' && buf[12] != '\n' {
		return 0, message.ErrBadStatusLine
	}
	r.Status = status
	j := 12
	for {
		j = chars.ControlAt(buf, j)
		if j == len(buf) {
			return 0, errMore
		}
		if buf[j] != '\t' {
			break
		}
		j++
	}
	switch {
	case buf[j] == '\n':
		return 0, message.ErrBareLF
	case buf[j] != '\r':
		return 0, message.ErrBadStatusLine
	case j+1 == len(buf):
		return 0, errMore
	case buf[j+1] != '\n':
		return 0, message.ErrBareCR
	}
	if j > 13 {
		r.Reason = buf[13:j]
	}
	return j + 2, nil
}

// finish decides on the body's framing.
func (r *Response) finish(method message.Method) *message.Error {
	if err := r.progress.finish(&r.Head); err != nil {
		return err
	}
	switch {
	case r.Status < 200 || r.Status == 204:
		r.Body = message.BodyNone
		if r.Chunked || r.ContentLength > 0 {
			// RFC 9110 section 8.6 forbids it, and a sender that does it may well
			// send a body: nothing may be read from this connection after it.
			r.KeepAlive = false
		}
		r.ContentLength, r.Chunked = -1, false
	case r.Status == 304:
		r.Body, r.Chunked = message.BodyNone, false
	case method == message.MethodHead:
		r.Body = message.BodyNone
	case r.Chunked:
		r.Body = message.BodyChunked
	case r.ContentLength >= 0:
		r.Body = message.BodyLength
	default:
		r.Body = message.BodyUntilClose
		r.KeepAlive = false
	}
	return nil
}
