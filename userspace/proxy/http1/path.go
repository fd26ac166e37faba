package http1

// needsNormalise reports whether path may differ from its normalised form. It
// may say so without need for a segment that only begins with a dot.
func needsNormalise(path []byte) bool {
	for i, c := range path {
		if c == '%' || c == '/' && i+1 < len(path) && (path[i+1] == '/' || path[i+1] == '.') {
			return true
		}
	}
	return false
}

// NormalisePath appends to dst the form of raw that routes are matched with:
// every %XX is decoded once, repeated slashes become one, and the segments "."
// and ".." are resolved (RFC 3986 section 5.2.4), also when they were encoded.
// raw begins with '/', or is "*".
//
// An invalid escape and %00 give ErrBadEscape; a path that leads above its root
// gives ErrPathEscapes: a backend might resolve it where we would not. On an
// error dst is returned as it was.
//
// The result is for matching only. What is forwarded is the path as received, so
// that a backend sees the %2F that its client meant.
func NormalisePath(dst, raw []byte) ([]byte, error) {
	base := len(dst)
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '%' {
			if i+2 >= len(raw) || classes[raw[i+1]]&classes[raw[i+2]]&classHex == 0 {
				return dst[:base], ErrBadEscape
			}
			c = hexValues[raw[i+1]]<<4 | hexValues[raw[i+2]]
			if c == 0 {
				return dst[:base], ErrBadEscape
			}
			i += 2
		}
		if c == '/' {
			var ok bool
			if dst, ok = closeSegment(dst, base); !ok {
				return dst[:base], ErrPathEscapes
			}
			if n := len(dst); n > base && dst[n-1] == '/' {
				continue
			}
		}
		dst = append(dst, c)
	}
	dst, ok := closeSegment(dst, base)
	if !ok {
		return dst[:base], ErrPathEscapes
	}
	return dst, nil
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
