// Package tracing follows requests from the client through the proxy to the pod: it reads and
// writes the trace context that they carry, and hands spans to a collector.
package tracing

import "encoding/hex"

// Context says which trace a request belongs to (W3C Trace Context, section 3.2).
type Context struct {
	Trace   [16]byte
	Span    [8]byte
	Sampled bool
}

// length of a traceparent of version 00: version, trace, span and flags in hexadecimal.
const length = 2 + 1 + 32 + 1 + 16 + 1 + 2

// Parse reads the value of a traceparent. It reports false if that is not valid; then the
// trace begins here. Versions that are not known are read as far as 00 goes (section 4.3).
func Parse(v []byte) (c Context, ok bool) {
	if len(v) < length || v[2] != '-' || v[35] != '-' || v[52] != '-' {
		return c, false
	}
	var version, flags [1]byte
	if !decode(version[:], v[:2]) || !decode(c.Trace[:], v[3:35]) || !decode(c.Span[:], v[36:52]) || !decode(flags[:], v[53:55]) {
		return Context{}, false
	}
	switch {
	case version[0] == 0xff, version[0] == 0 && len(v) != length, len(v) > length && v[length] != '-':
		return Context{}, false
	case c.Trace == [16]byte{}, c.Span == [8]byte{}:
		return Context{}, false
	}
	c.Sampled = flags[0]&1 != 0
	return c, true
}

// decode reads hexadecimal digits; only lower case is allowed.
func decode(dst, src []byte) bool {
	for _, c := range src {
		if c >= 'A' && c <= 'F' {
			return false
		}
	}
	_, err := hex.Decode(dst, src)
	return err == nil
}

// Append appends the value of a traceparent.
func (c *Context) Append(dst []byte) []byte {
	dst = append(dst, "00-"...)
	dst = hex.AppendEncode(dst, c.Trace[:])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, c.Span[:])
	if c.Sampled {
		return append(dst, "-01"...)
	}
	return append(dst, "-00"...)
}
