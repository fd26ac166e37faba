package proxyproto

import (
	"bytes"
	"net/netip"
)

const (
	textBegin = "PROXY "
	// maxText is the longest header of version 1, its line end included.
	maxText = 107
)

// parseText reads version 1: "PROXY TCP4 SOURCE DESTINATION PORT PORT" CR LF.
func parseText(b []byte) (h Header, n int, fault *Error) {
	if !prefixes(b, textBegin) {
		return h, 0, ErrMissing
	}
	line := b[:min(len(b), maxText)]
	end := bytes.IndexByte(line, '\n')
	switch {
	case end < 0 && len(line) == maxText:
		return h, 0, ErrTooLong
	case end < 0:
		return h, 0, nil
	case line[end-1] != '\r':
		return h, 0, ErrSyntax
	}
	n = end + 1
	line = line[len(textBegin) : end-1]
	h.Version = 1
	family, rest, more := bytes.Cut(line, []byte(" "))
	var four bool
	switch string(family) {
	case "UNKNOWN":
		// Whatever follows is to be ignored, but not what no text line holds.
		if bytes.IndexFunc(rest, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
			return h, 0, ErrSyntax
		}
		return h, n, nil
	case "TCP4":
		four = true
	case "TCP6":
	default:
		return h, 0, ErrSyntax
	}
	if !more {
		return h, 0, ErrSyntax
	}
	var words [4][]byte
	for i := range words {
		var more bool
		words[i], rest, more = bytes.Cut(rest, []byte(" "))
		if more != (i < len(words)-1) {
			return h, 0, ErrSyntax
		}
	}
	source, ok1 := textAddress(words[0], four)
	destination, ok2 := textAddress(words[1], four)
	sourcePort, ok3 := textPort(words[2])
	destinationPort, ok4 := textPort(words[3])
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return h, 0, ErrAddress
	}
	h.Source = netip.AddrPortFrom(source, sourcePort)
	h.Destination = netip.AddrPortFrom(destination, destinationPort)
	return h, n, nil
}

// textAddress reads an address of the announced family. An IPv4-mapped one is the IPv4
// address that it means: senders use it where the two addresses' families differ.
func textAddress(word []byte, four bool) (netip.Addr, bool) {
	a, err := netip.ParseAddr(string(word))
	if err != nil || a.Is4() != four || a.Zone() != "" {
		return a, false
	}
	return a.Unmap(), true
}

// textPort reads 0 to 65535 without leading zeros.
func textPort(word []byte) (uint16, bool) {
	if len(word) == 0 || len(word) > 5 || word[0] == '0' && len(word) > 1 {
		return 0, false
	}
	var port uint32
	for _, c := range word {
		if c < '0' || c > '9' {
			return 0, false
		}
		port = port*10 + uint32(c-'0')
	}
	return uint16(port), port <= 65535
}
