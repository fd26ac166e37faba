package server

import (
	"net/netip"
	"sync/atomic"

	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/observe/overload"
)

// When a worker runs out of something, the source that holds most of it loses first: neither a
// newcomer nor a source that holds little. A source is an IPv4 address or an IPv6 /64, also one
// that a PROXY header names. Trusted proxies speak for many clients and are no source.

// Evictions are the reasons for which a connection is closed before its client or its timer
// ends it.
var Evictions = [...]string{
	evictedUnfinished: "unfinished",
	evictedIdle:       "idle",
	evictedSource:     "source_limit",
}

const (
	evictedUnfinished = iota // its source has most connections without a whole request
	evictedIdle              // it waits for a request, and its source has most connections
	evictedSource            // as many as one source may have are open
)

// EvictionStats counts them.
type EvictionStats [len(Evictions)]atomic.Uint64

const (
	evictBatch = 16
	// evictLooks is how many connections of a source are looked at for one that is idle.
	evictLooks = 64
	// sourceMost is how much of all connections one source may have when few are left, in
	// percent. It bounds those that cannot be closed, as requests are under way on them.
	sourceMost = 50
)

// sourceOf returns by whom a client's connection from peer is counted.
func sourceOf(settings *config.Settings, peer, client netip.Addr) netip.Addr {
	if settings.TrustedProxies.Contain(client) || client == peer && settings.ProxyHeaderFrom.Contain(peer) {
		return netip.Addr{}
	}
	return overload.Source(client)
}

func (c *conn) source() netip.Addr {
	return sourceOf(&c.server.worker.Config.Load().Settings, c.about.Peer.Addr(), c.about.Client.Addr())
}

// countSource counts the connection, which has no whole request yet, by its source. It reports
// false if that has too many, and has closed the connection then.
func (c *conn) countSource() bool {
	s, from := c.server, c.source()
	if most := s.worker.Config.Load().Settings.MaxConnectionsPerSource; most > 0 && s.connections.Of(from) >= most {
		s.stats.Evicted[evictedSource].Add(1)
		c.Reset()
		c.close()
		return false
	}
	s.connections.Take(&c.counted, from)
	s.unfinished.Take(&c.beginning, from)
	return true
}

// finishHead notes that a request came whole, or was refused.
func (c *conn) finishHead() {
	if c.beginning.Held() {
		c.server.unfinished.Drop(&c.beginning)
	}
}

// beginHead notes that a request came in part.
func (c *conn) beginHead() {
	if !c.beginning.Held() {
		c.server.unfinished.Take(&c.beginning, c.source())
	}
}

// enter counts a connection that was accepted. It reports false if there is no room for one
// of this source.
func (s *Server) enter(from netip.Addr) bool {
	crowd := s.worker.Overload.Enter()
	if crowd == overload.Roomy {
		return true
	}
	greedy := from.IsValid() && s.connections.Of(from)*100 > len(s.conns)*sourceMost
	room := s.makeRoom(greedy, crowd == overload.Full)
	switch {
	case crowd == overload.Full:
		if room && s.worker.Overload.Enter() != overload.Full {
			return true
		}
		s.stats.Full.Add(1)
		return false
	case greedy && !room:
		s.worker.Overload.Leave()
		s.stats.Evicted[evictedSource].Add(1)
		return false
	}
	return true
}

// makeRoom closes some connections to free descriptors: the oldest ones without a whole request
// of the source that has most of these; if no source has several, idle ones of the source with
// most connections. A greedy newcomer costs no other source its idle connections. It reports
// whether there is room.
func (s *Server) makeRoom(greedy, full bool) bool {
	done := 0
	for ; done < evictBatch; done++ {
		worst, n := s.unfinished.Worst()
		if n < 2 {
			break
		}
		worst.Holder.(*conn).evict(evictedUnfinished)
	}
	if done == 0 {
		for done < evictBatch && s.evictIdle(greedy) {
			done++
		}
	}
	if done > 0 || greedy || !full {
		return done > 0
	}
	// No source has more than one: the oldest is the least likely to become a request.
	worst, _ := s.unfinished.Worst()
	if worst != nil {
		worst.Holder.(*conn).evict(evictedUnfinished)
	}
	return worst != nil
}

// evictIdle closes a connection that waits for a further request.
func (s *Server) evictIdle(greedy bool) bool {
	for range evictLooks {
		worst, _ := s.connections.Worst()
		if worst == nil {
			return false
		}
		s.connections.Renew(worst) // an HTTP/2 connection takes a while to close
		if worst.Holder.(*conn).evictServed() {
			return true
		}
	}
	if greedy {
		return false
	}
	looks := 0
	for c := range s.conns { // in no order
		if c.evictServed() {
			return true
		}
		if looks++; looks == evictLooks {
			break
		}
	}
	return false
}

// evictServed closes the connection if it has had a request and waits for another.
func (c *conn) evictServed() bool {
	if !c.served && c.http2 == nil || !c.closeIdle() {
		return false
	}
	c.server.stats.Evicted[evictedIdle].Add(1)
	return true
}

// evict closes the connection, which has no request under way.
func (c *conn) evict(why int) {
	c.server.stats.Evicted[why].Add(1)
	c.evicted = true
	reader := c.reader
	c.Reset()
	c.close()
	if reader != nil {
		reader.co.Wake() // to see that there is nothing left to do
	}
}
