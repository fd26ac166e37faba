package model

import (
	"cmp"
	"fmt"
	"net/netip"
)

// Listener is an address and port at which requests for the model's hosts are taken. The agent's
// flags make those of Ingress; L4 services have listeners of their own.
type Listener struct {
	Name    string // of its vocabulary: "http" and "https" of Ingress
	Address netip.Addr
	Port    uint16
	TLS     bool // connections begin with a handshake
	HTTP3   bool // QUIC on the same port, too; only with TLS
}

// Compare orders by address and port.
func (l Listener) Compare(other Listener) int {
	return cmp.Or(l.Address.Compare(other.Address), cmp.Compare(l.Port, other.Port))
}

// Protocol returns what clients speak: "HTTP", "HTTPS", or "HTTPS and HTTP/3".
func (l Listener) Protocol() string {
	switch {
	case l.HTTP3:
		return "HTTPS and HTTP/3"
	case l.TLS:
		return "HTTPS"
	}
	return "HTTP"
}

// String returns "name address:port protocol".
func (l Listener) String() string {
	return fmt.Sprintf("%s %s %s", l.Name, netip.AddrPortFrom(l.Address, l.Port), l.Protocol())
}

// IngressListeners returns the listeners of Ingress: at each address one for HTTP and one for HTTPS.
// Port 0: none.
func IngressListeners(addresses []netip.Addr, http, https uint16, http3 bool) (out []Listener) {
	for _, a := range addresses {
		if http != 0 {
			out = append(out, Listener{Name: "http", Address: a, Port: http})
		}
		if https != 0 {
			out = append(out, Listener{Name: "https", Address: a, Port: https, TLS: true, HTTP3: http3})
		}
	}
	return out
}
