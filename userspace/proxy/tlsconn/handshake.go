package tlsconn

import (
	"context"
	"crypto/tls"

	"github.com/kerngate/kerngate/userspace/proxy/reactor"
)

// Server does the handshake with a client, parking co, which owns c, and puts the session
// under the connection. The caller's timer must wake co at the deadline (loop time), after
// which ErrTimeout is returned. After an error the alert is sent as far as possible, and
// the connection is of no more use.
func Server(co *reactor.Coroutine, c *reactor.Conn, config *tls.Config, deadline int64) (*Layer, error) {
	return handshake(co, c, deadline, func(t *transport) *tls.Conn { return tls.Server(t, config) })
}

// Client does the handshake with a pod; otherwise like Server.
func Client(co *reactor.Coroutine, c *reactor.Conn, config *tls.Config, deadline int64) (*Layer, error) {
	return handshake(co, c, deadline, func(t *transport) *tls.Conn { return tls.Client(t, config) })
}

func handshake(co *reactor.Coroutine, c *reactor.Conn, deadline int64, session func(*transport) *tls.Conn) (*Layer, error) {
	l := new(Layer)
	l.transport = transport{conn: c, co: co, late: func() bool { return c.Loop().Now() >= deadline }}
	l.tls = session(&l.transport)
	// A context that cannot end: otherwise crypto/tls would start a goroutine to watch it.
	err := l.tls.HandshakeContext(context.Background())
	t := &l.transport
	t.gather = false
	for err == nil {
		if err = t.flush(); err != reactor.ErrWouldBlock {
			break
		}
		err = t.park(reactor.Writable)
	}
	t.co, t.late = nil, nil
	if err != nil {
		t.flush() // the alert
		t.release()
		return nil, err
	}
	c.SetLayer(l)
	return l, nil
}
