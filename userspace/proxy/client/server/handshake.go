package server

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/io/tlsconn"
)

const (
	// maxHandshakes bounds the handshakes that a worker has under way: those beyond it
	// would only wait for each other, each with some 20 KiB.
	maxHandshakes = 2048
	// maxHandshakesPerSource bounds those of one address.
	maxHandshakesPerSource = maxHandshakes / 4
	// invalidTime is how long crypto/tls has for what is no ClientHello.
	invalidTime = time.Second
	// handshakeBudget is how much of a turn of the loop may go to handshakes before the
	// open connections have their turn again. Measured, see docs/performance.md.
	handshakeBudget = time.Millisecond
)

// HandshakeFaults are the reasons for which a connection that should have become TLS has
// been closed.
var HandshakeFaults = [...]string{
	faultTimeout:  "timeout",
	faultClosed:   "closed",
	faultLimit:    "limit",
	faultNotTLS:   "not_tls",
	faultVersion:  "version",
	faultSuite:    "suite",
	faultProtocol: "protocol",
	faultAlert:    "alert",
	faultInvalid:  "invalid",
}

const (
	faultTimeout  = iota // not done in HeadTimeout
	faultClosed          // the client went away
	faultLimit           // too many are under way
	faultNotTLS          // clear text, or noise
	faultVersion         // the client has no version that we have
	faultSuite           // nor a cipher suite
	faultProtocol        // nor an application protocol
	faultAlert           // the client has refused, most often our certificate
	faultInvalid         // anything that TLS does not allow
)

// HandshakeStats count a worker's handshakes.
type HandshakeStats struct {
	Done    [2][2]atomic.Uint64 // by version, TLS 1.2 and 1.3, and whether a session was resumed
	Failed  [len(HandshakeFaults)]atomic.Uint64
	Open    atomic.Int64  // under way
	Delayed atomic.Uint64 // steps that had to wait for a later turn of the loop
}

// handshake is the task that makes a connection TLS.
type handshake struct {
	conn   *conn
	tables *config.TLS
}

// encrypt begins the handshake once the client has said hello, unless it asks for a host that
// does it itself. An event that says more has arrived while it runs is its own.
func (c *conn) encrypt() {
	s := c.server
	tables := s.worker.Config.Load().TLS
	name, state := c.hello()
	switch {
	case state == tlsconn.HelloPartial && !c.PeerDone():
		return
	case state == tlsconn.HelloWhole && tables.Passthrough:
		if h := tables.Lookup(name); h.Passthrough != nil {
			c.passOn(h)
			return
		}
	case state == tlsconn.HelloInvalid:
		// crypto/tls says why, which it may have to wait for.
		c.deadline = min(c.deadline, s.worker.Loop.Now()+int64(invalidTime))
		s.worker.Loop.Set(&c.timer, time.Duration(c.deadline-s.worker.Loop.Now()))
	}
	s.takeHandshake(c)
	s.stats.Handshakes.Open.Add(1)
	c.active = true
	s.worker.Loop.Go(&handshake{conn: c, tables: tables})
}

// hello looks at the ClientHello, and returns the name of the host that it asks for. Its bytes
// stay in the socket, for whoever takes the connection. Until it is whole the connection holds
// nothing but its descriptor.
func (c *conn) hello() (name string, state tlsconn.HelloState) {
	buffers := &c.server.worker.Loop.Buffers
	buf := buffers.Small()
	defer buffers.Put(buf)
	n, _, err := unix.Recvfrom(c.FD(), buf[:tlsconn.MaxHello], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return "", tlsconn.HelloPartial
	case err != nil || n == 0:
		return "", tlsconn.HelloInvalid // the end: the handshake finds out
	}
	return tlsconn.ServerName(buf[:n])
}

// takeHandshake counts the connection's handshake as under way. If there are too many, another
// one ends: the oldest of the same source if that has too many, or else of the source with most.
func (s *Server) takeHandshake(c *conn) {
	from := c.source()
	victim := s.handshakes.Oldest(from)
	if s.handshakes.Of(from) < maxHandshakesPerSource {
		if victim = nil; s.stats.Handshakes.Open.Load() >= maxHandshakes {
			victim, _ = s.handshakes.Worst()
		}
	}
	if victim != nil {
		victim.Holder.(*conn).refuseHandshake(faultLimit, nil)
	}
	s.handshakes.Take(&c.shaking, from)
}

// Run does the handshake and hands the connection over to what the client wants to speak.
func (h *handshake) Run(co *reactor.Coroutine) {
	c := h.conn
	c.Own(co)
	c.opening = co
	layer, err := c.server.budget.Server(co, &c.Conn, h.tables.Config, c.deadline)
	c.Own(nil)
	h.ended()
	if err != nil {
		if c.IsOpen() { // else somebody has closed it, and counted that
			c.refuseHandshake(faultOf(err), err)
		}
		return
	}
	state := layer.State()
	c.server.stats.Handshakes.count(&state)
	c.about.TLS = exchange.NewTLS(h.tables, &state)
	c.encrypted = false
	if state.NegotiatedProtocol == "h2" {
		c.serveHTTP2(nil)
		return
	}
	loop := c.server.worker.Loop
	loop.Set(&c.timer, c.server.worker.Config.Load().Settings.HeadTimeout)
	if !c.Quiet() {
		c.OnEvent(&c.Conn) // the request came with the end of the handshake
	}
}

func (h *handshake) ended() {
	s := h.conn.server
	h.conn.opening, h.conn.active = nil, false
	s.handshakes.Drop(&h.conn.shaking)
	s.stats.Handshakes.Open.Add(-1)
	s.stats.Handshakes.Delayed.Store(s.budget.Delayed)
}

// Crashed ends the connection after a panic.
func (h *handshake) Crashed(reason any, stack []byte) {
	h.ended()
	s := h.conn.server
	s.worker.Fault("TLS handshake", h.conn.about.Client, reason, stack)
	h.conn.Reset()
	h.conn.close()
}

// refuseHandshake closes the connection. The client has its alert, if there is one for it.
func (c *conn) refuseHandshake(fault int, err error) {
	c.server.stats.Handshakes.Failed[fault].Add(1)
	c.server.log.Debug().Stringer("client", c.about.Client).Str("reason", HandshakeFaults[fault]).Err(err).
		Msg("TLS handshake failed")
	if fault == faultLimit || fault == faultTimeout {
		c.Reset() // leaves nothing behind here
	}
	c.close()
}

func (h *HandshakeStats) count(state *tls.ConnectionState) {
	version, resumed := 0, 0
	if state.Version == tls.VersionTLS13 {
		version = 1
	}
	if state.DidResume {
		resumed = 1
	}
	h.Done[version][resumed].Add(1)
}

// faultOf classifies the error of a handshake. crypto/tls has no types for those in which
// the two sides have nothing in common; a test holds the words.
func faultOf(err error) int {
	var header tls.RecordHeaderError
	var op *net.OpError
	text := err.Error()
	switch {
	case err == tlsconn.ErrTimeout:
		return faultTimeout
	case err == tlsconn.ErrGone:
		return faultClosed
	case errors.As(err, &header) && strings.Contains(header.Msg, "does not look like"):
		return faultNotTLS
	case errors.As(err, &op) && op.Op == "remote error":
		return faultAlert
	case strings.Contains(text, "unsupported versions"), strings.Contains(text, "SSLv2"):
		return faultVersion
	case strings.Contains(text, "no cipher suite"):
		return faultSuite
	case strings.Contains(text, "unsupported application protocols"):
		return faultProtocol
	}
	return faultInvalid
}
