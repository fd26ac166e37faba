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

// DefaultLimits is what large cookies and long URLs need, and no more.
var DefaultLimits = Limits{RequestLine: 16 << 10, Head: 32 << 10, Fields: 128}

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

// maxConnectionOptions bounds the names in Connection, each of which is
// searched among the fields.
const maxConnectionOptions = 16

// parseField reads the field line at the beginning of buf, size bytes with its
// line end. underscore reports whether there is one in the name. errMore means
// that the line is not complete and not yet known to be wrong. The results are
// plain values, not a struct, so that they stay in registers.
func parseField(buf []byte) (name, value []byte, size int, underscore bool, err *Error) {
	var seen uint8
	colon := len(buf)
	for i, c := range buf {
		class := classes[c]
		if class&classToken == 0 {
			colon = i
			break
		}
		seen |= class
	}
	if colon == len(buf) {
		return nil, nil, 0, false, errMore
	}
	if buf[colon] != ':' || colon == 0 {
		return nil, nil, 0, false, badName(buf, colon)
	}
	start := colon + 1
	for start < len(buf) && (buf[start] == ' ' || buf[start] == '\t') {
		start++
	}
	end := controlAt(buf, start)
	for end < len(buf) && buf[end] == '\t' {
		end = controlAt(buf, end+1)
	}
	if end+1 >= len(buf) || buf[end] != '\r' || buf[end+1] != '\n' {
		return nil, nil, 0, false, badValue(buf, end)
	}
	size = end + 2
	for end > start && (buf[end-1] == ' ' || buf[end-1] == '\t') {
		end--
	}
	return buf[:colon], buf[start:end], size, seen&classUnderscore != 0, nil
}

// badName says what is wrong with a line whose name is empty or ends at buf[i]
// without a colon.
func badName(buf []byte, i int) *Error {
	switch buf[i] {
	case ' ', '\t':
		if i == 0 {
			return ErrObsFold
		}
	case '\n':
		return ErrBareLF
	case '\r':
		if i+1 == len(buf) {
			return errMore
		}
		if buf[i+1] != '\n' {
			return ErrBareCR
		}
	}
	return ErrBadFieldName
}

// badValue says what is wrong with a value that ends at buf[i], maybe behind
// the bytes there are, but not with CRLF.
func badValue(buf []byte, i int) *Error {
	switch {
	case i == len(buf):
		return errMore
	case buf[i] == '\n':
		return ErrBareLF
	case buf[i] != '\r':
		return ErrBadFieldValue
	case i+1 == len(buf):
		return errMore
	}
	return ErrBareCR
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
}

func (h *head) reset() {
	// Member by member: a composite literal would clear and copy twice.
	h.Fields = h.Fields[:0]
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

// readField takes in a field that decides how the message is read. h.Present
// tells whether the same field was there before.
func (h *head) readField(id FieldID, value []byte) *Error {
	switch id {
	case FieldContentLength:
		if h.Present.Has(id) {
			return ErrSeveralContentLengths
		}
		n, ok := parseLength(value)
		if !ok {
			return ErrBadContentLength
		}
		h.ContentLength = n
	case FieldTransferEncoding:
		if h.Present.Has(id) {
			return ErrBadTransferEncoding
		}
		if h.Minor == 0 {
			return ErrTransferEncodingOn10
		}
		if !foldEqual(value, "chunked") {
			return refuseCoding(value)
		}
		if tabFollows(value) {
			return ErrBadTransferEncoding
		}
		h.Chunked = true
	case FieldConnection:
		return h.readConnection(value)
	case FieldHost:
		if h.Present.Has(id) {
			return ErrSeveralHosts
		}
	}
	return nil
}

// tabFollows reports whether there is a tab in the whitespace behind a value of
// parseField. It is allowed there, but llhttp (Node) takes it for a part of the
// coding's name: it refuses such a request, and reads such a response until the
// connection ends.
func tabFollows(value []byte) bool {
	for _, c := range value[len(value):cap(value)] {
		if c != ' ' {
			return c == '\t'
		}
	}
	return false
}

// refuseCoding tells a list of codings of which one is unknown to us (501) from
// one that is malformed or uses chunked in a wrong way (400).
func refuseCoding(value []byte) *Error {
	unknown, chunked := false, 0
	for rest, more := value, true; more; {
		var element []byte
		element, rest, more = cutComma(rest)
		switch {
		case !isToken(element) || chunked > 0:
			return ErrBadTransferEncoding
		case foldEqual(element, "chunked"):
			chunked++
		default:
			unknown = true
		}
	}
	if unknown {
		return ErrTransferCoding
	}
	return ErrBadTransferEncoding
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

// cutComma splits a list at its first comma and trims the element before it.
func cutComma(list []byte) (element, rest []byte, more bool) {
	for i, c := range list {
		if c == ',' {
			return trimSpace(list[:i]), list[i+1:], true
		}
	}
	return trimSpace(list), nil, false
}

// readConnection takes in the options of a Connection field.
func (h *head) readConnection(value []byte) *Error {
	// Nearly all there is in practice.
	switch {
	case foldEqual(value, "keep-alive"):
		h.connectionKeepAlive = true
		return nil
	case foldEqual(value, "close"):
		h.connectionClose = true
		return nil
	}
	for rest, more := value, true; more; {
		var option []byte
		option, rest, more = cutComma(rest)
		switch {
		case len(option) == 0:
		case !isToken(option):
			return ErrBadConnection
		case foldEqual(option, "close"):
			h.connectionClose = true
		case foldEqual(option, "keep-alive"):
			h.connectionKeepAlive = true
		case foldEqual(option, "upgrade"):
			h.connectionUpgrade = true
		default:
			if h.nominated++; h.nominated > maxConnectionOptions {
				return ErrBadConnection
			}
		}
	}
	return nil
}

// finish draws the conclusions that need all fields.
func (h *head) finish() *Error {
	if h.Chunked && h.ContentLength >= 0 {
		return ErrLengthAndEncoding
	}
	if h.Minor == 0 {
		h.KeepAlive = h.connectionKeepAlive && !h.connectionClose
	} else {
		h.KeepAlive = !h.connectionClose
		if h.connectionUpgrade {
			h.Upgrade = h.Value(FieldUpgrade)
		}
	}
	if h.nominated > 0 {
		h.markNominated()
	}
	return nil
}

// markNominated makes the fields that Connection names hop-by-hop, except those
// with an identity: else a client could have the proxy drop what proxies before
// it have added.
func (h *head) markNominated() {
	for i := range h.Fields {
		if h.Fields[i].ID != FieldConnection {
			continue
		}
		for rest, more := h.Fields[i].Value, true; more; {
			var option []byte
			option, rest, more = cutComma(rest)
			for j := range h.Fields {
				f := &h.Fields[j]
				if f.ID == FieldOther && foldEqualTokens(f.Name, option) {
					f.HopByHop = true
				}
			}
		}
	}
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
