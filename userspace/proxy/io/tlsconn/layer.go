// Package tlsconn is TLS as a layer of the reactor's connections, on crypto/tls, for both
// sides: towards clients and towards pods.
//
// crypto/tls blocks. During the handshake that is what a coroutine is for: it parks where
// the socket has nothing to read. Afterwards nothing may block, because an exchange waits
// for two connections at once; then the transport answers with an error that crypto/tls
// takes for a passing one, and keeps the part of a record that it has.
//
// A session that waits holds no buffer of the loop: ciphertext is read into one that is
// given back as soon as it is used up, and written from one that lives until the socket
// has taken it.
package tlsconn

import (
	"crypto/tls"
	"io"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
)

// Layer is an established TLS session. It implements reactor.Layer.
type Layer struct {
	tls       *tls.Conn
	transport transport
	more      bool // crypto/tls may hold bytes, plain or not: it has not said that it lacks some
	peeked    bool // Quiet has met the byte in first
	first     [1]byte
}

// maxRecord is the most plain text that one record holds, in bytes (RFC 8446 section 5.1).
const maxRecord = 16 << 10

// maxPlain is what one TryWrite encrypts at most: three records, whose ciphertext fits
// into one large buffer and goes out by one system call.
const maxPlain = 3 * maxRecord

// State returns what the handshake has settled.
func (l *Layer) State() tls.ConnectionState { return l.tls.ConnectionState() }

// TryRead implements reactor.Layer, like the methods below.
func (l *Layer) TryRead(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if l.peeked {
		l.peeked = false
		p[0] = l.first[0]
		if len(p) == 1 {
			return 1, nil
		}
		n, _ := l.tls.Read(p[1:]) // an error that matters comes back with the next read
		return n + 1, nil
	}
	n, err := l.tls.Read(p)
	l.more = n > 0
	switch {
	case n > 0:
		return n, nil
	case err == errTemporary, err == nil:
		return 0, reactor.ErrWouldBlock
	case err == errCutOff:
		// The peer closed without saying so: someone may have cut the stream short.
		return 0, io.ErrUnexpectedEOF
	}
	return 0, err
}

// TryWrite encrypts up to 48 KiB and sends it as far as the socket takes it.
func (l *Layer) TryWrite(a, b []byte) (int, error) {
	t := &l.transport
	if err := t.flush(); err != nil {
		return 0, err
	}
	a = a[:min(len(a), maxPlain)]
	b = b[:min(len(b), maxPlain-len(a))]
	n := len(a) + len(b)
	t.gather = n > maxRecord
	err := l.write(a, b)
	t.gather = false
	if err == nil {
		err = t.flush()
	}
	if err != nil && err != reactor.ErrWouldBlock {
		return 0, err
	}
	return n, nil
}

// write encrypts a and b. The end of a shares its record with the beginning of b: a head
// and a small body are one record.
func (l *Layer) write(a, b []byte) error {
	for len(a) > 0 && (len(b) == 0 || len(a) >= maxRecord) {
		n, err := l.tls.Write(a[:min(len(a), maxRecord)])
		if err != nil {
			return err
		}
		a = a[n:]
	}
	if len(a) > 0 {
		buffers := &l.transport.conn.Loop().Buffers
		joined := buffers.Small()
		n := copy(joined[:maxRecord], a)
		m := copy(joined[n:maxRecord], b)
		_, err := l.tls.Write(joined[:n+m])
		buffers.Put(joined)
		if err != nil {
			return err
		}
		b = b[m:]
	}
	if len(b) == 0 {
		return nil
	}
	_, err := l.tls.Write(b)
	return err
}

// TryFlush sends what is left.
func (l *Layer) TryFlush() error { return l.transport.flush() }

// Unsent reports whether something is left to send.
func (l *Layer) Unsent() bool { return len(l.transport.out) > 0 }

// Quiet reports whether the peer has said nothing but what TLS itself deals with.
func (l *Layer) Quiet() bool {
	t := &l.transport
	if l.peeked {
		return false
	}
	if !l.more && len(t.in) == 0 && t.conn.QuietSocket() {
		return true
	}
	n, err := l.TryRead(l.first[:])
	l.peeked = n == 1
	return err == reactor.ErrWouldBlock
}

// CloseWrite tells the peer that no more comes.
func (l *Layer) CloseWrite() {
	if l.transport.flush() == nil {
		l.tls.CloseWrite()
	}
}

// Close gives buffers back. An alert that does not fit now is lost with the connection.
func (l *Layer) Close(properly bool) {
	if properly && !l.transport.conn.IsBroken() {
		l.CloseWrite()
	}
	l.transport.release()
}
