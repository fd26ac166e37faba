package http1

import (
	"bytes"
	"encoding/binary"

	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/message/chars"
)

// Request is a request whose head is read from bytes. The zero value is ready; reuse it to avoid
// allocations, and do not copy it.
type Request struct {
	message.Request
	progress
}

// Reset forgets an unfinished head. It is needed only when a connection is
// given up in the middle of a head and the Request is used for another one.
func (r *Request) Reset() {
	r.progress = progress{}
	r.Request.Reset()
}

// Parse reads the head of a request from the beginning of buf.
//
// It returns the length of the head, the empty line included. 0 and no error
// mean that more bytes are needed: call it again with a buffer that begins with
// the same bytes and has more of them; it may be another buffer. Lines that were
// read are not read again until the head is complete. An error is a *message.Error and
// is reported as soon as the line at fault is complete.
//
// The call after a complete head, or after an error, begins a new head.
func (r *Request) Parse(buf []byte, lim message.Limits) (n int, err error) {
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
		// Lines read by earlier calls are views into an older buffer, which may
		// hold anything by now: read them again, this time in one go.
		r.Reset()
		n, fault = r.parse(buf, &lim)
	}
	if fault == nil {
		fault = r.finish()
	}
	r.line, r.seen = 0, 0
	if fault != nil {
		return 0, fault
	}
	return n, nil
}

func (r *Request) parse(buf []byte, lim *message.Limits) (n int, err *message.Error) {
	if !r.Started {
		next, err := r.parseLine(buf, lim)
		if err != nil {
			return 0, err
		}
		r.Started = true
		r.line = next
	}
	return r.parseFields(&r.Head, buf, r.line, lim)
}

// parseLine reads the request line and at most one empty line before it
// (RFC 9112 section 2.2).
func (r *Request) parseLine(buf []byte, lim *message.Limits) (next int, err *message.Error) {
	start := 0
	if len(buf) > 0 && buf[0] == '\r' {
		if len(buf) == 1 {
			return 0, errMore
		}
		if buf[1] != '\n' {
			return 0, message.ErrBareCR
		}
		start = 2
	}
	limit := min(lim.RequestLine, lim.Head)
	next, err = r.splitLine(buf, start)
	switch {
	case err == errMore && len(buf) >= limit, err == nil && next > limit:
		return 0, message.ErrRequestLineLimit
	case err != nil:
		return 0, err
	}
	if err := r.readTarget(); err != nil {
		return 0, err
	}
	return next, nil
}

var preface = []byte("PRI * HTTP/2.0\r\n")

// splitLine finds the parts of the request line that starts at buf[i].
func (r *Request) splitLine(buf []byte, i int) (next int, err *message.Error) {
	j := i
	for ; j < len(buf) && chars.Classes[buf[j]]&chars.Token != 0; j++ {
	}
	if j-i > message.MaxMethod {
		return 0, message.ErrBadMethod
	}
	if j == len(buf) {
		return 0, errMore
	}
	if buf[j] != ' ' || j == i {
		return 0, badMethod(buf, i, j)
	}
	r.Method = buf[i:j]
	r.MethodID = message.MethodOf(r.Method)

	// The path, up to a '?' or the end of the target.
	j++
	target := j
	for ; j < len(buf); j++ {
		class := chars.Classes[buf[j]]
		if class&(chars.Target|chars.PathMark) == chars.Target {
			continue
		}
		if class&chars.PathMark == 0 || buf[j] == '?' {
			break
		}
		if buf[j] == '%' || buf[j] == '\\' || j+1 < len(buf) && (buf[j+1] == '/' || buf[j+1] == '.') {
			r.PathNeedsNormalise = true
		}
	}
	path := j
	if j < len(buf) && buf[j] == '?' {
		j = chars.TargetEnd(buf, j)
	}
	if j == len(buf) {
		return 0, errMore
	}
	if buf[j] != ' ' || j == target {
		return 0, badTarget(buf, j)
	}
	r.Target = buf[target:j]
	r.Path = buf[target:path]
	if path < j {
		r.Query = buf[path+1 : j]
	}

	j++
	if len(buf) < j+10 {
		return 0, partialVersion(buf[j:])
	}
	const http11, http10 = 0x312e312f50545448, 0x302e312f50545448 // little endian
	switch binary.LittleEndian.Uint64(buf[j:]) {
	case http11:
		r.Minor = 1
	case http10:
		r.Minor = 0
	default:
		if bytes.HasPrefix(buf[i:], preface) {
			return 0, message.ErrHTTP2Preface
		}
		if lineEnd := partialVersion(buf[j : j+9]); lineEnd != errMore {
			return 0, lineEnd
		}
		return 0, badVersion(buf[j : j+8])
	}
	if buf[j+8] != '\r' {
		if buf[j+8] == '\n' {
			return 0, message.ErrBareLF
		}
		return 0, message.ErrBadVersion
	}
	if buf[j+9] != '\n' {
		return 0, message.ErrBareCR
	}
	return j + 10, nil
}

