// Package prefixlist reads lists of address prefixes as people and feeds write them: in files,
// on standard input, in ConfigMaps.
package prefixlist

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
)

// maxLine bounds a line in bytes: ingress-nginx's block-cidrs has all prefixes on one.
const maxLine = 4 << 20

// Parse reads a prefix, or an address, which stands for itself alone. An IPv4 prefix that is
// written in IPv6 becomes one of IPv4.
func Parse(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		address, addressErr := netip.ParseAddr(text)
		if addressErr != nil || address.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is not a prefix like 198.51.100.0/24 or 2001:db8::/32, nor an address", shorten(text))
		}
		prefix = netip.PrefixFrom(address, address.BitLen())
	}
	if masked := prefix.Masked(); prefix != masked {
		return netip.Prefix{}, fmt.Errorf("%s has bits behind its length: did you mean %s?", prefix, masked)
	}
	if a := prefix.Addr(); a.Is4In6() && prefix.Bits() >= 96 {
		return netip.PrefixFrom(a.Unmap(), prefix.Bits()-96), nil
	}
	return prefix, nil
}

// shorten keeps errors about what is no list at all readable.
func shorten(text string) string {
	if len(text) > 60 {
		return text[:60] + "..."
	}
	return text
}

// Error is what is wrong with one line.
type Error struct {
	Line int // from 1
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// Read reads prefixes that stand between blanks, commas and ends of lines; what follows a #
// is a comment. The result is sorted and has each prefix once. What cannot be read is left out
// and told by wrong. err is that of the reader.
func Read(r io.Reader) (prefixes []netip.Prefix, wrong []*Error, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	line := 0
	for lines.Scan() {
		line++
		text, _, _ := strings.Cut(lines.Text(), "#")
		for _, word := range strings.FieldsFunc(text, between) {
			prefix, err := Parse(word)
			if err != nil {
				wrong = append(wrong, &Error{line, err})
				continue
			}
			prefixes = append(prefixes, prefix)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, nil, &Error{line + 1, fmt.Errorf("longer than %d MiB", maxLine>>20)}
	} else if err != nil {
		return nil, nil, err
	}
	return Sort(prefixes), wrong, nil
}

func between(c rune) bool { return c == ' ' || c == '\t' || c == ',' || c == '\r' }

// Sort sorts prefixes by address and length, and drops what is there twice.
func Sort(prefixes []netip.Prefix) []netip.Prefix {
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	return slices.Compact(prefixes)
}

// HoldsEverybody reports whether a prefix holds all addresses of a family.
func HoldsEverybody(p netip.Prefix) bool {
	// In the lists an IPv4 address is ::ffff:a.b.c.d.
	return p.Bits() == 0 || p.Addr().Is6() && p.Bits() <= 96 && p.Contains(netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff}))
}

// Holds reports whether a prefix holds an address, as the lists have them.
func Holds(p netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return p.Contains(a) || a.Is4() && p.Addr().Is6() && HoldsEverybody(p) && p.Contains(netip.AddrFrom16(a.As16()))
}
