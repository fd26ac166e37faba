// Package compression names the content codings in which responses can be sent, and reads
// what agents, Ingresses and clients say of them.
package compression

import (
	"fmt"
	"slices"
	"strings"
)

// Encoding is a content coding (RFC 9110 section 8.4.1).
type Encoding uint8

const (
	Identity Encoding = iota
	Gzip              // RFC 1952
	Brotli            // RFC 7932
	Zstd              // RFC 8878

	Encodings = iota
)

var tokens = [Encodings]string{Identity: "identity", Gzip: "gzip", Brotli: "br", Zstd: "zstd"}

// String returns the token by which HTTP knows the coding.
func (e Encoding) String() string { return tokens[e] }

// ParseEncodings reads tokens in their order of preference.
func ParseEncodings(names []string) (list []Encoding, err error) {
	for _, name := range names {
		i := slices.Index(tokens[1:], name)
		if i < 0 {
			return nil, fmt.Errorf("content coding %q: there are gzip, br and zstd", name)
		}
		e := Encoding(i + 1)
		if slices.Contains(list, e) {
			return nil, fmt.Errorf("content coding %q stands there twice", name)
		}
		list = append(list, e)
	}
	return list, nil
}

// ParseType checks a media type, such as "text/html", or a whole family, such as "text/*"
// (RFC 9110 section 8.3.1), and returns it in lower case.
func ParseType(text string) (string, error) {
	lower := strings.ToLower(text)
	family, rest, found := strings.Cut(lower, "/")
	if !found || !isToken(family) || family == "*" || !isToken(rest) {
		return "", fmt.Errorf("media type %q: want one like text/html or text/*", text)
	}
	return lower, nil
}

func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", c))
	})
}

// DefaultTypes are media types that are worth compressing and are not compressed by
// themselves. text/event-stream is left out, whose events are to arrive at once.
var DefaultTypes = []string{
	"application/atom+xml", "application/geo+json", "application/javascript", "application/json", "application/ld+json",
	"application/manifest+json", "application/problem+json", "application/rss+xml", "application/vnd.api+json",
	"application/vnd.ms-fontobject", "application/wasm", "application/x-javascript", "application/xhtml+xml", "application/xml",
	"font/opentype", "font/otf", "font/ttf", "image/bmp", "image/svg+xml", "image/x-icon", "text/cache-manifest", "text/calendar",
	"text/css", "text/csv", "text/html", "text/javascript", "text/markdown", "text/plain", "text/vcard", "text/vtt", "text/xml",
}

// DefaultMinBytes is below what a body gains less than it costs.
const DefaultMinBytes = 1024