// badMethod says what is wrong with a line whose method, from buf[i] on, ended
// at buf[j].
func badMethod(buf []byte, i, j int) *message.Error {
	switch {
	case j == i && buf[j] == 0x16: // a TLS record with a handshake in it
		return message.ErrTLS
	case buf[j] == '\n':
		return message.ErrBareLF
	case buf[j] == '\r':
		return message.ErrBadRequestLine
	}
	return message.ErrBadMethod
}

// badTarget says what is wrong with a target that ended at buf[j].
func badTarget(buf []byte, j int) *message.Error {
	switch buf[j] {
	case '\r', '\n', ' ': // no version (HTTP/0.9), or nothing between two spaces
		return message.ErrBadRequestLine
	}
	return message.ErrBadTarget
}

// partialVersion looks for a line end in what is too short for a version and
// its line end. A line that ends too early is at fault already.
func partialVersion(version []byte) *message.Error {
	switch lf := bytes.IndexByte(version, '\n'); {
	case lf < 0:
		return errMore
	case lf > 0 && version[lf-1] == '\r':
		return message.ErrBadVersion
	}
	return message.ErrBareLF
}

// badVersion tells a version that is none of ours from what is no version.
func badVersion(v []byte) *message.Error {
	if string(v[:5]) == "HTTP/" && chars.Classes[v[5]]&chars.Digit != 0 && v[6] == '.' && chars.Classes[v[7]]&chars.Digit != 0 {
		return message.ErrVersion
	}
	return message.ErrBadVersion
}

// finish checks what a request must have, after all fields were read.
func (r *Request) finish() *message.Error {
	if err := r.progress.finish(&r.Head); err != nil {
		return err
	}
	if !r.Present.Has(message.FieldHost) {
		if r.Minor > 0 {
			return message.ErrMissingHost
		}
	} else {
		// Checked even if an absolute target overrides it (RFC 9112 section 3.2.2).
		authority := r.Value(message.FieldHost)
		host, port, ok := r.ReadAuthority(authority)
		if !ok {
			return message.ErrBadHost
		}
		if !r.Absolute {
			r.Authority, r.Host, r.Port = authority, host, port
		}
	}
	if r.Absolute {
		host, port, ok := r.ReadAuthority(r.Authority)
		if !ok || len(host) == 0 {
			return message.ErrBadHost
		}
		r.Host, r.Port = host, port
	}
	if r.Present.Has(message.FieldExpect) {
		if err := r.ReadExpect(); err != nil {
			return err
		}
	}
	if r.Present.Has(message.FieldTE) {
		r.readTE()
	}
	return nil
}

func (r *Request) readTE() {
	for i := range r.Fields {
		if r.Fields[i].ID != message.FieldTE {
			continue
		}
		for rest, more := r.Fields[i].Value, true; more; {
			var coding []byte
			coding, rest, more = cutComma(rest)
			if chars.FoldEqual(coding, "trailers") {
				r.TETrailers = true
			}
		}
	}
}

func hasLF(b []byte) bool { return bytes.IndexByte(b, '\n') >= 0 }
