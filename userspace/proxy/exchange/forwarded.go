package exchange

import (
	"bytes"
	"net/netip"

	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/message/chars"
)

// forwardedElement is what one proxy said in Forwarded (RFC 7239 section 4) of the request
// that it got. A part that is missing, or not valid, is zero.
type forwardedElement struct {
	client netip.Addr // for; zero also if hidden ("unknown", "_name")
	proto  []byte
	host   []byte
}

// readForwarded reads the Forwarded fields from the last element, the nearest proxy's, on.
func (o *origin) readForwarded(r *message.Request, trusted config.Prefixes) {
	var elements [maxHops]forwardedElement
	n := 0
	for i := range r.Fields {
		if r.Fields[i].ID != message.FieldForwarded {
			continue
		}
		for rest := r.Fields[i].Value; ; {
			var e forwardedElement
			var more, ok bool
			if e, rest, more, ok = nextForwarded(rest); !ok {
				n = 0 // nothing left of a fault can be told apart
				break
			}
			if n == len(elements) {
				n = 0 // only the last ones count
			}
			elements[n] = e
			if n++; !more {
				break
			}
		}
	}
	for n > 0 {
		n--
		e := &elements[n]
		told := false
		if o.secure, told = readScheme(e.proto, o.secure); told {
			o.port = schemePort(o.secure)
		}
		if message.IsAuthority(e.host) {
			o.host = e.host
			if port := message.AuthorityPort(e.host); port != 0 {
				o.port = port
			}
		}
		if !e.client.IsValid() || !o.believe(e.client, trusted) {
			return
		}
	}
}

// nextForwarded reads one element, up to a comma or the end: name=value pairs between
// semicolons, values as tokens or quoted strings.
func nextForwarded(s []byte) (e forwardedElement, rest []byte, more, ok bool) {
	var seen [3]bool
	for {
		s = trimLeft(s)
		if len(s) == 0 {
			return e, nil, false, true
		}
		if s[0] != ';' && s[0] != ',' {
			name, value, after, ok := nextPair(s)
			if !ok {
				return e, nil, false, false
			}
			for i, known := range [...]string{"for", "proto", "host"} {
				if !chars.EqualFold(name, known) {
					continue
				}
				if seen[i] {
					return e, nil, false, false
				}
				seen[i] = true
				switch i {
				case 0:
					e.client = forwardedNode(value)
				case 1:
					e.proto = value
				case 2:
					e.host = value
				}
			}
			if s = trimLeft(after); len(s) == 0 {
				return e, nil, false, true
			}
		}
		switch s[0] {
		case ',':
			return e, s[1:], true, true
		case ';':
			s = s[1:]
		default:
			return e, nil, false, false
		}
	}
}

// nextPair reads token "=" ( token / quoted-string ). A quoted string with escapes, which
// no address, host or scheme needs, has the value nil.
func nextPair(s []byte) (name, value, rest []byte, ok bool) {
	n := tokenLen(s)
	if n == 0 || n == len(s) || s[n] != '=' {
		return nil, nil, nil, false
	}
	name, s = s[:n], s[n+1:]
	if len(s) == 0 || s[0] != '"' {
		n = tokenLen(s)
		return name, s[:n], s[n:], n > 0
	}
	escaped := false
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			escaped = true
			i++
		case '"':
			if escaped {
				return name, nil, s[i+1:], true
			}
			return name, s[1:i], s[i+1:], true
		}
	}
	return nil, nil, nil, false
}

// forwardedNode reads a node identifier (section 6): IPv6 only in brackets.
func forwardedNode(s []byte) netip.Addr {
	if len(s) > 0 && s[0] != '[' && bytes.Count(s, []byte(":")) > 1 {
		return netip.Addr{}
	}
	a, _ := hopAddress(s)
	return a
}

func trimLeft(s []byte) []byte { return bytes.TrimLeft(s, " \t") }

// tokenLen returns how many bytes at the beginning of s are those of a token (RFC 9110
// section 5.6.2).
func tokenLen(s []byte) int {
	for i, c := range s {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0:
		default:
			return i
		}
	}
	return len(s)
}
