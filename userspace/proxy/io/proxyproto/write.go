package proxyproto

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// MaxWritten is the largest number of bytes that Append appends.
const MaxWritten = maxText

// Append appends a header of h.Version that names h's client. Where source and destination
// are of different families, the IPv4 address is written as IPv4-mapped, as both must be of
// one. A header that names nobody says so: LOCAL in version 2, UNKNOWN in version 1.
func Append(dst []byte, h Header) []byte {
	source, destination := h.Source, h.Destination
	if source.IsValid() && destination.IsValid() {
		source, destination = sameFamily(source, destination)
	} else {
		source, destination = netip.AddrPort{}, netip.AddrPort{}
	}
	if h.Version == 1 {
		return appendText(dst, source, destination)
	}
	return appendBinary(dst, source, destination)
}

func sameFamily(a, b netip.AddrPort) (netip.AddrPort, netip.AddrPort) {
	x, y := a.Addr().Unmap().WithZone(""), b.Addr().Unmap().WithZone("")
	if x.Is4() != y.Is4() {
		x, y = netip.AddrFrom16(x.As16()), netip.AddrFrom16(y.As16())
	}
	return netip.AddrPortFrom(x, a.Port()), netip.AddrPortFrom(y, b.Port())
}

func appendText(dst []byte, source, destination netip.AddrPort) []byte {
	switch {
	case !source.IsValid():
		return append(dst, "PROXY UNKNOWN\r\n"...)
	case source.Addr().Is4():
		dst = append(dst, "PROXY TCP4 "...)
	default:
		dst = append(dst, "PROXY TCP6 "...)
	}
	dst = source.Addr().AppendTo(dst)
	dst = append(dst, ' ')
	dst = destination.Addr().AppendTo(dst)
	dst = append(dst, ' ')
	dst = strconv.AppendUint(dst, uint64(source.Port()), 10)
	dst = append(dst, ' ')
	dst = strconv.AppendUint(dst, uint64(destination.Port()), 10)
	return append(dst, "\r\n"...)
}

func appendBinary(dst []byte, source, destination netip.AddrPort) []byte {
	dst = append(dst, signature...)
	switch {
	case !source.IsValid():
		return append(dst, 2<<4|commandLocal, familyUnspecified<<4|transportUnspecified, 0, 0)
	case source.Addr().Is4():
		dst = append(dst, 2<<4|commandProxy, familyIPv4<<4|transportStream, 0, addressesIPv4)
		a, b := source.Addr().As4(), destination.Addr().As4()
		dst = append(append(dst, a[:]...), b[:]...)
	default:
		dst = append(dst, 2<<4|commandProxy, familyIPv6<<4|transportStream, 0, addressesIPv6)
		a, b := source.Addr().As16(), destination.Addr().As16()
		dst = append(append(dst, a[:]...), b[:]...)
	}
	dst = binary.BigEndian.AppendUint16(dst, source.Port())
	return binary.BigEndian.AppendUint16(dst, destination.Port())
}
