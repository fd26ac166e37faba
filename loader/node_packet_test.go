package loader

import (
	"encoding/binary"
	"net/netip"
)

// tunnelPort is the port between nodes in the tests.
const tunnelPort = 6080

// wrapped builds what a node sends another: a packet behind the headers of bpf/tunnel.h,
// written down here once more from their description.
type wrapped struct {
	from, to netip.Addr
	tags     []uint16
	source   uint16 // UDP source port
	gue      []byte // the first four bytes; nil: as they must be
	version  byte   // 0: 1
	kind     byte
	hops     byte
	tries    byte
	backend  netip.AddrPort
	tos      byte
	inner    []byte // from the IP header on
}

func (w wrapped) bytes() []byte {
	gue := w.gue
	if gue == nil {
		gue = []byte{6, 4, 0, 0}
		if w.from.Is6() {
			gue[1] = 41
		}
	}
	version := max(1, w.version)
	h := append(append([]byte(nil), gue...), version, w.kind, w.hops, w.tries)
	if w.backend.IsValid() {
		b := w.backend.Addr().As16()
		h = binary.BigEndian.AppendUint16(append(h, b[:]...), w.backend.Port())
	} else {
		h = append(h, make([]byte, 18)...)
	}
	h = append(h, 0, 0)
	u := binary.BigEndian.AppendUint16(nil, w.source)
	u = binary.BigEndian.AppendUint16(u, tunnelPort)
	u = binary.BigEndian.AppendUint16(u, uint16(8+len(h)+len(w.inner)))
	u = append(u, 0, 0)
	rest := build(u, h, w.inner)
	if w.from.Is4() {
		ip := ip4(w.from, w.to, 17, nil, 0x4000)
		ip[1] = w.tos
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(rest)))
		binary.BigEndian.PutUint16(ip[10:], ^sum(ip))
		return build(ether(0x0800, w.tags...), ip, rest)
	}
	ip := ip6(w.from, w.to, 17)
	binary.BigEndian.PutUint32(ip, 0x60000000|uint32(w.tos)<<20|uint32(w.source))
	binary.BigEndian.PutUint16(ip[4:], uint16(len(rest)))
	return build(ether(0x86dd, w.tags...), ip, rest)
}

// like completes what a program has chosen freely: the source port.
func (w wrapped) like(out []byte) wrapped {
	at := 14 + 20
	if w.from.Is6() {
		at = 14 + 40
	}
	if len(out) >= at+2 {
		w.source = binary.BigEndian.Uint16(out[at:])
	}
	return w
}

// inside returns a packet without its Ethernet header.
func inside(packet []byte) []byte { return packet[14:] }
