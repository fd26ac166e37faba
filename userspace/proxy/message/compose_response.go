package message

import "github.com/kerngate/kerngate/userspace/proxy/message/chars"

// Compose begins a head that is made of separate fields.
func (r *Response) Compose(lim Limits) {
	r.Reset()
	r.Head.compose(lim)
}

// AddField is Request.AddField for a response.
func (r *Response) AddField(name, value string) error {
	if r.composing.fault != nil {
		return r.composing.fault
	}
	err := r.countField(name, value)
	switch {
	case err != nil:
	case name == ":status":
		if err = r.pseudoField(pseudoStatus); err == nil {
			err = r.readStatus(value)
		}
	case len(name) > 0 && name[0] == ':':
		err = ErrUnknownPseudo
	default:
		err = r.addField(name, value)
	}
	if err != nil {
		return r.fail(err)
	}
	return nil
}

func (r *Response) readStatus(value string) *Error {
	if len(value) != 3 {
		return ErrBadStatus
	}
	for i := range len(value) {
		if chars.Classes[value[i]]&chars.Digit == 0 {
			return ErrBadStatus
		}
		r.Status = r.Status*10 + int(value[i]-'0')
	}
	if r.Status < 100 || r.Status == 101 { // there is no Upgrade (RFC 9113 section 8.6)
		return ErrBadStatus
	}
	return nil
}

// Finish checks what a response to a request with this method must have. ended says that
// no body follows. A body of unknown length is BodyChunked, since its end is marked and
// trailers may come with it; the bytes themselves are not in chunks. An error is an *Error.
func (r *Response) Finish(method Method, ended bool) error {
	if r.composing.fault != nil {
		return r.composing.fault
	}
	switch {
	case r.composing.pseudo&pseudoStatus == 0:
		return r.fail(ErrPseudoMissing)
	case r.Interim() && ended:
		return r.fail(ErrBadStatus) // a final response must follow
	case r.Interim(), r.Status == 204:
		r.Body, r.ContentLength = BodyNone, -1
	case r.Status == 304, method == MethodHead:
		r.Body = BodyNone
	case ended && r.ContentLength > 0:
		return r.fail(ErrLengthMismatch)
	case ended:
		r.Body = BodyNone
	case r.ContentLength >= 0:
		r.Body = BodyLength
	default:
		r.Body, r.Chunked = BodyChunked, true
	}
	return nil
}
