package http1

import (
	"bytes"
	"encoding/binary"
)

// Request is the head of a request. All slices are views into the buffer given
// to the last call of Parse, except Host, which may be a view into the Request. Compose
// makes one of fields that arrived separately.
// The zero value is ready; reuse it to avoid allocations, and do not copy it.
type Request struct {
	head

	// Method is the method as received.
	Method   []byte
	MethodID Method

	// Target is the request target as received, in any of its forms.
	Target []byte
	// Path is the target's path as received: what is forwarded, after ResolvePath. It
	// begins with '/', or is "*" for OPTIONS.
	Path []byte
	// Query is what follows the '?' of the target: nil without a '?'.
	Query []byte
	// PathNeedsNormalise is set if Path may differ from its normalised form; see
	// NormalisePath.
	PathNeedsNormalise bool
	// Absolute is set if the target was in absolute form.
	Absolute bool
	// Secure is set if the target was in absolute form with the scheme https.
	Secure bool

	// Authority is host[:port] as received: from an absolute target, else from
	// Host. Forward this as Host.
	Authority []byte
	// Host is the authority's host in lower case without port and without a
	// trailing dot; an IPv6 literal keeps its brackets. It is empty if the client
	// has sent an empty Host, or none with HTTP/1.0.
	Host []byte
	// Port is the authority's port, or 0 if there is none.
	Port uint16

	// Expect100 is set if the client waits for 100 (Continue) before the body.
	Expect100 bool
	// TETrailers is set if the client can take trailers (TE: trailers).
	TETrailers bool

	// Protocol is what an extended CONNECT asks for (RFC 8441); else nil.
	Protocol []byte

	cookie    []byte // joined crumbs
	lowerHost [maxHost]byte
}

// Reset forgets an unfinished head. It is needed only when a connection is
// given up in the middle of a head and the Request is used for another one.
func (r *Request) Reset() {
	r.head.reset()
	r.Method, r.MethodID = nil, MethodOther
	r.Target, r.Path, r.Query = nil, nil, nil
	r.PathNeedsNormalise = false
	r.Absolute, r.Secure = false, false
	r.Authority, r.Host, r.Port = nil, nil, 0
	r.Expect100, r.TETrailers = false, false
	r.Protocol = nil
	if cap(r.cookie) > maxKeptCookie {
		r.cookie = nil
	}
}

// ResetRefused is Reset for a head that was refused. What an access log tells of a request
// stays as far as it was read: Method, MethodID, Path, Query, Authority and Minor. Nothing of
// that was validated as a whole, so it must not be acted on. The slices are views into the
// same memory as before.
func (r *Request) ResetRefused() {
	method, id, authority := r.Method, r.MethodID, r.Authority
	path, query := r.Path, r.Query
	if path == nil {
		path, query, _ = bytes.Cut(r.Target, []byte("?"))
	}
	minor := 1
	if r.started {
		minor = r.Minor
	}
	if id == MethodOther && len(method) <= maxMethod {
		id = methodOf(method)
	}
	r.Reset()
	r.Method, r.MethodID, r.Authority = method, id, authority
	r.Path, r.Query, r.Minor = path, query, minor
}

// maxKeptCookie is how much space for joined crumbs a Request that is used again keeps.
const maxKeptCookie = 4 << 10

// HasBody reports whether a body follows the head, maybe of length 0 if chunked.
func (r *Request) HasBody() bool { return r.Chunked || r.ContentLength > 0 }

