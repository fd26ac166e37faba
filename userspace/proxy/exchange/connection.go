package exchange

import "net/netip"

// Protocol is what a client speaks.
type Protocol uint8

// HTTP1 is HTTP/1.0 or 1.1: the request's Minor says which.
const (
	HTTP1 Protocol = iota
	HTTP2
	HTTP3
	// Passthrough is TLS that goes through to a pod: there are no requests to be seen.
	Passthrough
)

// Connection is what all exchanges of one client connection have in common. Front ends
// fill it in before the first exchange; it does not change afterwards.
type Connection struct {
	Peer   netip.AddrPort // the other end of the socket
	Client netip.AddrPort // who the client is: Peer, or what a PROXY header said
	Local  netip.AddrPort // the ingress address and port that the client asked for
	// Announced: a PROXY header has said who the client is and what it asked for.
	Announced bool
	Protocol  Protocol
	TLS       *TLS // nil: clear text
}
