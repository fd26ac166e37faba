package route

// NeedsNormalise reports whether path may differ from its normalised form. It
// may say so without need for a segment that only begins with a dot.
func NeedsNormalise(path []byte) bool {
	for i, c := range path {
		if c == '%' || c == '\\' || c == '/' && i+1 < len(path) && (path[i+1] == '/' || path[i+1] == '.') {
			return true
		}
	}
	return false
}

// PathError says why a path cannot be matched.
type PathError struct {
	Reason string // a stable token for logs and metrics
	Text   string // the sentence for people
}

// Error implements error.
func (e *PathError) Error() string { return e.Text }

// Why a path cannot be matched.
var (
	ErrBadEscape   = &PathError{"bad_path_escape", "path has an invalid percent-escape or %00"}
	ErrPathEscapes = &PathError{"path_above_root", "path leads above its root"}
	ErrPathControl = &PathError{"control_in_path", "path has an escaped control character"}
	// ErrPathAmbiguous: what rules match might not be what the pod reads.
	ErrPathAmbiguous = &PathError{"ambiguous_path", "path has dot segments beside //, an escaped slash or backslash, or ;, or a backslash that is not escaped: readers differ in what it means"}
)

// NormalisePath appends to dst the form of raw that routes are matched with:
// every %XX is decoded once, repeated slashes become one, and the segments "."
// and ".." are resolved (RFC 3986 section 5.2.4), also when they were encoded.
// raw begins with '/', or is "*".
//
// An invalid escape and %00 give ErrBadEscape, other control characters
// ErrPathControl. A path that leads above its root gives ErrPathEscapes: a backend
// might resolve it where we would not. A path that two readers can resolve in two
// ways gives ErrPathAmbiguous: dot segments beside an empty segment, a backslash or
// an encoded slash, dot segments with a ';' behind them, and any backslash that is
// not encoded. On an error dst is returned as it was.
//
// The result is for matching only. What is forwarded is what ResolvePath returns, so
// that a backend sees the %2F that its client meant.
func NormalisePath(dst, raw []byte) ([]byte, error) {
	base := len(dst)
	segment := base // where the one that is being read begins, if backslashes end segments, too
	dots, odd := false, false
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		escaped := c == '%'
		if escaped {
			if i+2 >= len(raw) || !isHex(raw[i+1]) || !isHex(raw[i+2]) {
				return dst[:base], ErrBadEscape
			}
			c = hexValue(raw[i+1])<<4 | hexValue(raw[i+2])
			switch {
			case c == 0:
				return dst[:base], ErrBadEscape
			case c < 0x20 || c == 0x7f:
				return dst[:base], ErrPathControl
			}
			i += 2
		}
		switch c {
		case '/':
			empty := len(dst) == segment && len(dst) > base
			dots = dots || isDots(dst[segment:])
			odd = odd || empty || escaped
			var ok bool
			if dst, ok = closeSegment(dst, base); !ok {
				return dst[:base], ErrPathEscapes
			}
			if n := len(dst); n == base || dst[n-1] != '/' {
				dst = append(dst, '/')
			}
			segment = len(dst)
			continue
		case '\\':
			if !escaped {
				return dst[:base], ErrPathAmbiguous
			}
			dots, odd = dots || isDots(dst[segment:]), true
			segment = len(dst) + 1
		case ';':
			if isDots(dst[segment:]) {
				return dst[:base], ErrPathAmbiguous
			}
		}
		dst = append(dst, c)
	}
	if odd && (dots || isDots(dst[segment:])) {
		return dst[:base], ErrPathAmbiguous
	}
	dst, ok := closeSegment(dst, base)
	if !ok {
		return dst[:base], ErrPathEscapes
	}
	return dst, nil
}

// isDots reports whether a segment is "." or "..".
func isDots(segment []byte) bool {
	return len(segment) == 1 && segment[0] == '.' || len(segment) == 2 && segment[0] == '.' && segment[1] == '.'
}

// closeSegment resolves the last segment of dst[base:] if it is "." or "..".
// What is left then ends with '/'.
func closeSegment(dst []byte, base int) ([]byte, bool) {
	n := len(dst)
	switch {
	case n-base >= 2 && dst[n-1] == '.' && dst[n-2] == '/':
		return dst[:n-1], true
	case n-base >= 3 && dst[n-1] == '.' && dst[n-2] == '.' && dst[n-3] == '/':
		n -= 3 // at the slash before ".."
		if n == base {
			return dst, false
		}
		for n--; dst[n] != '/'; n-- {
		}
		return dst[:n+1], true
	}
	return dst, true
}

// ResolvePath returns what is forwarded of a path that has a normal form: the path as
// received, but without dot segments, which a backend may resolve or not, and with one slash
// at the beginning, since "//a/b" is the path /b of the host a to whoever resolves it as a
// reference (RFC 3986 section 4.2). It is raw or a part of it, or is appended to dst.
func ResolvePath(dst, raw []byte) []byte {
	for len(raw) > 1 && raw[0] == '/' && raw[1] == '/' {
		raw = raw[1:]
	}
	if !hasDots(raw) {
		return raw
	}
	base := len(dst)
	for rest := raw; len(rest) > 0; {
		segment := nextSegment(rest)
		switch dots := dotsOf(segment[1:]); {
		case dots == 0:
			dst = append(dst, segment...)
		case dots == 2:
			n := len(dst)
			for n > base && dst[n-1] != '/' {
				n--
			}
			dst = dst[:max(base, n-1)]
			fallthrough
		default:
			if len(segment) == len(rest) {
				dst = append(dst, '/')
			}
		}
		rest = rest[len(segment):]
	}
	return dst[base:]
}

// nextSegment returns the first segment of a path with the slash before it.
func nextSegment(path []byte) []byte {
	for i := 1; i < len(path); i++ {
		if path[i] == '/' {
			return path[:i]
		}
	}
	return path
}

func hasDots(path []byte) bool {
	if len(path) == 0 || path[0] != '/' {
		return false
	}
	for rest := path; len(rest) > 0; {
		segment := nextSegment(rest)
		if dotsOf(segment[1:]) > 0 {
			return true
		}
		rest = rest[len(segment):]
	}
	return false
}

// dotsOf returns of how many dots a segment consists, 0 if it is no dot segment.
func dotsOf(segment []byte) (n int) {
	for len(segment) > 0 {
		switch {
		case segment[0] == '.':
			segment = segment[1:]
		case len(segment) >= 3 && segment[0] == '%' && segment[1] == '2' && segment[2]|0x20 == 'e':
			segment = segment[3:]
		default:
			return 0
		}
		if n++; n > 2 {
			return 0
		}
	}
	return n
}

// isHex reports whether c is a hexadecimal digit.
func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }

// hexValue returns the value of a hexadecimal digit.
func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&0xf + 9
}
