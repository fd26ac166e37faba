package http1

// maxConnectionOptions bounds the names in Connection, each of which is
// searched among the fields.
const maxConnectionOptions = 16

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
