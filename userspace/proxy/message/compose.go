package message

import (
	"unsafe"

	"github.com/kerngate/kerngate/userspace/proxy/message/chars"
)

// A head of HTTP/2 or HTTP/3 arrives as names and values that are separate already
// (RFC 9113 section 8.3, RFC 9114 section 4.3). Compose, AddField for each of them in
// their order, and Finish make of it the same Request or Response that package http1 would, under
// the same rules. Names and values are strings because that is what HPACK and QPACK
// decoders keep; the slices of the result are views of them and must not be written to.

// composing is the progress of a head between Compose and Finish.
type composing struct {
	lim    Limits
	size   int      // bytes so far, as RFC 9113 section 10.5.1 counts them
	pseudo pseudoID // which pseudo-header fields were there, a set
	fields bool     // a field that is none was there
	crumbs bool     // Request.cookie has joined crumbs
	fault  *Error   // the first, which Finish returns
}

// fieldOverhead is what a field counts beyond its bytes.
const fieldOverhead = 32

type pseudoID uint8

const (
	pseudoMethod pseudoID = 1 << iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
	pseudoProtocol
	pseudoStatus
)

// view returns the bytes of s without copying them.
func view(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

func (h *Head) compose(lim Limits) {
	h.Minor = 1
	h.KeepAlive = true
	h.composing = composing{lim: lim.OrDefaults()}
}

// fail keeps the first fault and returns it.
func (h *Head) fail(err *Error) *Error {
	if h.composing.fault == nil {
		h.composing.fault = err
	}
	return h.composing.fault
}

// countField bounds the list of fields.
func (h *Head) countField(name, value string) *Error {
	c := &h.composing
	if c.size += len(name) + len(value) + fieldOverhead; c.size > c.lim.Head {
		return ErrHeadLimit
	}
	return nil
}

// pseudoField checks order and repetition of a pseudo-header field.
func (h *Head) pseudoField(id pseudoID) *Error {
	c := &h.composing
	switch {
	case c.fields:
		return ErrPseudoOrder
	case c.pseudo&id != 0:
		return ErrPseudoRepeated
	}
	c.pseudo |= id
	return nil
}

// addField takes a field that is no pseudo-header field.
func (h *Head) addField(name, value string) *Error {
	h.composing.fields = true
	value = chars.TrimString(value)
	id, underscore, err := composedField(name, value)
	if err != nil {
		return err
	}
	if len(h.Fields) == h.composing.lim.Fields {
		return ErrFieldLimit
	}
	switch again := h.Receive(id, view(name), view(value), underscore); {
	case id == FieldContentLength:
		return h.TakeLength(view(value), again)
	case id == FieldHost && again:
		return ErrSeveralHosts
	}
	return nil
}

// composedField checks a name and a value by themselves (RFC 9113 sections 8.2.1, 8.2.2).
// Whitespace around the value was removed, as the HTTP/1.1 parser does: section 8.2.1 calls
// it malformed, but gRPC servers send it, in grpc-message for example.
func composedField(name, value string) (id FieldID, underscore bool, err *Error) {
	var seen uint8
	for i := range len(name) {
		class := chars.Classes[name[i]]
		if class&chars.Token == 0 {
			return 0, false, ErrBadFieldName
		}
		seen |= class
	}
	switch {
	case len(name) == 0:
		return 0, false, ErrBadFieldName
	case seen&chars.Upper != 0:
		return 0, false, ErrUpperCaseName
	}
	v := view(value)
	for i := chars.ControlAt(v, 0); i < len(v); i = chars.ControlAt(v, i+1) {
		if v[i] != '\t' {
			return 0, false, ErrBadFieldValue
		}
	}
	id = FieldIDOf(view(name))
	switch id {
	case FieldConnection, FieldKeepAlive, FieldProxyConnection, FieldTransferEncoding, FieldUpgrade, FieldHTTP2Settings:
		return 0, false, ErrConnectionField
	case FieldTE:
		if !chars.FoldEqual(v, "trailers") {
			return 0, false, ErrBadTE
		}
	}
	return id, seen&chars.Underscore != 0, nil
}
