// Package upstream keeps a worker's connections to pods: those that carry one HTTP/1.1
// request at a time, and HTTP/2 sessions that carry many as streams.
package upstream

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net/netip"
	"time"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
)

// ErrTimeout is returned when the pod did not answer in time.
var ErrTimeout = errors.New("timed out")

// Target is where a connection goes: the pod, the generation of its entry in kg_backends, so
// that a connection is never reused for another pod with the same id, and how the pod is
// spoken to.
type Target struct {
	ID         state.BackendID
	Generation uint32
	Address    netip.AddrPort
	Transport  *config.Transport
	// Name is the host of the request, for TLS to pods without a server name of their own.
	Name []byte
	// Join asks the kernel to join the connection with the pod's end, on this node. Only for
	// connections in clear text that are not spliced.
	Join bool
	// Client and Local are the ends of the client's connection, for the PROXY header.
	Client, Local netip.AddrPort
	// Soon is the loop time at which it is given up if the pod has not even accepted it, 0: that of
	// the deadline. Somebody must wake the coroutine then, too.
	Soon int64

	accepted bool // the pod has
}

// late reports whether a pod that has accepted nothing is given up.
func (t *Target) late(now, deadline int64) bool {
	return now >= deadline || t.Soon > 0 && now >= t.Soon
}

// name returns what the pod's certificate must be for, if TLS is spoken.
func (t *Target) name() []byte {
	switch {
	case !t.Transport.TLS:
		return nil
	case t.Transport.ServerName != "":
		return nil // the transport's
	}
	return t.Name
}

// private reports whether a connection tells of one client, and can serve no other.
func (t *Target) private() bool { return t.Transport.ProxyHeader != 0 }

// Conn is a connection to a pod that speaks HTTP/1.1.
type Conn struct {
	reactor.Conn
	target Target
	group  *group // nil: serves one request alone
	pool   *Pool
	expiry reactor.Timer
	Reused bool // it has carried a request before
	idleAt int  // index in its group's idle list, -1 while in use
}

// Pool holds a loop's connections to all pods.
type Pool struct {
	loop     *reactor.Loop
	backends []perBackend // by backend id
	free     []*Conn
	streams  []*Stream     // free
	MaxIdle  int           // per pod and worker
	IdleTime time.Duration // after which an unused connection is closed
	Silence  time.Duration // after which a session with open streams is asked for a sign of life
	PingWait time.Duration // for the answer
	Room     Room          // nil: as many connections as there are descriptors
	Stats    Stats
}

// Room bounds the connections of all pools.
type Room interface {
	EnterPod() bool // reports whether there may be one more
	LeavePod()
}

// opening counts a connection that is to be made. It reports false if there is no room for it,
// not even in the place of idle ones.
func (p *Pool) opening() bool {
	if p.Room != nil && !p.Room.EnterPod() {
		p.discardIdle()
		if !p.Room.EnterPod() {
			return false
		}
	}
	p.Stats.Open++
	return true
}

// closed counts the end of a connection.
func (p *Pool) closed() {
	p.Stats.Open--
	if p.Room != nil {
		p.Room.LeavePod()
	}
}

// discarded is how many idle connections end for one that is needed.
const discarded = 16

// discardIdle closes some idle connections, those that were used last first: of them there are
// the most.
func (p *Pool) discardIdle() {
	left := min(discarded, p.Stats.Idle)
	for i := 0; left > 0 && i < len(p.backends); i++ {
		for _, g := range p.backends[i].groups {
			for len(g.idle) > 0 {
				g.idle[len(g.idle)-1].Discard()
				if left--; left <= 0 {
					return
				}
			}
		}
	}
}

// perBackend are the connections to one pod.
type perBackend struct {
	generation uint32
	groups     []*group // nearly always one
}

// group are the connections to one pod that are made alike, so that any serves.
type group struct {
	transport *config.Transport
	join      bool
	name      string      // that the pod's certificate is for, if not the transport's
	tls       *tls.Config // nil until the first connection
	session   sessionCache
	idle      []*Conn    // last used last
	sessions  []*session // that take streams
	dialing   *session   // the newest that is not ready yet
}

// Stats counts a pool's doings.
type Stats struct {
	Dialed, Reused, Failed uint64
	Open, Idle             int
	Sessions               int // HTTP/2, among Open
}

// NewPool makes a pool for backend ids below n.
func NewPool(l *reactor.Loop, n int) *Pool {
	p := &Pool{
		loop: l, backends: make([]perBackend, n), MaxIdle: 1024, IdleTime: 60 * time.Second,
		Silence: 30 * time.Second, PingWait: 10 * time.Second,
	}
	l.OnTrim(func() { p.free, p.streams = reactor.Trimmed(p.free), reactor.Trimmed(p.streams) })
	return p
}

// maxGroups bounds the ways in which one pod is spoken to at a time: names come from clients.
const maxGroups = 64

