// Package proxyproto reads and writes the header by which a proxy or load balancer tells
// who the client of a TCP connection is: the PROXY protocol, versions 1 (text) and 2
// (binary), as haproxy's proxy-protocol.txt specifies them.
//
// Whoever may send the header may claim any address, so a connection's peer must be
// trusted before its header is read; that is the caller's part. Reading is strict: what is
// not exactly a header is an error, because bytes that two readers could take differently
// would be taken for a request.
package proxyproto

import "net/netip"

// Header is what a PROXY header says.
type Header struct {
	// Source is the client, Destination where the client connected to. Both are invalid
	// if the header names nobody: the sender's own health check (LOCAL), or a client of
	// no known protocol (UNKNOWN, AF_UNSPEC). The connection's own addresses hold then.
	Source, Destination netip.AddrPort
	Version             uint8 // 1 or 2
}

// Named reports whether the header names a client.
func (h *Header) Named() bool { return h.Source.IsValid() }

// signature begins a header of version 2. It is neither a text nor the beginning of any
// other protocol.
const signature = "\r\n\r\n\x00\r\nQUIT\n"

// The parts of a version 2 header: signature, version and command, family and transport,
// length of what follows (16 bits, network byte order).
const (
	fixedSize = len(signature) + 4

	commandLocal = 0x0
	commandProxy = 0x1

	familyUnspecified = 0x0
	familyIPv4        = 0x1
	familyIPv6        = 0x2
	familyUnix        = 0x3

	transportUnspecified = 0x0
	transportStream      = 0x1
	transportDatagram    = 0x2

	addressesIPv4 = 2*4 + 2*2 // bytes
	addressesIPv6 = 2*16 + 2*2
)
