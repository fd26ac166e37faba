// Package tlsconn is TLS as a layer of the reactor's connections, on crypto/tls, for both
// sides: towards clients and towards pods.
//
// crypto/tls blocks. During the handshake that is what a coroutine is for: it parks where
// the socket has nothing to read. Afterwards nothing may block, because an exchange waits
// for two connections at once; then the transport answers with an error that crypto/tls
// takes for a passing one, and keeps the part of a record that it has.
package tlsconn

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/reactor"
)

// ErrTimeout is returned by a handshake that was not done at its deadline.
var ErrTimeout = errors.New("TLS handshake timed out")

// ErrGone is returned by a handshake whose peer went away.
var ErrGone = errors.New("peer closed the connection during the TLS handshake")

// Layer is an established TLS session. It implements reactor.Layer.
type Layer struct {
	tls       *tls.Conn
	transport transport
}

// maxPlain is what one TryWrite encrypts at most: three records, whose ciphertext fits
// into one large buffer and goes out by one system call.
const maxPlain = 3 * 16 << 10

// recordRoom is what a record adds to its plain text at most (RFC 8446 section 5.2).
const recordRoom = 256 + 5

// State returns what the handshake has settled.
func (l *Layer) State() tls.ConnectionState { return l.tls.ConnectionState() }

// TryRead implements reactor.Layer, like the methods below.
func (l *Layer) TryRead(p []byte) (int, error) {
	t := &l.transport
	t.sawEnd = false
	n, err := l.tls.Read(p)
	switch {
	case n > 0:
		return n, nil
	case err == errTemporary:
		return 0, reactor.ErrWouldBlock
	case err == io.EOF && t.sawEnd:
		// The peer closed without saying so: someone may have cut the stream short.
		return 0, io.ErrUnexpectedEOF
	case err == nil:
		return 0, reactor.ErrWouldBlock
	}
	return 0, err
}

// TryWrite encrypts as much as fits into a buffer and sends it as far as the socket takes it.
func (l *Layer) TryWrite(a, b []byte) (int, error) {
	t := &l.transport
	if err := t.flush(); err != nil {
		return 0, err
	}
	a = a[:min(len(a), maxPlain)]
	b = b[:min(len(b), maxPlain-len(a))]
	n := len(a) + len(b)
	t.gather = n > maxRecord || len(a) > 0 && len(b) > 0
	t.expect = n + (n/maxRecord+2)*recordRoom
	for _, p := range [2][]byte{a, b} {
		if len(p) == 0 {
			continue
		}
		if _, err := l.tls.Write(p); err != nil {
			return 0, err
		}
	}
	t.gather = false
	if err := t.flush(); err != nil && err != reactor.ErrWouldBlock {
		return 0, err
	}
	return n, nil
}

// TryFlush sends what is left.
func (l *Layer) TryFlush() error { return l.transport.flush() }

// Unsent reports whether something is left to send.
func (l *Layer) Unsent() bool { return len(l.transport.out) > 0 }

// Quiet reports whether the peer has said nothing, but for what TLS itself deals with.
func (l *Layer) Quiet() bool {
	c := l.transport.conn
	if c.IsBroken() || c.PeerDone() || l.Unsent() {
		return false
	}
	var one [1]byte
	_, err := l.TryRead(one[:])
	return err == reactor.ErrWouldBlock
}

// CloseWrite tells the peer that no more comes.
func (l *Layer) CloseWrite() { l.tls.CloseWrite() }

// Close gives buffers back.
func (l *Layer) Close(properly bool) {
	if properly && !l.transport.conn.IsBroken() && l.transport.flush() == nil {
		l.tls.CloseWrite() // an alert that does not fit now is lost with the connection
	}
	l.transport.release()
}

// maxRecord is the most plain text that one record holds.
const maxRecord = 16 << 10

// transport is the socket as crypto/tls sees it, a net.Conn.
type transport struct {
	conn   *reactor.Conn
	co     *reactor.Coroutine // during the handshake, nil afterwards
	late   func() bool        // during the handshake: is the deadline past?
	out    []byte             // ciphertext on its way: out[sent:], from the loop's buffers
	buf    []byte             // out's whole buffer, nil if there is none
	expect int                // bytes of ciphertext that this write may come to
	sent   int
	gather bool // keep what is written until all of it is there
	sawEnd bool // Read has met the end of the stream
}

// Read is called by crypto/tls.
func (t *transport) Read(p []byte) (int, error) {
	for {
		n, err := t.conn.ReadSocket(p)
		switch {
		case err == nil:
			return n, nil
		case err == io.EOF:
			t.sawEnd = true
			return 0, io.EOF
		case err != reactor.ErrWouldBlock:
			return 0, err
		case t.co == nil:
			return 0, errTemporary
		}
		if err := t.park(reactor.Readable); err != nil {
			return 0, err
		}
	}
}

// park waits during the handshake. What was written goes out first: the peer waits for it.
func (t *transport) park(want reactor.Interest) error {
	t.gather = false
	switch err := t.flush(); err {
	case nil:
	case reactor.ErrWouldBlock:
		want |= reactor.Writable
	default:
		return err
	}
	t.conn.Want(want)
	t.co.Park()
	switch {
	case t.co.Dying(), t.conn.IsBroken():
		return ErrGone
	case t.late():
		return ErrTimeout
	}
	return nil
}

// Write is called by crypto/tls with one record, or a flight of the handshake. It takes
// all of it.
func (t *transport) Write(p []byte) (int, error) {
	n := 0
	if !t.gather && len(t.out) == 0 {
		for n < len(p) {
			m, err := t.conn.WriteSocket(p[n:])
			if err == reactor.ErrWouldBlock {
				break
			}
			if err != nil {
				return n, err
			}
			n += m
		}
	}
	if n < len(p) {
		t.keep(p[n:])
	}
	return len(p), nil
}

// keep holds ciphertext until the socket takes it.
func (t *transport) keep(p []byte) {
	if t.buf == nil {
		b := &t.conn.Loop().Buffers
		if max(t.expect, len(p)) <= reactor.SmallBuffer {
			t.buf = b.Small()
		} else {
			t.buf = b.Large()
		}
		t.out = t.buf[:0]
	}
	t.out = append(t.out, p...)
}

// flush sends what is held.
func (t *transport) flush() error {
	for t.sent < len(t.out) {
		n, err := t.conn.WriteSocket(t.out[t.sent:])
		if err != nil {
			return err
		}
		t.sent += n
	}
	t.release()
	return nil
}

func (t *transport) release() {
	if t.buf != nil {
		t.conn.Loop().Buffers.Put(t.buf)
	}
	t.buf, t.out, t.sent, t.expect = nil, nil, 0, 0
}

// temporary is how crypto/tls is told to try again later: any other error would end the
// session for good.
type temporary struct{}

func (temporary) Error() string   { return "operation would block" }
func (temporary) Timeout() bool   { return false }
func (temporary) Temporary() bool { return true }

var errTemporary net.Error = temporary{}

// What else a net.Conn has, and nobody calls.

func (t *transport) Close() error                     { return nil }
func (t *transport) LocalAddr() net.Addr              { return address{} }
func (t *transport) RemoteAddr() net.Addr             { return address{} }
func (t *transport) SetDeadline(time.Time) error      { return nil }
func (t *transport) SetReadDeadline(time.Time) error  { return nil }
func (t *transport) SetWriteDeadline(time.Time) error { return nil }

type address struct{}

func (address) Network() string { return "tcp" }
func (address) String() string  { return "" }
