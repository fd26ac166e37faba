package message

import "github.com/kerngate/kerngate/userspace/proxy/message/chars"

// maxHost is the longest host accepted, in bytes (RFC 1035 section 2.3.4).
const maxHost = 255

// IsAuthority reports whether s is host[:port] as Host would have to be, and not empty.
func IsAuthority(s []byte) bool {
	var r Request
	host, _, ok := r.ReadAuthority(s)
	return ok && len(host) > 0
}

// AuthorityPort returns the port of a valid authority, or 0 if there is none.
func AuthorityPort(s []byte) uint16 {
	var r Request
	_, port, _ := r.ReadAuthority(s)
	return port
}

// ReadAuthority checks uri-host [ ":" port ]. host is in lower case: a view of
// authority if it was so already, else of r.lowerHost. An empty authority is
// valid, and has an empty host.
func (r *Request) ReadAuthority(authority []byte) (host []byte, port uint16, ok bool) {
	if len(authority) == 0 {
		return nil, 0, true
	}
	if authority[0] == '[' {
		return r.readLiteral(authority)
	}
	var seen uint8
	end := len(authority)
	before := byte('.')
	for i, c := range authority {
		class := chars.Classes[c]
		if class&(chars.Host|chars.Upper) == 0 {
			end = i
			break
		}
		if c == '.' && before == '.' {
			return nil, 0, false // an empty label
		}
		before = c
		seen |= class
	}
	port, ok = parsePort(authority[end:])
	host = authority[:end]
	if before == '.' && end > 0 {
		host = host[:end-1]
	}
	if !ok || len(host) == 0 || len(host) > maxHost {
		return nil, 0, false
	}
	if seen&chars.Upper != 0 {
		host = r.lower(host)
	}
	return host, port, true
}

// readLiteral checks an authority that begins with an IPv6 literal.
func (r *Request) readLiteral(authority []byte) (host []byte, port uint16, ok bool) {
	end := 1
	for end < len(authority) && authority[end] != ']' {
		end++
	}
	if end == len(authority) || !isIPv6(authority[1:end]) {
		return nil, 0, false
	}
	port, ok = parsePort(authority[end+1:])
	return r.lower(authority[:end+1]), port, ok
}

// lower copies host in lower case. Characters without case that can occur in a
// host and would change by |0x20 ('_' and '[' ']') are left alone.
func (r *Request) lower(host []byte) []byte {
	for i, c := range host {
		if chars.Classes[c]&chars.Upper != 0 {
			c |= 0x20
		}
		r.lowerHost[i] = c
	}
	return r.lowerHost[:len(host)]
}

// parsePort reads nothing, or ":" *DIGIT up to 65535 (RFC 3986 section 3.2.3).
func parsePort(s []byte) (port uint16, ok bool) {
	if len(s) == 0 {
		return 0, true
	}
	if s[0] != ':' || len(s) > 6 {
		return 0, false
	}
	n := 0
	for _, c := range s[1:] {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return uint16(n), n <= 65535
}

// isIPv6 reports whether s is an IPv6 address without a zone.
func isIPv6(s []byte) bool {
	groups, double, i := 0, false, 0
	if len(s) >= 2 && s[0] == ':' {
		if s[1] != ':' {
			return false
		}
		double, i = true, 2
	}
	for i < len(s) {
		start := i
		for i < len(s) && chars.Classes[s[i]]&chars.Hex != 0 {
			i++
		}
		if i < len(s) && s[i] == '.' {
			groups += 2
			return isIPv4(s[start:]) && (groups == 8 && !double || groups < 8 && double)
		}
		if n := i - start; n == 0 || n > 4 {
			return false
		}
		groups++
		if i == len(s) {
			break
		}
		if s[i] != ':' {
			return false
		}
		i++
		if i == len(s) {
			return false // a single colon at the end
		}
		if s[i] == ':' {
			if double {
				return false
			}
			double = true
			i++
		}
	}
	return groups == 8 && !double || groups < 8 && double
}

// isIPv4 reports whether s is four decimal numbers up to 255 without leading zeros.
func isIPv4(s []byte) bool {
	for part := 0; ; part++ {
		n, digits := 0, 0
		for len(s) > 0 && chars.Classes[s[0]]&chars.Digit != 0 && digits < 4 {
			n = n*10 + int(s[0]-'0')
			digits++
			if digits > 1 && n < 10 {
				return false
			}
			s = s[1:]
		}
		if digits == 0 || n > 255 {
			return false
		}
		if part == 3 {
			return len(s) == 0
		}
		if len(s) == 0 || s[0] != '.' {
			return false
		}
		s = s[1:]
	}
}
