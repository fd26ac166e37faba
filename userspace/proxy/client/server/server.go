// Package server is the HTTP/1.1 front end: it accepts connections, reads requests from
// them, has each carried out as an exchange and writes the response.
//
// A connection that waits for its next request is a small struct and a timer; buffers,
// parser state and a coroutine are taken from the worker's pools when bytes arrive and go
// back when the connection has nothing more to say.
package server

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/userspace/proxy/client/http2"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/io/tlsconn"
	"github.com/kerngate/kerngate/userspace/proxy/observe/overload"
)

// Server serves the client connections of one worker.
type Server struct {
	worker    *exchange.Worker
	log       zerolog.Logger
	listeners []*reactor.Conn
	inherited []*reactor.Conn // of other proxies
	sessions  []*session      // free
	conns     map[*conn]struct{}
	paused    reactor.Timer // ends a pause of the listeners
	draining  bool
	date      []byte // "Date: ...\r\n" of the current second
	dateAt    int64
	stats     *Stats
	http2     *http2.Server
	budget    *tlsconn.Budget
	published *uint32 // open connections, where the kernel reads them
	accepted  *uint64

	// Who holds how much.
	connections overload.Shares
	unfinished  overload.Shares // without a whole request
	handshakes  overload.Shares // under way
}

// Stats are a worker's counts of connections; the worker writes, anybody reads.
type Stats struct {
	Accepted, AcceptErrors atomic.Uint64
	Full                   atomic.Uint64 // connections closed at once, as there were too many
	Open, Active           atomic.Int64
	Evicted                EvictionStats
	HeadersRefused         HeaderStats // PROXY headers
	Handshakes             HandshakeStats
	Passthrough            PassthroughStats
	HTTP2                  http2.Stats
}

// New makes a server. open and accepted are where the kernel reads the worker's number of
// connections; they may be nil.
func New(w *exchange.Worker, stats *Stats, open *uint32, accepted *uint64, log zerolog.Logger) *Server {
	s := &Server{worker: w, log: log, stats: stats, conns: map[*conn]struct{}{}, published: open, accepted: accepted}
	s.http2 = http2.NewServer(w, &stats.HTTP2, log)
	s.paused.Init(s.resume)
	w.Loop.OnTrim(func() { s.sessions = reactor.Trimmed(s.sessions) })
	s.budget = tlsconn.NewBudget(w.Loop, handshakeBudget)
	if s.published == nil {
		s.published = new(uint32)
	}
	if s.accepted == nil {
		s.accepted = new(uint64)
	}
	return s
}

// Listen starts to accept from a non-blocking listening socket, whose TCP options the
// accepted connections inherit.
func (s *Server) Listen(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	c := new(reactor.Conn)
	if err := s.worker.Loop.Listen(c, fd, acceptor{s}); err != nil {
		return err
	}
	s.listeners = append(s.listeners, c)
	return nil
}

// Inherit starts to accept from a listening socket of another proxy, which is gone or does not
// respond, until StopInherited.
func (s *Server) Inherit(fd int) error {
	c := new(reactor.Conn)
	if err := s.worker.Loop.Listen(c, fd, acceptor{s}); err != nil {
		return err
	}
	s.inherited = append(s.inherited, c)
	return nil
}

// StopInherited closes the sockets of Inherit after taking what is queued on them.
func (s *Server) StopInherited() {
	s.inherited = s.stop(s.inherited)
}

// Drain makes every response say that its connection ends, and HTTP/2 clients go elsewhere.
// The listeners stay open until StopListening, because the kernel may have queued
// connections on them already.
func (s *Server) Drain() {
	s.draining = true
	for c := range s.conns {
		if c.http2 != nil {
			c.http2.Drain()
		}
	}
}

// StopListening closes the listeners after taking what is queued on them.
func (s *Server) StopListening() {
	s.listeners, s.inherited = s.stop(s.listeners), s.stop(s.inherited)
	s.worker.Loop.Drop(&s.paused)
}

func (s *Server) stop(listeners []*reactor.Conn) []*reactor.Conn {
	for _, l := range listeners {
		acceptor{s}.OnEvent(l)
		l.Close()
	}
	return nil
}

// Open returns the number of client connections.
func (s *Server) Open() int { return len(s.conns) }

// CloseIdle closes the connections that wait for a request.
func (s *Server) CloseIdle() {
	for c := range s.conns {
		c.closeIdle()
	}
}

// closeIdle closes the connection if it waits for a request, and none has arrived that the
// loop has not seen yet. It reports whether it did.
func (c *conn) closeIdle() bool {
	if c.active {
		return false
	}
	var one [1]byte
	if n, _, err := unix.Recvfrom(c.FD(), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT); err == nil && n > 0 {
		return false
	}
	if c.http2 != nil {
		c.http2.CloseIdle()
		return true
	}
	c.close()
	return true
}

// EndTunnels ends the tunnels, WebSockets with a close frame. Their connections close when
// the clients have answered, after two seconds at the latest.
func (s *Server) EndTunnels() { s.worker.EndTunnels() }

// CloseAll closes every connection, whatever it is doing.
func (s *Server) CloseAll() {
	for c := range s.conns {
		c.Reset()
		c.drop()
	}
}

type acceptor struct{ s *Server }

// acceptBatch is how many connections are taken per event, so that a flood of them does
// not keep the open ones waiting.
const acceptBatch = 32

