// Package abi is the layout of the kernel maps in Go. types.go is generated from the
// compiled programs; the helpers beside it convert to and from Go's own types, so that
// byte order is dealt with here and nowhere else.
//
// Only little-endian machines are supported (amd64 and arm64, as the compiled objects).
package abi

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"strings"
	"unsafe"
)

// Block is kg_service.block: where a service's slots are. See the reading protocol in
// bpf/types.h; package view implements it.
type Block uint64

// MakeBlock returns the word for count slots from offset on.
func MakeBlock(offset uint32, count, generation uint16) Block {
	return Block(offset) | Block(count)<<32 | Block(generation)<<48
}

// Offset returns the index of the first slot in kg_slots.
func (b Block) Offset() uint32 { return uint32(b) }

// Count returns the number of slots; 0 means that the service has no endpoint.
func (b Block) Count() uint16 { return uint16(b >> 32) }

// Generation returns the number of publications of this service, modulo 65536.
func (b Block) Generation() uint16 { return uint16(b >> 48) }

// AddressOf returns a as the maps hold it: IPv4 as ::ffff:a.b.c.d. Zones are dropped.
func AddressOf(a netip.Addr) Address { return Address{Bytes: a.As16()} }

// Addr returns the address; a v4-mapped one as IPv4.
func (a Address) Addr() netip.Addr { return netip.AddrFrom16(a.Bytes).Unmap() }

// PortOf returns a port in network byte order.
func PortOf(port uint16) uint16 { return bits.ReverseBytes16(port) }

// L4PortBit returns the bit of a port in AddressInfo.L4Ports.
func L4PortBit(port uint16) uint64 { return 1 << (port * 40503 >> 10) }

// AddressBit returns the bit of an address in AddressInfo.Others.
func AddressBit(a Address) uint32 {
	return 1 << (binary.LittleEndian.Uint32(a.Bytes[12:]) * 0x9e3779b1 >> 27)
}

// MakeListenerKey returns the key of a listener.
func MakeListenerKey(a netip.AddrPort, protocol uint8) ListenerKey {
	return ListenerKey{Address: AddressOf(a.Addr()), Port: PortOf(a.Port()), Protocol: protocol}
}

// AddrPort returns the listener's address and port.
func (k ListenerKey) AddrPort() netip.AddrPort {
	return netip.AddrPortFrom(k.Address.Addr(), bits.ReverseBytes16(k.Port))
}

// MakePrefix returns the LPM key of a prefix.
func MakePrefix(p netip.Prefix) Prefix {
	n := uint32(p.Bits())
	if p.Addr().Is4() {
		n += 96
	}
	return Prefix{PrefixLen: n, Address: AddressOf(p.Masked().Addr())}
}

// Prefix returns the prefix; one inside ::ffff:0:0/96 as IPv4.
func (p Prefix) Prefix() netip.Prefix {
	if a := netip.AddrFrom16(p.Address.Bytes); a.Is4In6() && p.PrefixLen >= 96 {
		return netip.PrefixFrom(a.Unmap(), int(p.PrefixLen)-96)
	}
	return netip.PrefixFrom(netip.AddrFrom16(p.Address.Bytes), int(p.PrefixLen))
}

// MakeSource returns the LPM key of a prefix whose hosts a restricted service takes.
func MakeSource(service uint32, p netip.Prefix) Source {
	prefix := MakePrefix(p)
	return Source{PrefixLen: 32 + prefix.PrefixLen, Service: service, Address: prefix.Address}
}

// Prefix returns the prefix without the service.
func (s Source) Prefix() netip.Prefix {
	return Prefix{PrefixLen: s.PrefixLen - 32, Address: s.Address}.Prefix()
}

// AddrPort returns the backend's address and port.
func (b *Backend) AddrPort() netip.AddrPort {
	return netip.AddrPortFrom(b.Address.Addr(), bits.ReverseBytes16(b.Port))
}

// MakeServiceName returns the entry for a name, and whether it fits.
func MakeServiceName(name string) (n ServiceName, ok bool) {
	if len(name) >= NameLen || strings.IndexByte(name, 0) >= 0 {
		return ServiceName{}, false
	}
	copy(n.bytes(), name)
	return n, true
}

// String returns the name up to its terminating zero.
func (n *ServiceName) String() string {
	name, _, _ := strings.Cut(string(n.bytes()), "\x00")
	return name
}

func (n *ServiceName) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&n.Name)), len(n.Name))
}

// EventOf reads an event as it lies in kg_events.
func EventOf(sample []byte) (e Event, ok bool) {
	if len(sample) < int(unsafe.Sizeof(e)) {
		return e, false
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&e)), unsafe.Sizeof(e)), sample)
	return e, true
}

// ReasonNames returns the labels of a counter: the program that counts and why, as in
// "kg_lookup" and "steered".
func ReasonNames(reason int) (program, name string) {
	program, name, _ = strings.Cut(reasonNames[reason], "_")
	return "kg_" + program, name
}

// SocketIndex returns the key of a worker's socket in kg_sockets: of the worker's number in its
// generation, and SocketTCP4 and so on.
func SocketIndex(generation uint32, worker int, kind uint32) uint32 {
	id := generation%Generations*GenerationWorkers + uint32(worker)
	return id*WorkerSockets + kind
}
