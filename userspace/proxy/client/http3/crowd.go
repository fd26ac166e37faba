package http3

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/observe/overload"
)

// Bounds of a worker's connections. They hold from a client's first packet on, as a connection
// costs memory from then on (some 70 KB), and no descriptor that could run out.
const (
	// maxConnections is how many a worker holds at most.
	maxConnections = 16 << 10
	// maxPerSource is how many of them one source may have, which is an address of IPv4, or a
	// network of 64 bits of IPv6. Many people may share one.
	maxPerSource = 2 << 10
	// maxUnused is how many of a source's have not had a request yet: clients open one to use it.
	maxUnused = 256
	// suspiciouslyMany is from how many of those on a source must prove its address: nobody else
	// can take its places away by packets in its name.
	suspiciouslyMany = 32
	// settled is from which age on an idle connection may be ended for others.
	settled = time.Second
	// makeRoomFor is how many idle connections end when there are too many.
	makeRoomFor = 16
)

var errFull = errors.New("too many connections")

// crowd counts a worker's connections by source. Any goroutine may call its methods.
type crowd struct {
	mu      sync.Mutex
	all     int
	sources map[netip.Addr]*source
	open    map[*connection]struct{} // whose handshake is done
}

type source struct{ all, unused int }

// sourceOf returns by whom connections from an address are counted, as those over TCP are.
func sourceOf(a net.Addr) netip.Addr { return overload.Source(addrPort(a).Addr()) }

// enter counts a connection that begins. It reports false if there is no room for it.
func (w *crowd) enter(c *connecting, maxUnused int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.sources[c.source]
	switch {
	case w.all >= maxConnections:
		return false
	case s == nil:
		s = new(source)
		if w.sources == nil {
			w.sources = map[netip.Addr]*source{}
		}
		w.sources[c.source] = s
	case s.all >= maxPerSource, s.unused >= maxUnused:
		return false
	}
	w.all++
	s.all++
	s.unused++
	c.unused = true
	return true
}

// opened notes that a connection's handshake is done.
func (w *crowd) opened(c *connecting, conn *connection) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == nil {
		w.open = map[*connection]struct{}{}
	}
	w.open[conn] = struct{}{}
	c.conn = conn
}

// used notes a connection's first request.
func (w *crowd) used(c *connecting) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.use(c)
}

func (w *crowd) use(c *connecting) {
	if s := w.sources[c.source]; c.unused && s != nil {
		c.unused = false
		s.unused--
	}
}

// leave takes a connection out.
func (w *crowd) leave(c *connecting) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.use(c)
	w.all--
	if s := w.sources[c.source]; s != nil {
		if s.all--; s.all == 0 {
			delete(w.sources, c.source)
		}
	}
	delete(w.open, c.conn)
}

// suspicious reports whether a source has so many unused connections that it must prove its
// address for further ones.
func (w *crowd) suspicious(a net.Addr) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.sources[sourceOf(a)]
	return s != nil && s.unused >= suspiciouslyMany
}

// some returns some open connections.
func (w *crowd) some() (some []*connection) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.open {
		if some = append(some, c); len(some) == 8*makeRoomFor {
			break
		}
	}
	return some
}

// makeRoom ends some connections that wait for a request, but for those that are quite new.
func (w *crowd) makeRoom() {
	left := makeRoomFor
	for _, c := range w.some() {
		if time.Since(c.began) >= settled && c.closeIdle() {
			if left--; left == 0 {
				return
			}
		}
	}
}

// enter counts a connection that begins, here and among all clients' connections of the proxy.
func (s *Server) enter(c *connecting) bool {
	if !s.crowd.enter(c, s.MaxUnused) {
		return false
	}
	switch s.worker.Overload.Enter() {
	case overload.Full:
		s.crowd.leave(c)
		go s.crowd.makeRoom()
		return false
	case overload.Crowded:
		go s.crowd.makeRoom()
	}
	return true
}

func (s *Server) leave(c *connecting) {
	s.crowd.leave(c)
	s.worker.Overload.Leave()
}
