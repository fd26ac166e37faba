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

// parsedField is one field line as offsets into the buffer.
type parsedField struct {
	nameEnd, valueStart, valueEnd, next int
	underscore                          bool
}

// parseField reads the field line that starts at buf[i]. It reports errMore if
// the line is not complete and not yet known to be wrong.
func parseField(buf []byte, i int) (f parsedField, err *Error) {
	var seen uint8
	j := i
	for ; j < len(buf); j++ {
		class := classes[buf[j]]
		if class&classToken == 0 {
			break
		}
		seen |= class
	}
	if j == len(buf) {
		return f, errMore
	}
	if buf[j] != ':' || j == i {
		return f, badName(buf, i, j)
	}
	f.nameEnd = j
	f.underscore = seen&classUnderscore != 0
	j++
	for j < len(buf) && (buf[j] == ' ' || buf[j] == '\t') {
		j++
	}
	f.valueStart = j
	for {
		j = controlAt(buf, j)
		if j == len(buf) {
			return f, errMore
		}
		if buf[j] != '\t' {
			break
		}
		j++
	}
	if buf[j] != '\r' {
		if buf[j] == '\n' {
			return f, ErrBareLF
		}
		return f, ErrBadFieldValue
	}
	if j+1 == len(buf) {
		return f, errMore
	}
	if buf[j+1] != '\n' {
		return f, ErrBareCR
	}
	f.next = j + 2
	for j > f.valueStart && (buf[j-1] == ' ' || buf[j-1] == '\t') {
		j--
	}
	f.valueEnd = j
	return f, nil
}

// badName says what is wrong with a line whose name, from buf[i] on, ended at
// buf[j] without a colon or was empty.
func badName(buf []byte, i, j int) *Error {
	switch buf[j] {
	case ' ', '\t':
		if j == i {
			return ErrObsFold
		}
	case '\n':
		return ErrBareLF
	case '\r':
		if j+1 == len(buf) {
			return errMore
		}
		if buf[j+1] != '\n' {
			return ErrBareCR
		}
	}
	return ErrBadFieldName
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
		f, err := parseField(buf, i)
		if err != nil {
			if err == errMore && len(buf) >= lim.Head {
				err = ErrHeadLimit
			}
			return 0, err
		}
		if f.next > lim.Head {
			return 0, ErrHeadLimit
		}
		if len(h.Fields) == lim.Fields {
			return 0, ErrFieldLimit
		}
		name := buf[i:f.nameEnd]
		id := fieldIDOf(name)
		h.Fields = append(h.Fields, Field{
			Name:     name,
			Value:    buf[f.valueStart:f.valueEnd],
			ID:       id,
			HopByHop: hopByHop.Has(id) || f.underscore && lookalike(name),
		})
		if readFields.Has(id) {
			if err := h.readField(id, buf[f.valueStart:f.valueEnd]); err != nil {
				return 0, err
			}
		}
		h.Present |= 1 << id
		i = f.next
	}
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
