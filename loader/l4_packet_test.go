package loader

import (
	"encoding/binary"
	"net/netip"
)

// flowPacket builds packets whose lengths and checksums are right, and takes them apart.
type flowPacket struct {
	from, to netip.AddrPort
	protocol uint8 // 6, 17
	flags    byte  // TCP
	seq, ack uint32
	tags     []uint16
	options  []byte   // IPv4
	before   [][]byte // IPv6 extension headers
	first    uint8    // IPv6: protocol of the first extension header
	fragment uint16   // IPv4: flags and offset
	id       uint16   // IPv4
	payload  []byte
	noSum    bool // UDP without a checksum

	tcpOptions []byte // a multiple of four
}

// TCP flags.
const (
	fin = 1
	syn = 2
	rst = 4
	ack = 16
)

// bytes returns the packet.
func (p flowPacket) bytes() []byte {
	l4 := transport(p)
	if p.from.Addr().Is4() {
		ip := ip4(p.from.Addr(), p.to.Addr(), p.protocol, p.options, p.fragment)
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(l4)))
		binary.BigEndian.PutUint16(ip[4:], p.id)
		binary.BigEndian.PutUint16(ip[10:], ^sum(ip))
		return build(ether(0x0800, p.tags...), ip, l4)
	}
	next := p.protocol
	if len(p.before) > 0 {
		next = p.first
	}
	ip := ip6(p.from.Addr(), p.to.Addr(), next)
	rest := append(build(p.before...), l4...)
	binary.BigEndian.PutUint16(ip[4:], uint16(len(rest)))
	return build(ether(0x86dd, p.tags...), ip, rest)
}

// transport returns header and payload with the checksum for the packet's addresses.
func transport(p flowPacket) []byte {
	h := tcp()
	at := 16
	if p.protocol == 17 {
		h, at = udp(), 6
		binary.BigEndian.PutUint16(h[4:], uint16(8+len(p.payload)))
	}
	binary.BigEndian.PutUint16(h, p.from.Port())
	binary.BigEndian.PutUint16(h[2:], p.to.Port())
	if p.protocol == 6 {
		binary.BigEndian.PutUint32(h[4:], p.seq)
		binary.BigEndian.PutUint32(h[8:], p.ack)
		h[13] = p.flags
		h[12] = byte(5+len(p.tcpOptions)/4) << 4
		h = append(h, p.tcpOptions...)
	}
	h = append(h, p.payload...)
	if !p.noSum {
		check := ^sum(pseudo(p.from.Addr(), p.to.Addr(), p.protocol, len(h)), h)
		if check == 0 && p.protocol == 17 {
			check = 0xffff
		}
		binary.BigEndian.PutUint16(h[at:], check)
	}
	return h
}

// icmpError returns an ICMP or ICMPv6 message that quotes a packet (without its Ethernet
// header).
func icmpError(from, to netip.Addr, kind, code byte, rest uint32, quote []byte) []byte {
	m := append([]byte{kind, code, 0, 0}, binary.BigEndian.AppendUint32(nil, rest)...)
	m = append(m, quote...)
	if from.Is4() {
		binary.BigEndian.PutUint16(m[2:], ^sum(m))
		ip := ip4(from, to, 1, nil, 0)
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(m)))
		binary.BigEndian.PutUint16(ip[10:], ^sum(ip))
		return build(ether(0x0800), ip, m)
	}
	binary.BigEndian.PutUint16(m[2:], ^sum(pseudo(from, to, 58, len(m)), m))
	ip := ip6(from, to, 58)
	binary.BigEndian.PutUint16(ip[4:], uint16(len(m)))
	return build(ether(0x86dd), ip, m)
}

// sum is the Internet checksum's sum (RFC 1071), folded, not inverted.
func sum(parts ...[]byte) uint16 {
	var s uint32
	for _, b := range parts { // all but the last have even lengths
		for i := 0; i+1 < len(b); i += 2 {
			s += uint32(binary.BigEndian.Uint16(b[i:]))
		}
		if len(b)%2 == 1 {
			s += uint32(b[len(b)-1]) << 8
		}
	}
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

func pseudo(from, to netip.Addr, protocol uint8, length int) []byte {
	b := append(from.AsSlice(), to.AsSlice()...)
	return append(b, 0, protocol, byte(length>>8), byte(length))
}