// group returns the group for the target.
func (p *Pool) group(t *Target) *group {
	b := &p.backends[t.ID]
	if b.generation != t.Generation {
		p.drop(b)
		b.generation = t.Generation
	}
	name := t.name()
	for _, g := range b.groups {
		if g.transport == t.Transport && g.join == t.Join && g.name == string(name) {
			return g
		}
	}
	if len(b.groups) >= maxGroups {
		b.groups = prune(b.groups)
		if len(b.groups) >= maxGroups {
			p.retire(b.groups[0])
			b.groups = append(b.groups[:0], b.groups[1:]...)
		}
	}
	g := &group{transport: t.Transport, join: t.Join, name: string(bytes.Clone(name))}
	b.groups = append(b.groups, g)
	return g
}

// prune leaves out the groups without connections.
func prune(groups []*group) []*group {
	kept := groups[:0]
	for _, g := range groups {
		if len(g.idle) > 0 || len(g.sessions) > 0 || g.dialing != nil {
			kept = append(kept, g)
		}
	}
	clear(groups[len(kept):])
	return kept
}

// drop ends the connections of a backend's earlier generation.
func (p *Pool) drop(b *perBackend) {
	for _, g := range b.groups {
		p.retire(g)
	}
	b.groups = b.groups[:0]
}

// retire closes the idle connections of a group and lets its sessions end with their streams.
func (p *Pool) retire(g *group) {
	for len(g.idle) > 0 {
		g.idle[len(g.idle)-1].Discard()
	}
	for len(g.sessions) > 0 {
		g.sessions[len(g.sessions)-1].retire()
	}
	if g.dialing != nil {
		g.dialing.group = nil
		g.dialing = nil
	}
}

// CloseIdle closes the connections that no request uses.
func (p *Pool) CloseIdle() {
	for i := range p.backends {
		for _, g := range p.backends[i].groups {
			p.retire(g)
		}
	}
}

// Idle takes an open idle connection to the target, nil if there is none.
func (p *Pool) Idle(t Target) *Conn {
	if t.private() {
		return nil
	}
	g := p.group(&t)
	n := len(g.idle)
	if n == 0 {
		return nil
	}
	c := g.idle[n-1]
	g.idle[n-1] = nil
	g.idle = g.idle[:n-1]
	c.idleAt = -1
	p.loop.Clear(&c.expiry)
	c.Reused = true
	p.Stats.Idle--
	p.Stats.Reused++
	return c
}

// Dial opens a new connection to the target, parking co until it stands. The caller's
// timer must wake co at the deadline (loop time), after which Dial returns ErrTimeout.
func (p *Pool) Dial(co *reactor.Coroutine, t Target, deadline int64) (*Conn, error) {
	c := p.take()
	if err := p.establish(co, &c.Conn, c, &t, deadline); err != nil {
		p.free = append(p.free, c)
		return nil, err
	}
	c.target, c.group = t, nil
	c.target.Name = nil // the request's
	if !t.private() {
		c.group = p.group(&t)
	}
	return c, nil
}

func (p *Pool) take() *Conn {
	if n := len(p.free); n > 0 {
		c := p.free[n-1]
		p.free = p.free[:n-1]
		c.Reused, c.idleAt = false, -1
		return c
	}
	c := &Conn{pool: p, idleAt: -1}
	c.expiry.Init(c.Discard)
	return c
}

// Release gives a connection back for reuse. The response must have been read whole.
func (c *Conn) Release() {
	p, g := c.pool, c.group
	if g == nil || p.backends[c.target.ID].generation != c.target.Generation || len(g.idle) >= p.MaxIdle ||
		!c.Quiet() {
		c.Discard()
		return
	}
	c.Own(nil)
	c.idleAt = len(g.idle)
	g.idle = append(g.idle, c)
	p.Stats.Idle++
	p.loop.Set(&c.expiry, p.IdleTime)
}

// Discard closes a connection.
func (c *Conn) Discard() {
	if !c.IsOpen() {
		return
	}
	p := c.pool
	if c.idleAt >= 0 {
		c.group.forget(c)
		p.Stats.Idle--
	}
	p.loop.Drop(&c.expiry)
	c.Close()
	c.group = nil
	p.closed()
	p.free = append(p.free, c)
}

// OnEvent is called when an idle connection says something: its end, or bytes that nobody
// asked for. Either way it is of no more use.
func (c *Conn) OnEvent(*reactor.Conn) {
	if !c.Quiet() {
		c.Discard()
	}
}

func (g *group) forget(c *Conn) {
	last := len(g.idle) - 1
	g.idle[c.idleAt] = g.idle[last]
	g.idle[c.idleAt].idleAt = c.idleAt
	g.idle[last] = nil
	g.idle = g.idle[:last]
	c.idleAt = -1
}
