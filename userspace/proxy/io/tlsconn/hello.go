package tlsconn

import "encoding/binary"

// HelloState is how far the beginning of a connection has been understood.
type HelloState uint8

const (
	HelloPartial HelloState = iota // more must come
	HelloWhole                     // the name is known; it may be ""
	HelloInvalid                   // not a ClientHello that we understand: crypto/tls says why
)

// MaxHello bounds the ClientHello that is looked into, in bytes. Browsers send less than 2 KiB.
const MaxHello = 16 << 10

// ServerName finds the server name of a ClientHello at the beginning of a connection (RFC
// 8446 section 4.1.2, RFC 6066 section 3), in lower case. It reads no further than it must
// and takes nothing for granted: whatever is not as it should be leaves the connection to
// crypto/tls, which never passes it on.
func ServerName(b []byte) (name string, state HelloState) {
	hello, state := helloMessage(b)
	if state != HelloWhole {
		return "", state
	}
	r := reader{hello, true}
	r.skip(2 + 32) // version, random
	r.vector8()    // session id
	r.vector16()   // cipher suites
	r.vector8()    // compression methods
	if r.ok && len(r.b) == 0 {
		return "", HelloWhole // no extensions
	}
	extensions := reader{r.vector16(), r.ok}
	if len(r.b) > 0 {
		return "", HelloInvalid
	}
	for extensions.ok && len(extensions.b) > 0 {
		kind := extensions.uint16()
		content := extensions.vector16()
		if kind != 0 || !extensions.ok {
			continue
		}
		return hostName(content)
	}
	if !extensions.ok {
		return "", HelloInvalid
	}
	return "", HelloWhole
}

// helloMessage gathers the ClientHello from its records. Nothing is copied before all of it is
// there, so that many small records, looked at again with each of them, cost little.
func helloMessage(b []byte) ([]byte, HelloState) {
	var head [4]byte
	have, size := 0, -1 // bytes of the message, and how many it has
	for rest := b; ; {
		if len(rest) > 0 && rest[0] != 22 || len(rest) > 1 && rest[1] != 3 {
			return nil, HelloInvalid // no handshake record of SSL 3 or later
		}
		if len(rest) < 5 {
			return nil, partial(b)
		}
		n := int(binary.BigEndian.Uint16(rest[3:]))
		if n == 0 || n > 16<<10 {
			return nil, HelloInvalid
		}
		body := rest[5:min(len(rest), 5+n)]
		if have < len(head) {
			copy(head[have:], body)
		}
		have += len(body)
		if size < 0 && have >= len(head) {
			size = int(head[1])<<16 | int(head[2])<<8 | int(head[3])
			if head[0] != 1 || size > MaxHello {
				return nil, HelloInvalid
			}
		}
		if size >= 0 && have-len(head) >= size {
			return joinRecords(b, have)[4 : 4+size], HelloWhole
		}
		if len(rest) < 5+n {
			return nil, partial(b)
		}
		rest = rest[5+n:]
	}
}

// joinRecords returns the first bytes of what is in records.
func joinRecords(b []byte, size int) []byte {
	if n := int(binary.BigEndian.Uint16(b[3:])); n >= size {
		return b[5 : 5+size]
	}
	message := make([]byte, 0, size)
	for len(message) < size {
		n := min(len(b)-5, int(binary.BigEndian.Uint16(b[3:])), size-len(message))
		message = append(message, b[5:5+n]...)
		b = b[5+n:]
	}
	return message
}

func partial(b []byte) HelloState {
	if len(b) >= MaxHello {
		return HelloInvalid
	}
	return HelloPartial
}

// hostName reads the extension server_name, which has one name.
func hostName(b []byte) (string, HelloState) {
	outer := reader{b, true}
	list := reader{outer.vector16(), outer.ok}
	kind := list.uint8()
	name := list.vector16()
	if !list.ok || len(outer.b) > 0 || len(list.b) > 0 || kind != 0 || len(name) == 0 || len(name) > 255 {
		return "", HelloInvalid
	}
	// RFC 6066 has no dot at the end, which browsers send for https://host./ all the same.
	if n := len(name) - 1; n > 0 && name[n] == '.' {
		name = name[:n]
	}
	lower := make([]byte, len(name))
	for i, c := range name {
		switch {
		case c >= 'A' && c <= 'Z':
			c |= 0x20
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		case c == '.' && i > 0 && i < len(name)-1:
		default:
			return "", HelloInvalid
		}
		lower[i] = c
	}
	return string(lower), HelloWhole
}

// reader takes a message apart; once it is not ok it stays so, and returns nothing.
type reader struct {
	b  []byte
	ok bool
}

func (r *reader) skip(n int) []byte {
	if !r.ok || n > len(r.b) {
		r.b, r.ok = nil, false
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) uint8() int {
	if p := r.skip(1); p != nil {
		return int(p[0])
	}
	return 0
}

func (r *reader) uint16() int {
	if p := r.skip(2); p != nil {
		return int(p[0])<<8 | int(p[1])
	}
	return 0
}

func (r *reader) vector8() []byte  { return r.skip(r.uint8()) }
func (r *reader) vector16() []byte { return r.skip(r.uint16()) }
