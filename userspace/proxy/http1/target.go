package http1

// maxHost is the longest host accepted, in bytes (RFC 1035 section 2.3.4).
const maxHost = 255

var (
	slash    = []byte("/")
	asterisk = []byte("*")
)

// readTarget checks the form of the target (RFC 9112 section 3.2). On entry
// Path is the target up to a '?', on return the path proper.
func (r *Request) readTarget() *Error {
	switch {
	case r.MethodID == MethodConnect:
		return ErrConnect
	case r.Target[0] == '/':
		return nil
	case r.Target[0] == '*':
		if len(r.Target) != 1 || r.MethodID != MethodOptions {
			return ErrBadTarget
		}
		return nil
	}
	return r.readAbsolute()
}

// readAbsolute takes scheme and authority off a target in absolute form.
func (r *Request) readAbsolute() *Error {
	var scheme int
	switch {
	case len(r.Path) > 7 && foldEqual(r.Path[:4], "http") && string(r.Path[4:7]) == "://":
		scheme = 7
	case len(r.Path) > 8 && foldEqual(r.Path[:5], "https") && string(r.Path[5:8]) == "://":
		scheme = 8
		r.Secure = true
	default:
		return ErrBadTarget
	}
	r.Absolute = true
	rest := r.Path[scheme:]
	end := 0
	for end < len(rest) && rest[end] != '/' {
		end++
	}
	r.Authority = rest[:end]
	r.Path = rest[end:]
	if len(r.Path) == 0 {
		r.Path = slash
		if r.MethodID == MethodOptions && r.Query == nil {
			r.Path = asterisk // RFC 9112 section 3.2.4
		}
	}
	// The scan of the line has seen the "//" of the scheme.
	r.PathNeedsNormalise = needsNormalise(r.Path)
	return nil
}

// readAuthority checks uri-host [ ":" port ]. host is in lower case: a view of
// authority if it was so already, else of r.lowerHost. An empty authority is
// valid, and has an empty host.
func (r *Request) readAuthority(authority []byte) (host []byte, port uint16, ok bool) {
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
		class := classes[c]
		if class&(classHost|classUpper) == 0 {
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
	if seen&classUpper != 0 {
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
		if classes[c]&classUpper != 0 {
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
		for i < len(s) && classes[s[i]]&classHex != 0 {
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
		for len(s) > 0 && classes[s[0]]&classDigit != 0 && digits < 4 {
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
