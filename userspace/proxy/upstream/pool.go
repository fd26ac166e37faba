// Package upstream keeps a worker's connections to pods.
package upstream

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/proxy/reactor"
)

// ErrTimeout is returned by Dial when the pod did not answer in time.
var ErrTimeout = errors.New("timed out")

// Target is where a connection goes: the pod, and the generation of its entry in
// kg_backends, so that a connection is never reused for another pod with the same id.
type Target struct {
	ID         state.BackendID
	Generation uint32
	Address    netip.AddrPort
}

// Conn is a connection to a pod.
type Conn struct {
	reactor.Conn
	target Target
	pool   *Pool
	expiry reactor.Timer
	Reused bool // it has carried a request before
	idleAt int  // index in its backend's idle list, -1 while in use
}

// Pool holds a loop's connections to all pods.
type Pool struct {
	loop     *reactor.Loop
	backends []perBackend // by backend id
	free     []*Conn
	MaxIdle  int           // per pod and worker
	IdleTime time.Duration // after which an unused connection is closed
	Stats    Stats
}

type perBackend struct {
	generation uint32
	idle       []*Conn // last used last
}

// Stats counts a pool's doings.
type Stats struct {
	Dialed, Reused, Failed uint64
	Open, Idle             int
}

// NewPool makes a pool for backend ids below n.
func NewPool(l *reactor.Loop, n int) *Pool {
	return &Pool{loop: l, backends: make([]perBackend, n), MaxIdle: 1024, IdleTime: 60 * time.Second}
}

// Idle takes an open idle connection to the target, nil if there is none.
func (p *Pool) Idle(t Target) *Conn {
	b := &p.backends[t.ID]
	if b.generation != t.Generation {
		p.drop(b)
		b.generation = t.Generation
		return nil
	}
	n := len(b.idle)
	if n == 0 {
		return nil
	}
	c := b.idle[n-1]
	b.idle[n-1] = nil
	b.idle = b.idle[:n-1]
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
	fd, err := connect(t.Address)
	if err != nil {
		p.Stats.Failed++
		return nil, err
	}
	c := p.take()
	c.target = t
	if err := p.loop.Add(&c.Conn, fd, c); err != nil {
		unix.Close(fd)
		p.free = append(p.free, c)
		p.Stats.Failed++
		return nil, fmt.Errorf("watch connection: %w", err)
	}
	p.Stats.Open++
	p.Stats.Dialed++
	c.Own(co)
	c.Want(reactor.Writable)
	for c.Ready()&(reactor.Writable|reactor.Broken) == 0 {
		co.Park()
		if co.Dying() || p.loop.Now() >= deadline {
			p.Stats.Failed++
			c.Discard()
			return nil, ErrTimeout
		}
	}
	if e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || e != 0 {
		p.Stats.Failed++
		c.Discard()
		if err != nil {
			return nil, err
		}
		return nil, unix.Errno(e)
	}
	return c, nil
}

// connect starts a TCP connection. The socket is made with socket(2): Go's own dialer
// would make an MPTCP socket, which cannot enter a SOCKMAP.
func connect(a netip.AddrPort) (int, error) {
	family, sa := unix.AF_INET6, unix.Sockaddr(nil)
	if ip := a.Addr().Unmap(); ip.Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}
	} else {
		sa = &unix.SockaddrInet6{Port: int(a.Port()), Addr: ip.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, fmt.Errorf("make socket: %w", err)
	}
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err := unix.Connect(fd, sa); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
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
	p := c.pool
	b := &p.backends[c.target.ID]
	if b.generation != c.target.Generation || len(b.idle) >= p.MaxIdle ||
		!c.Quiet() {
		c.Discard()
		return
	}
	c.Own(nil)
	c.idleAt = len(b.idle)
	b.idle = append(b.idle, c)
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
		p.forget(c)
	}
	p.loop.Drop(&c.expiry)
	c.Close()
	p.Stats.Open--
	p.free = append(p.free, c)
}

// OnEvent is called when an idle connection says something: its end, or bytes that nobody
// asked for. Either way it is of no more use.
func (c *Conn) OnEvent(*reactor.Conn) {
	if !c.Quiet() {
		c.Discard()
	}
}

func (p *Pool) forget(c *Conn) {
	b := &p.backends[c.target.ID]
	last := len(b.idle) - 1
	b.idle[c.idleAt] = b.idle[last]
	b.idle[c.idleAt].idleAt = c.idleAt
	b.idle[last] = nil
	b.idle = b.idle[:last]
	c.idleAt = -1
	p.Stats.Idle--
}

func (p *Pool) drop(b *perBackend) {
	for len(b.idle) > 0 {
		b.idle[len(b.idle)-1].Discard()
	}
}
