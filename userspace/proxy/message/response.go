package message

// Body says how the end of a response's body is found (RFC 9112 section 6.3).
type Body uint8

const (
	// BodyNone: the message ends with its head.
	BodyNone Body = iota
	// BodyLength: ContentLength bytes follow.
	BodyLength
	// BodyChunked: a chunked body follows; see http1.Chunked.
	BodyChunked
	// BodyUntilClose: all bytes until the connection ends; whether they are
	// complete cannot be known.
	BodyUntilClose
)

// Response is the head of a response. All slices are views into what was received.
// The zero value is ready.
type Response struct {
	Head

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
	r.Head.reset()
	r.Status, r.Reason, r.Body = 0, nil, BodyNone
}

// Interim reports whether this is a 1xx response other than 101: another head
// follows on the same connection.
func (r *Response) Interim() bool { return r.Status < 200 && r.Status != 101 }