// Parse reads the head of a request from the beginning of buf.
//
// It returns the length of the head, the empty line included. 0 and no error
// mean that more bytes are needed: call it again with a buffer that begins with
// the same bytes and has more of them; it may be another buffer. Lines that were
// read are not read again until the head is complete. An error is an *Error and
// is reported as soon as the line at fault is complete.
//
// The call after a complete head, or after an error, begins a new head.
func (r *Request) Parse(buf []byte, lim Limits) (n int, err error) {
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

func (r *Request) parse(buf []byte, lim *Limits) (n int, err *Error) {
	if !r.started {
		next, err := r.parseLine(buf, lim)
		if err != nil {
			return 0, err
		}
		r.started = true
		r.line = next
	}
	return r.parseFields(buf, r.line, lim)
}

// parseLine reads the request line and at most one empty line before it
// (RFC 9112 section 2.2).
func (r *Request) parseLine(buf []byte, lim *Limits) (next int, err *Error) {
	start := 0
	if len(buf) > 0 && buf[0] == '\r' {
		if len(buf) == 1 {
			return 0, errMore
		}
		if buf[1] != '\n' {
			return 0, ErrBareCR
		}
		start = 2
	}
	limit := min(lim.RequestLine, lim.Head)
	next, err = r.splitLine(buf, start)
	switch {
	case err == errMore && len(buf) >= limit, err == nil && next > limit:
		return 0, ErrRequestLineLimit
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
func (r *Request) splitLine(buf []byte, i int) (next int, err *Error) {
	j := i
	for ; j < len(buf) && classes[buf[j]]&classToken != 0; j++ {
	}
	if j-i > maxMethod {
		return 0, ErrBadMethod
	}
	if j == len(buf) {
		return 0, errMore
	}
	if buf[j] != ' ' || j == i {
		return 0, badMethod(buf, i, j)
	}
	r.Method = buf[i:j]
	r.MethodID = methodOf(r.Method)

	// The path, up to a '?' or the end of the target.
	j++
	target := j
	for ; j < len(buf); j++ {
		class := classes[buf[j]]
		if class&(classTarget|classPathMark) == classTarget {
			continue
		}
		if class&classPathMark == 0 || buf[j] == '?' {
			break
		}
		if buf[j] == '%' || buf[j] == '\\' || j+1 < len(buf) && (buf[j+1] == '/' || buf[j+1] == '.') {
			r.PathNeedsNormalise = true
		}
	}
	path := j
	if j < len(buf) && buf[j] == '?' {
		j = targetEnd(buf, j)
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
			return 0, ErrHTTP2Preface
		}
		if lineEnd := partialVersion(buf[j : j+9]); lineEnd != errMore {
			return 0, lineEnd
		}
		return 0, badVersion(buf[j : j+8])
	}
	if buf[j+8] != '\r' {
		if buf[j+8] == '\n' {
			return 0, ErrBareLF
		}
		return 0, ErrBadVersion
	}
	if buf[j+9] != '\n' {
		return 0, ErrBareCR
	}
	return j + 10, nil
}

// badMethod says what is wrong with a line whose method, from buf[i] on, ended
// at buf[j].
func badMethod(buf []byte, i, j int) *Error {
	switch {
	case j == i && buf[j] == 0x16: // a TLS record with a handshake in it
		return ErrTLS
	case buf[j] == '\n':
		return ErrBareLF
	case buf[j] == '\r':
		return ErrBadRequestLine
	}
	return ErrBadMethod
}

// badTarget says what is wrong with a target that ended at buf[j].
func badTarget(buf []byte, j int) *Error {
	switch buf[j] {
	case '\r', '\n', ' ': // no version (HTTP/0.9), or nothing between two spaces
		return ErrBadRequestLine
	}
	return ErrBadTarget
}

// partialVersion looks for a line end in what is too short for a version and
// its line end. A line that ends too early is at fault already.
func partialVersion(version []byte) *Error {
	switch lf := bytes.IndexByte(version, '\n'); {
	case lf < 0:
		return errMore
	case lf > 0 && version[lf-1] == '\r':
		return ErrBadVersion
	}
	return ErrBareLF
}

// badVersion tells a version that is none of ours from what is no version.
func badVersion(v []byte) *Error {
	if string(v[:5]) == "HTTP/" && classes[v[5]]&classDigit != 0 && v[6] == '.' && classes[v[7]]&classDigit != 0 {
		return ErrVersion
	}
	return ErrBadVersion
}

// finish checks what a request must have, after all fields were read.
func (r *Request) finish() *Error {
	if err := r.head.finish(); err != nil {
		return err
	}
	if !r.Present.Has(FieldHost) {
		if r.Minor > 0 {
			return ErrMissingHost
		}
	} else {
		// Checked even if an absolute target overrides it (RFC 9112 section 3.2.2).
		authority := r.Value(FieldHost)
		host, port, ok := r.readAuthority(authority)
		if !ok {
			return ErrBadHost
		}
		if !r.Absolute {
			r.Authority, r.Host, r.Port = authority, host, port
		}
	}
	if r.Absolute {
		host, port, ok := r.readAuthority(r.Authority)
		if !ok || len(host) == 0 {
			return ErrBadHost
		}
		r.Host, r.Port = host, port
	}
	if r.Present.Has(FieldExpect) {
		if err := r.readExpect(); err != nil {
			return err
		}
	}
	if r.Present.Has(FieldTE) {
		r.readTE()
	}
	return nil
}

// readExpect accepts 100-continue alone; an HTTP/1.0 client cannot mean it
// (RFC 9110 section 10.1.1).
func (r *Request) readExpect() *Error {
	for i := range r.Fields {
		if r.Fields[i].ID != FieldExpect {
			continue
		}
		if !foldEqual(r.Fields[i].Value, "100-continue") {
			return ErrExpectation
		}
	}
	r.Expect100 = r.Minor > 0
	return nil
}

func (r *Request) readTE() {
	for i := range r.Fields {
		if r.Fields[i].ID != FieldTE {
			continue
		}
		for rest, more := r.Fields[i].Value, true; more; {
			var coding []byte
			coding, rest, more = cutComma(rest)
			if foldEqual(coding, "trailers") {
				r.TETrailers = true
			}
		}
	}
}

func hasLF(b []byte) bool { return bytes.IndexByte(b, '\n') >= 0 }
