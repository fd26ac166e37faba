package names

import (
	"context"
	"net"
	"net/netip"
	"time"
)

const (
	dialTime = 5 * time.Second
	// headStart is how long an address is tried alone (RFC 8305, section 5).
	headStart = 250 * time.Millisecond
	// maxAddresses is how many of a name are tried.
	maxAddresses = 4
)

// Dial opens a TCP connection to host:port, where the host may be a name. Of several
// addresses the next one is tried when one fails or takes long.
func (c *Cache) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return dial(ctx, network, a, port)
	}
	addresses, err := c.Lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	return race(ctx, network, addresses[:min(len(addresses), maxAddresses)], port)
}

func dial(ctx context.Context, network string, a netip.Addr, port string) (net.Conn, error) {
	if err := judge(ctx, a); err != nil {
		return nil, err
	}
	var d net.Dialer
	d.SetMultipathTCP(false)
	return d.DialContext(ctx, network, net.JoinHostPort(a.String(), port))
}

// race returns the connection that stands first, or the first error.
func race(ctx context.Context, network string, addresses []netip.Addr, port string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the attempts that have lost
	results := make(chan result)
	begin := func(a netip.Addr) {
		conn, err := dial(ctx, network, a, port)
		select {
		case results <- result{conn, err}:
		case <-ctx.Done():
			if conn != nil {
				conn.Close()
			}
		}
	}
	next := time.NewTimer(0)
	defer next.Stop()
	var first error
	for begun, failed := 0, 0; failed < len(addresses); {
		select {
		case <-next.C:
			if begun < len(addresses) {
				go begin(addresses[begun])
				begun++
				next.Reset(headStart)
			}
		case r := <-results:
			if r.err == nil {
				return r.conn, nil
			}
			if first == nil {
				first = r.err
			}
			failed++
			next.Reset(0)
		case <-ctx.Done():
			if first == nil {
				first = ctx.Err()
			}
			return nil, first
		}
	}
	return nil, first
}
