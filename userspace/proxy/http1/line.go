package http1

import (
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/message/chars"
)

// parseField reads the field line at the beginning of buf, size bytes with its
// line end. underscore reports whether there is one in the name. errMore means
// that the line is not complete and not yet known to be wrong. The results are
// plain values, not a struct, so that they stay in registers.
func parseField(buf []byte) (name, value []byte, size int, underscore bool, err *message.Error) {
	var seen uint8
	colon := len(buf)
	for i, c := range buf {
		class := chars.Classes[c]
		if class&chars.Token == 0 {
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
	end := chars.ControlAt(buf, start)
	for end < len(buf) && buf[end] == '\t' {
		end = chars.ControlAt(buf, end+1)
	}
	if end+1 >= len(buf) || buf[end] != '\r' || buf[end+1] != '\n' {
		return nil, nil, 0, false, badValue(buf, end)
	}
	size = end + 2
	for end > start && (buf[end-1] == ' ' || buf[end-1] == '\t') {
		end--
	}
	return buf[:colon], buf[start:end], size, seen&chars.Underscore != 0, nil
}

// badName says what is wrong with a line whose name is empty or ends at buf[i]
// without a colon.
func badName(buf []byte, i int) *message.Error {
	switch buf[i] {
	case ' ', '\t':
		if i == 0 {
			return message.ErrObsFold
		}
	case '\n':
		return message.ErrBareLF
	case '\r':
		if i+1 == len(buf) {
			return errMore
		}
		if buf[i+1] != '\n' {
			return message.ErrBareCR
		}
	}
	return message.ErrBadFieldName
}

// badValue says what is wrong with a value that ends at buf[i], maybe behind
// the bytes there are, but not with CRLF.
func badValue(buf []byte, i int) *message.Error {
	switch {
	case i == len(buf):
		return errMore
	case buf[i] == '\n':
		return message.ErrBareLF
	case buf[i] != '\r':
		return message.ErrBadFieldValue
	case i+1 == len(buf):
		return errMore
	}
	return message.ErrBareCR
}

// errMore is what the parsers say to each other when the bytes end too early.
var errMore = new(message.Error)
