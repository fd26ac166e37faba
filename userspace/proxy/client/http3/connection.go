package http3

import (
	"context"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/io/leaky"
	"github.com/kerngate/kerngate/userspace/proxy/io/linger"
)

// connection is what the requests of a connection share.
type connection struct {
	server *Server
	quic   *quic.Conn
	about  exchange.Connection
	gone   <-chan struct{} // closed at its end
	began  time.Time
	held   exchange.HeldBy // by bodies that wait for their pods

	mu      sync.Mutex
	dropped linger.Budget
	open    int // requests
	served  bool
	resets  leaky.Bucket // requests taken back
	idle    *time.Timer  // while there are none
}

type connectionKey struct{}

// opened notes what the requests of a connection have in common.
func (s *Server) opened(ctx context.Context, c *quic.Conn) context.Context {
	state := c.ConnectionState().TLS
	conn := &connection{server: s, quic: c, gone: c.Context().Done(), began: time.Now()}
	about := &conn.about
	*about = exchange.Connection{
		Peer: addrPort(c.RemoteAddr()), Local: addrPort(c.LocalAddr()), Protocol: exchange.HTTP3,
		TLS: exchange.NewTLS(s.worker.Config.Load().TLS, &state),
	}
	about.Client = about.Peer
	conn.idle = time.AfterFunc(s.worker.Config.Load().Settings.HeadTimeout, conn.expire)
	if c, ok := ctx.Value(connectingKey{}).(*connecting); ok {
		c.opened.Store(true)
		s.crowd.opened(c, conn)
	}
	s.stats.Connections.Add(1)
	s.stats.Open.Add(1)
	context.AfterFunc(c.Context(), func() {
		s.stats.Open.Add(-1)
		conn.idle.Stop()
	})
	return context.WithValue(ctx, connectionKey{}, conn)
}

// begin notes that a request has come.
func (c *connection) begin(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open++; c.open == 1 {
		c.idle.Stop()
	}
	if !c.served {
		c.served = true
		if opening, ok := ctx.Value(connectingKey{}).(*connecting); ok {
			c.server.crowd.used(opening)
		}
	}
}

// crowded reports whether the connection has more requests than it may have at the moment.
func (c *connection) crowded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.server.worker
	return c.open > 1 && c.open > w.Overload.Requests(w.Config.Load().Settings.MaxStreams)
}

// requests returns how many there are.
func (c *connection) requests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(1, c.open)
}

// resetRate is how many requests a client may take back before they are answered, as over HTTP/2:
// they cost pods work for nothing (rapid reset, CVE-2023-44487).
var resetRate = leaky.Rate{Burst: 400, PerSecond: 50}

// takenBack notes that the client has taken back a request that was not answered, and ends the
// connection of one who does nothing else.
func (c *connection) takenBack() {
	c.mu.Lock()
	within := c.resets.Take(1, int64(time.Since(c.began)), resetRate)
	c.mu.Unlock()
	if !within {
		c.quic.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad), "resets")
	}
}

// end notes that a request has ended.
func (c *connection) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open--; c.open == 0 {
		c.idle.Reset(c.server.worker.Config.Load().Settings.IdleTimeout)
	}
}

// expire ends a connection that is without a request for too long: for --head-timeout before its
// first, later for --idle-timeout.
func (c *connection) expire() { c.closeIdle() }

// closeIdle ends the connection if it has no request. It reports whether it did.
func (c *connection) closeIdle() bool {
	c.mu.Lock()
	idle := c.open == 0
	c.mu.Unlock()
	if idle {
		c.quic.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "idle")
	}
	return idle
}
