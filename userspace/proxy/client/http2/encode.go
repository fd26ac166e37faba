package http2

import (
	"strconv"

	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// Response heads are encoded without HPACK's dynamic table (RFC 7541 section 6.2.2): names
// by their number in the static table, values as they are. That needs neither memory per
// connection nor a search per field, and the client cannot make it hold anything.

// staticNames maps the names that pods send most to their number in HPACK's static table
// (RFC 7541 appendix A).
var staticNames = map[string]byte{
	"accept-ranges": 18, "access-control-allow-origin": 20, "age": 21, "allow": 22, "cache-control": 24,
	"content-disposition": 25, "content-encoding": 26, "content-language": 27, "content-length": 28,
	"content-location": 29, "content-range": 30, "content-type": 31, "date": 33, "etag": 34, "expires": 36,
	"last-modified": 44, "link": 45, "location": 46, "retry-after": 53, "server": 54, "set-cookie": 55,
	"strict-transport-security": 56, "transfer-encoding": 57, "vary": 59, "via": 60, "www-authenticate": 61,
}

// staticStatus holds the statuses that have a number of their own.
var staticStatus = map[int]byte{200: 8, 204: 9, 206: 10, 304: 11, 400: 12, 404: 13, 500: 14}

const statusName = 8 // ":status" in the static table

// appendInt appends n with a prefix of bits (RFC 7541 section 5.1); first holds the bits
// before it.
func appendInt(dst []byte, first byte, bits uint, n int) []byte {
	limit := 1<<bits - 1
	if n < limit {
		return append(dst, first|byte(n))
	}
	dst = append(dst, first|byte(limit))
	for n -= limit; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}

// appendStatus appends ":status".
func appendStatus(dst []byte, status int) []byte {
	if i, ok := staticStatus[status]; ok {
		return append(dst, 0x80|i)
	}
	dst = append(dst, statusName, 3)
	return append(dst, byte('0'+status/100%10), byte('0'+status/10%10), byte('0'+status%10))
}

// appendLowered appends a name that may have upper-case letters as a string.
func appendLowered(dst, name []byte) []byte {
	dst = appendInt(dst, 0, 7, len(name))
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return dst
}

// appendName appends a literal field's name, without indexing.
func appendName(dst, name []byte) []byte {
	var lower [32]byte
	if len(name) <= len(lower) {
		for i, c := range name {
			if 'A' <= c && c <= 'Z' {
				c |= 0x20
			}
			lower[i] = c
		}
		if i, ok := staticNames[string(lower[:len(name)])]; ok {
			return appendInt(dst, 0, 4, int(i))
		}
	}
	return appendLowered(append(dst, 0), name)
}

// appendField appends a field; name may be in any case.
func appendField(dst, name, value []byte) []byte {
	dst = appendName(dst, name)
	dst = appendInt(dst, 0, 7, len(value))
	return append(dst, value...)
}

// appendAdded appends fields that the proxy adds; their names may be in any case.
func appendAdded(dst []byte, fields []message.Added) []byte {
	for i := range fields {
		dst = appendField(dst, []byte(fields[i].Name), fields[i].Value)
	}
	return dst
}

// appendLength appends Content-Length.
func appendLength(dst []byte, n int64) []byte {
	var digits [20]byte
	d := strconv.AppendUint(digits[:0], uint64(n), 10)
	dst = appendInt(dst, 0, 4, int(staticNames["content-length"]))
	dst = appendInt(dst, 0, 7, len(d))
	return append(dst, d...)
}

// appendEndToEnd appends the fields of a pod's response that go on to the client, without
// those in skip.
func appendEndToEnd(dst []byte, fields []message.Field, skip message.FieldSet) []byte {
	for i := range fields {
		f := &fields[i]
		if !f.HopByHop && !skip.Has(f.ID) {
			dst = appendField(dst, f.Name, f.Value)
		}
	}
	return dst
}
