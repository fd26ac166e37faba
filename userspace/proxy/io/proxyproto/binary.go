package proxyproto

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

// Types of what follows the addresses. The others are for whoever asks for them.
const tlvChecksum = 0x03 // CRC32c of the whole header, with this value as zeros

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// parseBinary reads version 2.
func parseBinary(b []byte) (h Header, n int, fault *Error) {
	if !prefixes(b, signature) {
		return h, 0, ErrMissing
	}
	const commandAt, familyAt, lengthAt = len(signature), len(signature) + 1, len(signature) + 2
	if len(b) > commandAt {
		if version, command := b[commandAt]>>4, b[commandAt]&0xf; version != 2 || command > commandProxy {
			return h, 0, ErrVersion
		}
	}
	if len(b) < fixedSize {
		return h, 0, nil
	}
	n = fixedSize + int(binary.BigEndian.Uint16(b[lengthAt:]))
	if n > MaxSize {
		return h, 0, ErrTooLong
	}
	h.Version = 2
	local := b[commandAt]&0xf == commandLocal
	family, transport := b[familyAt]>>4, b[familyAt]&0xf
	addresses := 0
	switch {
	case family > familyUnix || transport > transportDatagram:
		return h, 0, ErrSyntax
	case local || family == familyUnspecified:
		// The sender's own connection, or a client that it cannot name.
	case family == familyUnix || transport != transportStream:
		return h, 0, ErrTransport
	case family == familyIPv4:
		addresses = addressesIPv4
	default:
		addresses = addressesIPv6
	}
	if n < fixedSize+addresses {
		return h, 0, ErrAddress
	}
	if len(b) < n {
		return h, 0, nil
	}
	if local || family == familyUnspecified {
		// What follows has no form then: it is for nobody to read.
		return h, n, nil
	}
	h.Source, h.Destination = binaryAddresses(b[fixedSize : fixedSize+addresses])
	return h, n, checkTLVs(b[:n], fixedSize+addresses)
}

// binaryAddresses reads source, destination and their ports, all in network byte order.
func binaryAddresses(p []byte) (source, destination netip.AddrPort) {
	size := (len(p) - 4) / 2
	a, _ := netip.AddrFromSlice(p[:size])
	b, _ := netip.AddrFromSlice(p[size : 2*size])
	ports := p[2*size:]
	return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(ports)),
		netip.AddrPortFrom(b.Unmap(), binary.BigEndian.Uint16(ports[2:]))
}

// checkTLVs walks the list at header[at:] and verifies the checksum if there is one.
func checkTLVs(header []byte, at int) *Error {
	checksum := 0 // offset of its value
	for at < len(header) {
		if len(header)-at < 3 {
			return ErrTLV
		}
		kind, size := header[at], int(binary.BigEndian.Uint16(header[at+1:]))
		at += 3
		if size > len(header)-at {
			return ErrTLV
		}
		if kind == tlvChecksum {
			if size != crc32.Size || checksum != 0 {
				return ErrTLV
			}
			checksum = at
		}
		at += size
	}
	if checksum == 0 {
		return nil
	}
	var zeros [crc32.Size]byte
	sum := crc32.Update(0, castagnoli, header[:checksum])
	sum = crc32.Update(sum, castagnoli, zeros[:])
	sum = crc32.Update(sum, castagnoli, header[checksum+crc32.Size:])
	if sum != binary.BigEndian.Uint32(header[checksum:]) {
		return ErrChecksum
	}
	return nil
}
