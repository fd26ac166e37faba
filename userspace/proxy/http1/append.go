package http1

import (
	"math/bits"
	"strconv"

	"github.com/kerngate/kerngate/userspace/proxy/message"
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
	dst = strconv.AppendUint(dst, value, 10)
	return append(dst, "\r\n"...)
}

// AppendEndToEnd appends the field lines that go on to the next hop, in their
// order and with their names as received. It leaves out hop-by-hop fields,
// Content-Length, and those in skip. The caller appends the framing of the
// message that it sends, and the empty line.
func AppendEndToEnd(dst []byte, fields []message.Field, skip message.FieldSet) []byte {
	skip |= 1 << message.FieldContentLength
	for i := range fields {
		f := &fields[i]
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
func AppendLastChunk(dst []byte, trailers []message.Field) []byte {
	dst = append(dst, "0\r\n"...)
	for i := range trailers {
		dst = append(dst, trailers[i].Name...)
		dst = append(dst, ": "...)
		dst = append(dst, trailers[i].Value...)
		dst = append(dst, "\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// AppendAdded appends a field line for each field.
func AppendAdded(dst []byte, fields []message.Added) []byte {
	for i := range fields {
		dst = AppendField(dst, fields[i].Name, fields[i].Value)
	}
	return dst
}
