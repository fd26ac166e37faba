package rule

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// HostName reports whether a text is a host as rules have it: a DNS name in lower case, or one
// with "*." before it.
func HostName(s string) bool {
	s = strings.TrimPrefix(s, "*.")
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(c rune) bool { return !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') }) {
			return false
		}
	}
	return true
}

// Authority reads where requests of the proxy's own go: a name in lower case, or an address,
// with or without a port. The port is 0 if there is none.
func Authority(text string) (host string, port int, err error) {
	host = text
	if i := strings.LastIndexByte(text, ':'); i >= 0 && !strings.HasSuffix(text, "]") {
		if port, err = strconv.Atoi(text[i+1:]); err != nil || port < 1 || port > 65535 {
			return "", 0, fmt.Errorf("%q has a port that is not 1 to 65535", Shorten(text))
		}
		host = text[:i]
	}
	if !HostName(host) && !isAddress(host) || strings.HasPrefix(host, "*") {
		return "", 0, fmt.Errorf("%q is no host: it can be a name or an address, with or without a port", Shorten(text))
	}
	return host, port, nil
}

// isAddress reports whether the host of a URL is an address: in brackets if it is IPv6.
func isAddress(host string) bool {
	inner, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		var closed bool
		if inner, closed = strings.CutSuffix(inner, "]"); !closed {
			return false
		}
	}
	a, err := netip.ParseAddr(inner)
	return err == nil && a.Zone() == "" && a.Is6() == bracketed
}

// Origin reads an origin (RFC 6454) in lower case, such as https://www.example.com. The host of
// it may begin with "*.", for one label more.
func Origin(text string) (scheme, host string, err error) {
	scheme, host, ok := strings.Cut(text, "://")
	name, port, hasPort := strings.Cut(host, ":")
	if !ok || !Token(scheme) || text != strings.ToLower(text) || !HostName(name) || hasPort && (port == "" || strings.Trim(port, "0123456789") != "") {
		return "", "", fmt.Errorf("%q is no origin such as https://www.example.com or https://*.example.com", Shorten(text))
	}
	return scheme, host, nil
}

// AbsoluteURL reports whether a text is a URL that can stand in a Location header as it is.
func AbsoluteURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" &&
		!strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"<>\\", r) })
}
