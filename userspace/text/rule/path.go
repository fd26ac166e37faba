package rule

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxPath is the length in bytes of the longest path; a request head that holds a longer
// one is refused anyway.
const maxPath = 8 << 10

// Path returns the path of a rule as the proxy compares it with a request's: every escape
// decoded once. What a request's path can never be after it is normalised is refused.
func Path(path string) (string, error) {
	if !strings.HasPrefix(path, "/") {
		return "", fmt.Errorf("path %q must begin with /", path)
	}
	if len(path) > maxPath {
		return "", fmt.Errorf("path of %d bytes is longer than %d", len(path), maxPath)
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch {
		case c == '%':
			if i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
				return "", fmt.Errorf("path %q has a %% that no two hexadecimal digits follow: write %%25 for a percent sign", path)
			}
			c = unhex(path[i+1])<<4 | unhex(path[i+2])
			if c == '/' {
				return "", fmt.Errorf("path %q must not contain %%2F", path)
			}
			i += 2
		case c == '?' || c == '#':
			return "", fmt.Errorf("path %q contains %q, where a path ends: queries are not matched; write %%%02X if it is part of the path", path, c, c)
		}
		if c < 0x20 || c == 0x7f {
			return "", fmt.Errorf("path %q contains a control character", path)
		}
		b.WriteByte(c)
	}
	normal := b.String()
	if !utf8.ValidString(normal) {
		return "", fmt.Errorf("path %q is not UTF-8 once its escapes are decoded", path)
	}
	if strings.Contains(normal, "//") || strings.Contains(normal+"/", "/./") || strings.Contains(normal+"/", "/../") {
		return "", fmt.Errorf("path %q has an empty, . or .. segment: requests are matched after such segments are removed", path)
	}
	return normal, nil
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}
