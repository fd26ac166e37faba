// Package names keeps the addresses of host names for a while, so that not every new
// connection asks a DNS server, and so that connections can still be made while none answers.
//
// Names are looked up by Go's resolver, which reads /etc/hosts and the search domains of
// resolv.conf like everything else in the pod, and which does not tell how long an answer is
// valid. So all answers are kept for the same time, which is short: one question per name in
// Fresh is nothing to a server, and a client of our connections, most of which are reused,
// seldom waits for one.
package names

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Fresh is for how long an answer is used without a further question.
	Fresh = 10 * time.Second
	// Stale is for how long it is used while no server answers (RFC 8767).
	Stale = 10 * time.Minute
	// Again is after which time a name is asked for again that was not found, or about
	// which no server had anything to say. Nobody waits in the meantime.
	Again = 2 * time.Second
	// Limit bounds a lookup.
	Limit = 2 * time.Second

	maxNames = 1024
)

// Cache keeps addresses. Its zero value is ready to be used, by any goroutine.
type Cache struct {
	Resolver *net.Resolver // nil: Go's own
	Stats    Stats

	mu    sync.Mutex
	names map[string]*name
	now   func() time.Time // nil: time.Now
}

// Stats count what a Cache does.
type Stats struct {
	Found, Missing, Failed atomic.Uint64 // lookups by how they ended; Missing: there is no such name
	Stale                  atomic.Uint64 // answers given although the last lookup failed
}

// name is what is known of one. An answer that has come may be replaced, never changed.
type name struct {
	addresses []netip.Addr
	had       time.Time     // when they were
	err       error         // of the last lookup
	next      time.Time     // no further lookup before
	running   chan struct{} // closed when the lookup under way ends; nil: none is
}

// Lookup returns the addresses of a host, the best ones first. It waits for a server if it
// must, together with whoever else waits for the same name.
func (c *Cache) Lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.name(host)
	if !c.time().Before(n.next) {
		if n.running == nil {
			n.running = make(chan struct{})
			go c.ask(host, n) // ends after Limit
		}
		running := n.running
		c.mu.Unlock()
		select {
		case <-running:
		case <-ctx.Done():
		}
		c.mu.Lock()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	switch {
	case n.err == nil:
		return n.addresses, nil
	case len(n.addresses) > 0 && c.time().Sub(n.had) < Stale:
		c.Stats.Stale.Add(1)
		return n.addresses, nil
	}
	return nil, n.err
}

// ask looks a name up. It does not end with the request that was the first to want it:
// others may wait.
func (c *Cache) ask(host string, n *name) {
	ctx, cancel := context.WithTimeout(context.Background(), Limit)
	defer cancel()
	resolver := c.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	found, err := resolver.LookupNetIP(ctx, "ip", host)
	for i := range found {
		found[i] = found[i].Unmap()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.time()
	var failure *net.DNSError
	switch n.err = err; {
	case err == nil:
		c.Stats.Found.Add(1)
		n.addresses, n.had, n.next = found, now, now.Add(Fresh)
	case errors.As(err, &failure) && failure.IsNotFound:
		// That is an answer: what was there before must not be used any more.
		c.Stats.Missing.Add(1)
		n.addresses, n.next = nil, now.Add(Again)
	default:
		c.Stats.Failed.Add(1)
		n.next = now.Add(Again)
	}
	close(n.running)
	n.running = nil
}

// name returns what is known of a host. c is locked.
func (c *Cache) name(host string) *name {
	n := c.names[host]
	if n == nil {
		if c.names == nil || len(c.names) >= maxNames {
			// The names are those of the configuration: so many came and went.
			c.names = make(map[string]*name)
		}
		n = &name{}
		c.names[host] = n
	}
	return n
}

func (c *Cache) time() time.Time {
	if c.now != nil {
		return c.now()
	}
	return time.Now()
}
