package message

import (
	"bytes"

	"github.com/kerngate/kerngate/userspace/proxy/message/chars"
)

// Request is the head of a request. All slices are views into what was received, except Host, which
// may be a view into the Request. Package http1 reads one from bytes; Compose makes one of fields
// that arrived separately.
// The zero value is ready; reuse it to avoid allocations, and do not copy it.
type Request struct {
	Head

	// Method is the method as received.
	Method   []byte
	MethodID Method

	// Target is the request target as received, in any of its forms.
	Target []byte
	// Path is the target's path as received: what is forwarded, after route.ResolvePath. It
	// begins with '/', or is "*" for OPTIONS.
	Path []byte
	// Query is what follows the '?' of the target: nil without a '?'.
	Query []byte
	// PathNeedsNormalise is set if Path may differ from its normalised form; see
	// route.NormalisePath.
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
	r.Head.reset()
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
	if r.Started {
		minor = r.Minor
	}
	if id == MethodOther && len(method) <= MaxMethod {
		id = MethodOf(method)
	}
	r.Reset()
	r.Method, r.MethodID, r.Authority = method, id, authority
	r.Path, r.Query, r.Minor = path, query, minor
}

// HasBody reports whether a body follows the head, maybe of length 0 if chunked.
func (r *Request) HasBody() bool { return r.Chunked || r.ContentLength > 0 }

// ReadExpect accepts 100-continue alone; an HTTP/1.0 client cannot mean it
// (RFC 9110 section 10.1.1).
func (r *Request) ReadExpect() *Error {
	for i := range r.Fields {
		if r.Fields[i].ID != FieldExpect {
			continue
		}
		if !chars.FoldEqual(r.Fields[i].Value, "100-continue") {
			return ErrExpectation
		}
	}
	r.Expect100 = r.Minor > 0
	return nil
}
