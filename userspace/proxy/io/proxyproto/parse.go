package proxyproto

import (
	"bytes"
	"slices"
)

// MaxSize bounds a header of either version, in bytes. Version 2 allows 64 KiB, but what
// senders put behind the addresses (TLS details, ids) takes a few hundred; a peer that
// announces more is not waited for.
const MaxSize = 4096

// Error is a fault in a header.
type Error struct {
	Token string // stable, for logs and metrics
	text  string
}

func (e *Error) Error() string { return "PROXY header: " + e.text }

// What can be wrong with a header.
var (
	ErrMissing   = &Error{"missing", "the connection begins with something else; the sender must be told to send one (v1 or v2)"}
	ErrVersion   = &Error{"version", "version or command is none that is known"}
	ErrSyntax    = &Error{"syntax", "not of the specified form"}
	ErrAddress   = &Error{"address", "not two addresses of the announced family and their ports"}
	ErrTransport = &Error{"transport", "the announced client has no TCP connection (UDP or a unix socket)"}
	ErrTooLong   = &Error{"too_long", "longer than allowed"}
	ErrTLV       = &Error{"tlv", "what follows the addresses is not a list of type, length and value"}
	ErrChecksum  = &Error{"checksum", "the checksum does not fit"}
)

// Errors lists them all.
var Errors = [...]*Error{ErrMissing, ErrVersion, ErrSyntax, ErrAddress, ErrTransport, ErrTooLong, ErrTLV, ErrChecksum}

// Index returns the error's place in Errors.
func (e *Error) Index() int { return slices.Index(Errors[:], e) }

// Parse reads the header at the beginning of b, which is what a connection has received so
// far. It returns the header's length in bytes; 0 and no error mean that more is needed. An
// error is an *Error, and is returned as soon as what is there cannot become a header.
func Parse(b []byte) (h Header, n int, err error) {
	var fault *Error
	switch {
	case len(b) == 0:
		return h, 0, nil
	case b[0] == signature[0]:
		h, n, fault = parseBinary(b)
	default:
		h, n, fault = parseText(b)
	}
	if fault != nil {
		return Header{}, 0, fault // not through a nil *Error in an interface
	}
	return h, n, nil
}

// prefixes reports whether one of a and b begins with the other.
func prefixes(a []byte, b string) bool {
	n := min(len(a), len(b))
	return bytes.Equal(a[:n], []byte(b[:n]))
}
