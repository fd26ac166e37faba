package message

import "github.com/kerngate/kerngate/userspace/proxy/message/chars"

// maxKeptFields is how much space for fields a head that is used again keeps.
const maxKeptFields = 128

// Head is what requests and responses have in common.
type Head struct {
	// Fields are the field lines in their order.
	Fields []Field
	// Minor is the minor version: 0 or 1.
	Minor int
	// ContentLength is the value of Content-Length, or -1 if there is none.
	ContentLength int64
	// Chunked is set if the body is in chunked transfer coding.
	Chunked bool
	// KeepAlive reports whether the sender lets the connection persist after
	// this message.
	KeepAlive bool
	// Upgrade is the value of Upgrade if Connection names it too and the
	// version is 1.1; else nil. Forward it only for protocols that are meant to
	// pass: h2c lets a client talk past every rule of this proxy.
	Upgrade []byte
	// Present has the ids of all fields seen.
	Present FieldSet

	// Started is set by package http1 once it has read the start line.
	Started bool

	composing composing
}

func (h *Head) reset() {
	// Member by member: a composite literal would clear and copy twice.
	if h.Fields = h.Fields[:0]; cap(h.Fields) > 2*maxKeptFields {
		h.Fields = nil
	}
	h.Minor = 0
	h.ContentLength = -1
	h.Chunked = false
	h.KeepAlive = false
	h.Upgrade = nil
	h.Present = 0
	h.Started = false
}

// Field returns the first field with this id, or nil.
func (h *Head) Field(id FieldID) *Field {
	if !h.Present.Has(id) {
		return nil
	}
	for i := range h.Fields {
		if h.Fields[i].ID == id {
			return &h.Fields[i]
		}
	}
	return nil
}

// Value returns the value of the first field with this id, or nil.
func (h *Head) Value(id FieldID) []byte {
	if f := h.Field(id); f != nil {
		return f.Value
	}
	return nil
}

// Lookup returns the value of the first field with this lower-case name, or
// nil. It compares with every field: prefer Value where there is a FieldID.
func (h *Head) Lookup(lower string) []byte {
	for i := range h.Fields {
		if f := &h.Fields[i]; len(f.Name) == len(lower) && chars.EqualTokens(f.Name, []byte(lower)) {
			return f.Value
		}
	}
	return nil
}

// joined is Lookup for a field that may stand there several times: their values are joined by
// commas, as RFC 9110 section 5.2 has it. It allocates only then.
func (h *Head) joined(lower string) (value []byte) {
	found := 0
	for i := range h.Fields {
		f := &h.Fields[i]
		if len(f.Name) != len(lower) || !chars.EqualTokens(f.Name, []byte(lower)) {
			continue
		}
		if found++; found == 1 {
			value = f.Value
			continue
		}
		value = append(append(value[:len(value):len(value)], ", "...), f.Value...)
	}
	return value
}

// newField makes room for one more field, to be set member by member: append
// would build it on the stack and copy it, which takes as long as all the rest.
func (h *Head) newField() *Field {
	n := len(h.Fields)
	if n == cap(h.Fields) {
		h.Fields = append(h.Fields, Field{})
	} else {
		h.Fields = h.Fields[:n+1]
	}
	return &h.Fields[n]
}

// Receive adds a field as it was received, and reports whether there was one of the same id before.
// underscore says that there is one in the name.
func (h *Head) Receive(id FieldID, name, value []byte, underscore bool) (again bool) {
	f := h.newField()
	f.Name, f.Value, f.ID = name, value, id
	f.HopByHop = hopByHop.Has(id) || underscore && lookalike(name)
	again = h.Present.Has(id)
	h.Present |= 1 << id
	return again
}

// TakeLength takes in a Content-Length; again says that there was one before.
func (h *Head) TakeLength(value []byte, again bool) *Error {
	if again {
		return ErrSeveralContentLengths
	}
	n, ok := parseLength(value)
	if !ok {
		return ErrBadContentLength
	}
	h.ContentLength = n
	return nil
}

// parseLength reads 1*DIGIT. Nothing else than digits may stand there, so a
// sign, a list and inner whitespace are refused; leading zeros are not.
func parseLength(value []byte) (int64, bool) {
	if len(value) == 0 || len(value) > 19 {
		return 0, false
	}
	var n uint64 // 19 digits cannot overflow it
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return int64(n), n < 1<<63
}
