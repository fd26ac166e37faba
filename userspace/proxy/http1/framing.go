package http1

import (
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/message/chars"
)

// readFields are the fields whose value decides how the message is read.
var readFields = message.Fields(message.FieldConnection, message.FieldTransferEncoding, message.FieldContentLength, message.FieldHost)

// maxConnectionOptions bounds the names in Connection, each of which is
// searched among the fields.
const maxConnectionOptions = 16

// readField takes in a field that decides how the message is read. again says that there was one
// of the same name before.
func (p *progress) readField(h *message.Head, id message.FieldID, value []byte, again bool) *message.Error {
	switch id {
	case message.FieldContentLength:
		return h.TakeLength(value, again)
	case message.FieldTransferEncoding:
		if again {
			return message.ErrBadTransferEncoding
		}
		if h.Minor == 0 {
			return message.ErrTransferEncodingOn10
		}
		if !chars.FoldEqual(value, "chunked") {
			return refuseCoding(value)
		}
		if tabFollows(value) {
			return message.ErrBadTransferEncoding
		}
		h.Chunked = true
	case message.FieldConnection:
		return p.readConnection(value)
	case message.FieldHost:
		if again {
			return message.ErrSeveralHosts
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
func refuseCoding(value []byte) *message.Error {
	unknown, chunked := false, 0
	for rest, more := value, true; more; {
		var element []byte
		element, rest, more = cutComma(rest)
		switch {
		case !chars.IsToken(element) || chunked > 0:
			return message.ErrBadTransferEncoding
		case chars.FoldEqual(element, "chunked"):
			chunked++
		default:
			unknown = true
		}
	}
	if unknown {
		return message.ErrTransferCoding
	}
	return message.ErrBadTransferEncoding
}

// cutComma splits a list at its first comma and trims the element before it.
func cutComma(list []byte) (element, rest []byte, more bool) {
	for i, c := range list {
		if c == ',' {
			return chars.Trim(list[:i]), list[i+1:], true
		}
	}
	return chars.Trim(list), nil, false
}

// readConnection takes in the options of a Connection field.
func (p *progress) readConnection(value []byte) *message.Error {
	// Nearly all there is in practice.
	switch {
	case chars.FoldEqual(value, "keep-alive"):
		p.connectionKeepAlive = true
		return nil
	case chars.FoldEqual(value, "close"):
		p.connectionClose = true
		return nil
	}
	for rest, more := value, true; more; {
		var option []byte
		option, rest, more = cutComma(rest)
		switch {
		case len(option) == 0:
		case !chars.IsToken(option):
			return message.ErrBadConnection
		case chars.FoldEqual(option, "close"):
			p.connectionClose = true
		case chars.FoldEqual(option, "keep-alive"):
			p.connectionKeepAlive = true
		case chars.FoldEqual(option, "upgrade"):
			p.connectionUpgrade = true
		default:
			if p.nominated++; p.nominated > maxConnectionOptions {
				return message.ErrBadConnection
			}
		}
	}
	return nil
}

// finish draws the conclusions that need all fields.
func (p *progress) finish(h *message.Head) *message.Error {
	if h.Chunked && h.ContentLength >= 0 {
		return message.ErrLengthAndEncoding
	}
	if h.Minor == 0 {
		h.KeepAlive = p.connectionKeepAlive && !p.connectionClose
	} else {
		h.KeepAlive = !p.connectionClose
		if p.connectionUpgrade {
			h.Upgrade = h.Value(message.FieldUpgrade)
		}
	}
	if p.nominated > 0 {
		markNominated(h)
	}
	return nil
}

// markNominated makes the fields that Connection names hop-by-hop, except those
// with an identity: else a client could have the proxy drop what proxies before
// it have added.
func markNominated(h *message.Head) {
	for i := range h.Fields {
		if h.Fields[i].ID != message.FieldConnection {
			continue
		}
		for rest, more := h.Fields[i].Value, true; more; {
			var option []byte
			option, rest, more = cutComma(rest)
			for j := range h.Fields {
				f := &h.Fields[j]
				if f.ID == message.FieldOther && chars.EqualTokens(f.Name, option) {
					f.HopByHop = true
				}
			}
		}
	}
}
