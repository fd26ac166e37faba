package names

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/kerngate/kerngate/userspace/text/rule"
)

// Guard keeps requests that go where tenants have said away from the node. It judges addresses,
// after names are looked up: who owns a name can have it stand for any of them, and for another
// each time.
type Guard struct {
	Own     []netip.Addr // further addresses of the node: those of the ingress
	Allowed []netip.Prefix
}

type guardKey struct{}

// With returns a context in which Dial asks the guard. nil is one without exceptions.
func (g *Guard) With(ctx context.Context) context.Context {
	if g == nil {
		g = &Guard{}
	}
	return context.WithValue(ctx, guardKey{}, g)
}

// judge says why an address may not be connected to.
func judge(ctx context.Context, a netip.Addr) error {
	g, guarded := ctx.Value(guardKey{}).(*Guard)
	if !guarded {
		return nil
	}
	if err := rule.Destination(a, g.Own, g.Allowed); err != nil {
		return err
	}
	return rule.Destination(a, node.addresses(), g.Allowed)
}

// node holds the addresses of this network namespace.
var node interfaces

type interfaces struct {
	sync.Mutex
	known []netip.Addr
	at    time.Time
}

// interfacesFor is how long they are believed.
const interfacesFor = 5 * time.Second

func (i *interfaces) addresses() []netip.Addr {
	i.Lock()
	defer i.Unlock()
	if !i.at.IsZero() && time.Since(i.at) < interfacesFor {
		return i.known
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return i.known
	}
	i.known, i.at = i.known[:0:0], time.Now()
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			if address, ok := netip.AddrFromSlice(n.IP); ok {
				i.known = append(i.known, address.Unmap())
			}
		}
	}
	return i.known
}
