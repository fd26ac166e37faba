package loader

import (
	"encoding/binary"
	"net/netip"
)

// build joins the layers of a packet, outermost first. An IP header behind an Ethernet header
// gets its length, unless it has one.
func build(layers ...[]byte) (packet []byte) {
	for _, l := range layers {
		packet = append(packet, l...)
	}
	const link, tag, fixed4, fixed6 = 14, 4, 20, 40
	if len(layers) == 0 {
		return nil
	}
	at := len(layers[0])
	if at != link && at != link+tag && at != link+2*tag || len(packet) < at+fixed4 {
		return packet
	}
	ip := packet[at:]
	setLength := func(field, length int) {
		if binary.BigEndian.Uint16(ip[field:]) == 0 {
			binary.BigEndian.PutUint16(ip[field:], uint16(length))
		}
	}
	switch binary.BigEndian.Uint16(packet[at-2:]) {
	case 0x0800:
		setLength(2, len(ip))
	case 0x86dd:
		setLength(4, len(ip)-fixed6)
	}
	return packet
}

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

// ether returns an Ethernet header with VLAN tags (outermost first) before the type.
func ether(ethertype uint16, tags ...uint16) []byte {
	b := make([]byte, 12)
	for _, tpid := range tags {
		b = append(append(b, be16(tpid)...), 0, 42)
	}
	return append(b, be16(ethertype)...)
}

// ip4 returns an IPv4 header with options (a multiple of 4 bytes). fragment is the flags
// and offset word.
func ip4(from, to netip.Addr, protocol uint8, options []byte, fragment uint16) []byte {
	h := make([]byte, 20, 60)
	h[0] = 0x40 | byte(5+len(options)/4)
	binary.BigEndian.PutUint16(h[6:], fragment)
	h[8], h[9] = 64, protocol
	copy(h[12:], from.AsSlice())
	copy(h[16:], to.AsSlice())
	return append(h, options...)
}

func ip6(from, to netip.Addr, next uint8) []byte {
	h := make([]byte, 40)
	h[0], h[6], h[7] = 0x60, next, 64
	copy(h[8:], from.AsSlice())
	copy(h[24:], to.AsSlice())
	return h
}

// extension returns a hop-by-hop, routing or destination options header of 8+8n bytes.
func extension(next uint8, n int) []byte {
	h := make([]byte, 8+8*n)
	h[0], h[1] = next, byte(n)
	return h
}

// authentication returns an AH header of 4*(n+2) bytes.
func authentication(next uint8, n int) []byte {
	h := make([]byte, 4*(n+2))
	h[0], h[1] = next, byte(n)
	return h
}

// fragment6 returns a fragment header; offset counts 8 bytes.
func fragment6(next uint8, offset uint16) []byte {
	h := make([]byte, 8)
	h[0] = next
	binary.BigEndian.PutUint16(h[2:], offset<<3)
	return h
}

func tcp() []byte {
	h := make([]byte, 20)
	binary.BigEndian.PutUint16(h, 40000)
	binary.BigEndian.PutUint16(h[2:], 80)
	h[12], h[13] = 5<<4, ack
	return h
}

func udp() []byte {
	h := make([]byte, 8)
	binary.BigEndian.PutUint16(h, 40000)
	binary.BigEndian.PutUint16(h[2:], 443)
	h[5] = 8
	return h
}
