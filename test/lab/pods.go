//go:build linux

package lab

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// PodPort is where the pods' web servers listen.
const PodPort = 8080

// Serve starts the web server of test/lab/pod on the pod and waits until it accepts
// connections.
func (p *Pod) Serve(binary, service string, extra ...string) (*Process, error) {
	args := append([]string{"-name", p.Name, "-service", service, "-listen", fmt.Sprintf(":%d", PodPort)}, extra...)
	process, err := p.Start(Command{Path: binary, Args: args})
	if err != nil {
		return nil, err
	}
	return process, p.Node.WaitListening(netip.AddrPortFrom(p.IPv4, PodPort))
}

// WaitListening waits until the address accepts connections from this host.
func (h *Host) WaitListening(address netip.AddrPort) error {
	return Until(10*time.Second, fmt.Sprintf("listener on %s, seen from %s", address, h.Name), func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		conn, err := h.Dial(ctx, "tcp", address.String())
		if err != nil {
			return err
		}
		return conn.Close()
	})
}