// OnEvent accepts.
func (a acceptor) OnEvent(l *reactor.Conn) {
	for range acceptBatch {
		fd, sa, err := unix.Accept4(l.FD(), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			a.s.open(fd, sa)
		case unix.EAGAIN:
			return
		case unix.EINTR, unix.ECONNABORTED:
		default:
			// No descriptors or memory. What is queued stays queued; idle connections
			// make room.
			a.s.stats.AcceptErrors.Add(1)
			a.s.makeRoom(false, true)
			a.s.pause()
			return
		}
	}
}

// acceptPause is how long nothing is accepted after an attempt that has failed: the listeners stay
// readable, and would take all of the worker's time without an effect.
const acceptPause = 100 * time.Millisecond

// pause stops accepting for a moment.
func (s *Server) pause() {
	s.accepting(false)
	s.worker.Loop.Set(&s.paused, acceptPause)
}

// resume goes on accepting.
func (s *Server) resume() {
	s.accepting(true)
}

func (s *Server) accepting(on bool) {
	for _, listeners := range [][]*reactor.Conn{s.listeners, s.inherited} {
		for _, l := range listeners {
			s.worker.Loop.Listening(l, on)
		}
	}
}

func (s *Server) open(fd int, peer unix.Sockaddr) {
	settings := &s.worker.Config.Load().Settings
	from := addrPort(peer)
	if !s.enter(sourceOf(settings, from.Addr(), from.Addr())) {
		unix.Close(fd)
		return
	}
	c := &conn{server: s}
	c.counted.Holder, c.beginning.Holder, c.shaking.Holder = c, c, c
	c.timer.Init(c.idleTimeout)
	if err := s.worker.Loop.Add(&c.Conn, fd, c); err != nil {
		s.worker.Overload.Leave()
		unix.Close(fd)
		s.stats.AcceptErrors.Add(1)
		return
	}
	c.about.Peer = from
	c.about.Client = c.about.Peer
	if sa, err := unix.Getsockname(fd); err == nil {
		c.about.Local = addrPort(sa)
	}
	s.conns[c] = struct{}{}
	s.stats.Accepted.Add(1)
	s.stats.Open.Add(1)
	atomic.StoreUint32(s.published, uint32(len(s.conns)))
	atomic.AddUint64(s.accepted, 1)
	c.unannounced = settings.ProxyHeaderFrom.Contain(c.about.Peer.Addr())
	c.encrypted = settings.IsTLS(c.about.Local)
	c.deadline = s.worker.Loop.Now() + int64(settings.HeadTimeout)
	s.worker.Loop.Set(&c.timer, settings.HeadTimeout)
	c.countSource()
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// conn is one client connection between requests.
type conn struct {
	reactor.Conn
	server *Server
	timer  reactor.Timer
	about  exchange.Connection
	active bool // a session serves it, or requests of HTTP/2 are under way
	served bool // a request was served
	http2  *http2.Conn
	reader *session // reads the head of a request; nil: none waits for one

	// What the connection holds of its source's share.
	counted, beginning, shaking overload.Claim
	evicted                     bool // in favour of others

	// What comes before the first request, in this order.
	unannounced bool               // a PROXY header must come first
	encrypted   bool               // a TLS handshake must come first
	opening     *reactor.Coroutine // does the handshake
	deadline    int64              // of both, loop time
}

// OnEvent goes on with a connection that has something to say: with its beginning, then
// with a session.
func (c *conn) OnEvent(*reactor.Conn) {
	if c.http2 != nil {
		c.http2.OnEvent()
		return
	}
	if c.active {
		return
	}
	if c.unannounced && !c.readProxyHeader() {
		return
	}
	if c.encrypted {
		c.encrypt()
		return
	}
	s := c.server.session()
	s.conn = c
	c.active = true
	c.server.stats.Active.Add(1)
	c.server.worker.Loop.Go(s)
}

func (c *conn) idleTimeout() {
	switch {
	case c.opening != nil:
		c.opening.Wake()
	case c.active:
	case c.unannounced:
		c.refuseHeader(headerTimeout)
	case c.encrypted:
		c.refuseHandshake(faultTimeout, nil)
	default:
		c.close()
	}
}

func (c *conn) close() {
	s := c.server
	if _, ok := s.conns[c]; !ok {
		return
	}
	delete(s.conns, c)
	s.connections.Drop(&c.counted)
	s.unfinished.Drop(&c.beginning)
	s.handshakes.Drop(&c.shaking)
	s.worker.Loop.Drop(&c.timer)
	c.Close()
	if c.opening != nil {
		c.opening.Wake() // to see that there is nothing left to do
	}
	s.stats.Open.Add(-1)
	s.worker.Overload.Leave()
	atomic.StoreUint32(s.published, uint32(len(s.conns)))
}

// session takes a session from the pool.
func (s *Server) session() *session {
	if n := len(s.sessions); n > 0 {
		p := s.sessions[n-1]
		s.sessions = s.sessions[:n-1]
		return p
	}
	p := &session{server: s}
	p.exchange.Setup()
	p.timer.Init(p.expire)
	return p
}

const maxFreeSessions = 1024

func (s *Server) put(p *session) {
	s.worker.Loop.Drop(&p.timer)
	p.conn, p.co = nil, nil
	if len(s.sessions) < maxFreeSessions {
		s.sessions = append(s.sessions, p)
	}
}

// dateField returns the Date field line of the current second.
func (s *Server) dateField() []byte {
	if now := s.worker.Loop.Now(); s.date == nil || now-s.dateAt >= int64(time.Second) {
		t := s.worker.Loop.Time(now)
		s.dateAt = now - int64(t.Nanosecond())
		s.date = appendDate(s.date[:0], t)
	}
	return s.date
}
