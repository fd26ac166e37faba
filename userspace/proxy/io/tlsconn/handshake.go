package tlsconn

import (
	"context"
	"crypto/tls"
	"errors"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
)

// ErrTimeout is returned by a handshake that was not done at its deadline.
var ErrTimeout = errors.New("TLS handshake timed out")

// ErrGone is returned by a handshake whose peer went away.
var ErrGone = errors.New("peer closed the connection during the TLS handshake")

// Server does the handshake with a client, parking co, which owns c, and puts the session
// under the connection. The caller's timer must wake co at the deadline (loop time), after
// which ErrTimeout is returned. After an error the alert is sent as far as possible, and
// the connection is of no more use.
//
// The configuration should disable dynamic record sizes: small records only cost.
func Server(co *reactor.Coroutine, c *reactor.Conn, config *tls.Config, deadline int64) (*Layer, error) {
	return (*Budget)(nil).Server(co, c, config, deadline)
}

// Client does the handshake with a pod; otherwise like Server.
func Client(co *reactor.Coroutine, c *reactor.Conn, config *tls.Config, deadline int64) (*Layer, error) {
	return (*Budget)(nil).Client(co, c, config, deadline)
}

// Server is like the function, within the budget.
func (b *Budget) Server(co *reactor.Coroutine, c *reactor.Conn, config *tls.Config, deadline int64) (*Layer, error) {
	l := b.layer(co, c, deadline)
	l.tls = tls.Server(&l.transport, config)
	return l.handshake()
}

// Client is like the function, within the budget.
func (b *Budget) Client(co *reactor.Coroutine, c *reactor.Conn, config *tls.Config, deadline int64) (*Layer, error) {
	l := b.layer(co, c, deadline)
	l.tls = tls.Client(&l.transport, config)
	return l.handshake()
}

func (b *Budget) layer(co *reactor.Coroutine, c *reactor.Conn, deadline int64) *Layer {
	// What follows the handshake may have been read with its end.
	return &Layer{more: true, transport: transport{conn: c, co: co, deadline: deadline, budget: b}}
}

func (l *Layer) handshake() (*Layer, error) {
	t := &l.transport
	// A context that cannot end: otherwise crypto/tls would start a goroutine to watch it.
	err := l.tls.HandshakeContext(context.Background())
	t.pause()
	for err == nil && l.Unsent() {
		err = t.await(reactor.Writable)
	}
	t.co, t.budget = nil, nil
	if err != nil {
		t.flush() // the alert
		t.release()
		if err == errCutOff {
			err = ErrGone
		}
		return nil, err
	}
	t.conn.SetLayer(l)
	return l, nil
}
