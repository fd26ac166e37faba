package http1

import "encoding/binary"

// Body says how the end of a response's body is found (RFC 9112 section 6.3).
type Body uint8

const (
	// BodyNone: the message ends with its head.
	BodyNone Body = iota
	// BodyLength: ContentLength bytes follow.
	BodyLength
	// BodyChunked: a chunked body follows; see Chunked.
	BodyChunked
	// BodyUntilClose: all bytes until the connection ends; whether they are
	// complete cannot be known.
	BodyUntilClose
)

// Response is the head of a response. All slices are views into the buffer
// given to the last call of Parse. The zero value is ready.
type Response struct {
	head

	// Status is the status code, 100 to 999.
	Status int
	// Reason is the reason phrase as received, maybe empty.
	Reason []byte
	// Body is the framing of the body. For HEAD, ContentLength and Chunked say
	// what GET would have brought, as ContentLength does in a 304. In a 1xx or 204
	// they are unset whatever its fields say (RFC 9110 section 8.6, RFC 9112 section 6.1).
	Body Body
}

// Reset forgets an unfinished head; see Request.Reset.
func (r *Response) Reset() {
	r.head.reset()
	r.Status, r.Reason, r.Body = 0, nil, BodyNone
}

// Interim reports whether this is a 1xx response other than 101: another head
// follows on the same connection.
func (r *Response) Interim() bool { return r.Status < 200 && r.Status != 101 }

// Parse reads the head of a response to a request with this method from the
// beginning of buf. It behaves like Request.Parse. Every error means that the
// connection cannot be trusted any further, and 502 for the client.
func (r *Response) Parse(buf []byte, lim Limits, method Method) (n int, err error) {
	lim = lim.orDefaults()
	if r.line == 0 && r.seen == 0 {
		r.Reset()
	} else {
		limit := lim.Head
		if !r.started {
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

func (r *Response) parse(buf []byte, lim *Limits) (n int, err *Error) {
	if !r.started {
		next, err := r.parseLine(buf)
		limit := min(lim.RequestLine, lim.Head)
		switch {
		case err == errMore && len(buf) >= limit, err == nil && next > limit:
			return 0, ErrHeadLimit
		case err != nil:
			return 0, err
		}
		r.started = true
		r.line = next
	}
	return r.parseFields(buf, r.line, lim)
}

// parseLine reads "HTTP/1.x SP 3DIGIT [SP reason] CRLF". Without a reason the
// second space is often missing, too.
func (r *Response) parseLine(buf []byte) (next int, err *Error) {
	if len(buf) < 13 {
		if hasLF(buf) {
			return 0, ErrBadStatusLine
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
		if err := badVersion(buf[:8]); err == ErrVersion && !hasLF(buf[8:12]) {
			return 0, err
		}
		return 0, ErrBadStatusLine
	}
	if buf[8] != ' ' {
		return 0, ErrBadStatusLine
	}
	status := 0
	for _, c := range buf[9:12] {
		if classes[c]&classDigit == 0 {
			return 0, ErrBadStatusLine
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 || buf[12] != ' ' && buf[12] != '\r' && buf[12] != '\n' {
		return 0, ErrBadStatusLine
	}
	r.Status = status
	j := 12
	for {
		j = controlAt(buf, j)
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
		return 0, ErrBareLF
	case buf[j] != '\r':
		return 0, ErrBadStatusLine
	case j+1 == len(buf):
		return 0, errMore
	case buf[j+1] != '\n':
		return 0, ErrBareCR
	}
	if j > 13 {
		r.Reason = buf[13:j]
	}
	return j + 2, nil
}

// finish decides on the body's framing.
func (r *Response) finish(method Method) *Error {
	if err := r.head.finish(); err != nil {
		return err
	}
	switch {
	case r.Status < 200 || r.Status == 204:
		r.Body = BodyNone
		if r.Chunked || r.ContentLength > 0 {
			// RFC 9110 section 8.6 forbids it, and a sender that does it may well
			// send a body: nothing may be read from this connection after it.
			r.KeepAlive = false
		}
		r.ContentLength, r.Chunked = -1, false
	case r.Status == 304:
		r.Body, r.Chunked = BodyNone, false
	case method == MethodHead:
		r.Body = BodyNone
	case r.Chunked:
		r.Body = BodyChunked
	case r.ContentLength >= 0:
		r.Body = BodyLength
	default:
		r.Body = BodyUntilClose
		r.KeepAlive = false
	}
	return nil
}
