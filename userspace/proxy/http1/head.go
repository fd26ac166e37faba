package http1

// Limits bounds what a parser accepts. The zero value of a member means its
// default.
type Limits struct {
	// RequestLine is the largest request line or status line in bytes, line end included.
	RequestLine int
	// Head is the largest head in bytes, from the first byte to the empty line.
	Head int
	// Fields is the largest number of field lines.
	Fields int
}

// DefaultLimits is what large cookies and long URLs need: as many bytes as the four buffers of
// 8 KiB that nginx reads requests into by default, used for any line.
var DefaultLimits = Limits{RequestLine: 32 << 10, Head: 32 << 10, Fields: 512}

// MaxHead is the most that Limits.Head can be set to, in bytes.
const MaxHead = 1 << 20

// maxKeptFields is how much space for fields a head that is used again keeps.
const maxKeptFields = 128

func (l Limits) orDefaults() Limits {
	if l.RequestLine <= 0 {
		l.RequestLine = DefaultLimits.RequestLine
	}
	if l.Head <= 0 {
		l.Head = DefaultLimits.Head
	}
	if l.Fields <= 0 {
		l.Fields = DefaultLimits.Fields
	}
	return l
}

// head is what requests and responses have in common.
type head struct {
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

	connectionClose     bool
	connectionKeepAlive bool
	connectionUpgrade   bool
	nominated           int // names in Connection other than the well-known ones

	// Progress of an unfinished head: line is the offset of the first line not
	// yet read, seen is how many bytes were searched for its end.
	line, seen int
	started    bool // the start line has been read
	resumed    bool // an earlier call has read lines from an older buffer

	composing composing
}

func (h *head) reset() {
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
	h.connectionClose = false
	h.connectionKeepAlive = false
	h.connectionUpgrade = false
	h.nominated = 0
	h.line, h.seen = 0, 0
	h.started = false
	h.resumed = false
}

// Field returns the first field with this id, or nil.
func (h *head) Field(id FieldID) *Field {
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
func (h *head) Value(id FieldID) []byte {
	if f := h.Field(id); f != nil {
		return f.Value
	}
	return nil
}

// Lookup returns the value of the first field with this lower-case name, or
// nil. It compares with every field: prefer Value where there is a FieldID.
func (h *head) Lookup(lower string) []byte {
	for i := range h.Fields {
		if f := &h.Fields[i]; len(f.Name) == len(lower) && foldEqualTokens(f.Name, []byte(lower)) {
			return f.Value
		}
	}
	return nil
}

// joined is Lookup for a field that may stand there several times: their values are joined by
// commas, as RFC 9110 section 5.2 has it. It allocates only then.
func (h *head) joined(lower string) (value []byte) {
	found := 0
	for i := range h.Fields {
		f := &h.Fields[i]
		if len(f.Name) != len(lower) || !foldEqualTokens(f.Name, []byte(lower)) {
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

// parseFields reads field lines from buf[i] on and the empty line after them.
// It returns the offset of the first byte behind. On errMore, h.line is the
// offset of the line to go on with.
func (h *head) parseFields(buf []byte, i int, lim *Limits) (next int, err *Error) {
	for {
		h.line = i
		if i >= lim.Head {
			return 0, ErrHeadLimit
		}
		if i >= len(buf) {
			return 0, errMore
		}
		if buf[i] == '\r' {
			if i+1 == len(buf) {
				return 0, errMore
			}
			if buf[i+1] != '\n' {
				return 0, ErrBareCR
			}
			if i+2 > lim.Head {
				return 0, ErrHeadLimit
			}
			return i + 2, nil
		}
		name, value, size, underscore, err := parseField(buf[i:])
		if err != nil {
			if err == errMore && len(buf) >= lim.Head {
				err = ErrHeadLimit
			}
			return 0, err
		}
		i += size
		if i > lim.Head {
			return 0, ErrHeadLimit
		}
		if len(h.Fields) == lim.Fields {
			return 0, ErrFieldLimit
		}
		id := fieldIDOf(name)
		f := h.newField()
		f.Name, f.Value, f.ID = name, value, id
		f.HopByHop = hopByHop.Has(id) || underscore && lookalike(name)
		if readFields.Has(id) {
			if err := h.readField(id, value); err != nil {
				return 0, err
			}
		}
		h.Present |= 1 << id
	}
}

// newField makes room for one more field, to be set member by member: append
// would build it on the stack and copy it, which takes as long as all the rest.
func (h *head) newField() *Field {
	n := len(h.Fields)
	if n == cap(h.Fields) {
		h.Fields = append(h.Fields, Field{})
	} else {
		h.Fields = h.Fields[:n+1]
	}
	return &h.Fields[n]
}

// lineEnds reports whether the unfinished line at h.line is worth another
// look: it ends in buf, or it has reached the limit (an offset into buf).
func (h *head) lineEnds(buf []byte, limit int) bool {
	if len(buf) >= limit {
		return true
	}
	from := max(h.seen, h.line)
	h.seen = len(buf)
	return from < len(buf) && hasLF(buf[from:])
}
