package http1

import (
	"math/bits"
	"time"
)

// AppendRequestLine appends "METHOD path[?query] HTTP/1.1". A query of nil
// means none; an empty one keeps the '?'.
func AppendRequestLine(dst, method, path, query []byte) []byte {
	dst = append(dst, method...)
	dst = append(dst, ' ')
	dst = append(dst, path...)
	if query != nil {
		dst = append(dst, '?')
		dst = append(dst, query...)
	}
	return append(dst, " HTTP/1.1\r\n"...)
}

// AppendField appends one field line.
func AppendField(dst []byte, name string, value []byte) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

// AppendFieldString appends one field line.
func AppendFieldString(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

// AppendFieldUint appends one field line with a decimal value.
func AppendFieldUint(dst []byte, name string, value uint64) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = AppendUint(dst, value)
	return append(dst, "\r\n"...)
}

// AppendEndToEnd appends the field lines that go on to the next hop, in their
// order and with their names as received. It leaves out hop-by-hop fields,
// Content-Length, and those in skip. The caller appends the framing of the
// message that it sends, and the empty line.
func (h *head) AppendEndToEnd(dst []byte, skip FieldSet) []byte {
	skip |= 1 << FieldContentLength
	for i := range h.Fields {
		f := &h.Fields[i]
		if f.HopByHop || skip.Has(f.ID) {
			continue
		}
		dst = append(dst, f.Name...)
		dst = append(dst, ": "...)
		dst = append(dst, f.Value...)
		dst = append(dst, "\r\n"...)
	}
	return dst
}

// AppendUint appends n in decimal.
func AppendUint(dst []byte, n uint64) []byte {
	var digits [20]byte
	i := len(digits)
	for {
		i--
		digits[i] = byte('0' + n%10)
		n /= 10
		if n == 0 {
			return append(dst, digits[i:]...)
		}
	}
}

// MaxChunkHeader is the largest number of bytes that AppendChunkHeader appends.
const MaxChunkHeader = 18

// AppendChunkHeader appends the line before n bytes of chunk data; append
// ChunkEnd after them. n must not be 0, which would end the body.
func AppendChunkHeader(dst []byte, n int) []byte {
	const digits = "0123456789abcdef"
	for shift := (bits.Len64(uint64(n)|1) - 1) &^ 3; shift >= 0; shift -= 4 {
		dst = append(dst, digits[uint64(n)>>shift&0xf])
	}
	return append(dst, "\r\n"...)
}

const (
	// ChunkEnd stands after the data of each chunk.
	ChunkEnd = "\r\n"
	// LastChunk ends a chunked body without trailers.
	LastChunk = "0\r\n\r\n"
	// Continue is the interim response that an Expect: 100-continue waits for.
	Continue = "HTTP/1.1 100 Continue\r\n\r\n"
)

// AppendLastChunk ends a chunked body with these trailers, maybe none.
func AppendLastChunk(dst []byte, trailers []Field) []byte {
	dst = append(dst, "0\r\n"...)
	for i := range trailers {
		dst = append(dst, trailers[i].Name...)
		dst = append(dst, ": "...)
		dst = append(dst, trailers[i].Value...)
		dst = append(dst, "\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// DateSize is the length of a date as AppendDate writes it, in bytes.
const DateSize = len("Sun, 06 Nov 1994 08:49:37 GMT")

// AppendDate appends t as an IMF-fixdate (RFC 9110 section 5.6.7). It takes
// about 100 ns: callers keep the result for as long as the second lasts.
func AppendDate(dst []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(dst, "Mon, 02 Jan 2006 15:04:05 GMT")
}
