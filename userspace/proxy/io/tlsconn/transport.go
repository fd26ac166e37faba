package tlsconn

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
)

// transport is the socket as crypto/tls sees it, a net.Conn.
type transport struct {
	conn *reactor.Conn

	co       *reactor.Coroutine // during the handshake, nil afterwards
	deadline int64              // of the handshake, loop time
	budget   *Budget
	began    int64 // loop time at which the handshake has gone on, 0 while it waits
	queued   bool  // it waits for the budget

	in     []byte // ciphertext that was read and not used, within inBuf
	inBuf  []byte // from the loop's buffers, nil if there is none
	bulk   bool   // the last read filled its buffer: there is more than small messages
	out    []byte // ciphertext that the socket has not taken, within outBuf
	outBuf []byte
	gather bool  // keep what is written until all of it is there
	err    error // that ended the writing side
}

var (
	errCutOff = errors.New("the connection ended without a TLS close_notify")
	errStuck  = errors.New("the peer makes us answer and does not read")
)

// temporary is how crypto/tls is told to try again later: any other error would end the
// session for good.
type temporary struct{}

func (temporary) Error() string   { return "operation would block" }
func (temporary) Timeout() bool   { return false }
func (temporary) Temporary() bool { return true }

var errTemporary net.Error = temporary{}

// Read is called by crypto/tls, with what its buffer has room for: often no more than 512
// bytes. That is read into directly; what fills it is followed by more, which is then read
// by large system calls.
func (t *transport) Read(p []byte) (int, error) {
	for len(t.in) == 0 {
		n, err := t.receive(p)
		switch {
		case n > 0:
			return n, nil
		case err == nil:
		case err == io.EOF:
			return 0, errCutOff
		case err != reactor.ErrWouldBlock:
			return 0, err
		case t.co == nil:
			return 0, errTemporary
		default:
			t.pause()
			if err := t.await(reactor.Readable); err != nil {
				return 0, err
			}
		}
	}
	n := copy(p, t.in)
	if t.in = t.in[n:]; len(t.in) == 0 {
		t.putIn()
	}
	return n, nil
}

// receive reads from the socket, n bytes into p or any number into in.
func (t *transport) receive(p []byte) (n int, err error) {
	if t.co != nil {
		if t.conn.Ready()&reactor.Readable == 0 {
			return 0, reactor.ErrWouldBlock
		}
		if err := t.enter(); err != nil {
			return 0, err
		}
	}
	if !t.bulk {
		n, err = t.conn.ReadSocket(p)
		t.bulk = n == len(p)
		return n, err
	}
	buf := t.conn.Loop().Buffers.Large()
	n, err = t.conn.ReadSocket(buf)
	t.in, t.inBuf = buf[:n], buf
	t.bulk = n == len(buf)
	if n == 0 {
		t.putIn()
	}
	return 0, err
}

func (t *transport) putIn() {
	if t.inBuf != nil {
		t.conn.Loop().Buffers.Put(t.inBuf)
	}
	t.in, t.inBuf = nil, nil
}

// await parks during the handshake until the connection is what is wanted, or is anything
// else. What was written goes out first: the peer waits for it.
func (t *transport) await(want reactor.Interest) error {
	switch err := t.flush(); err {
	case nil:
	case reactor.ErrWouldBlock:
		want |= reactor.Writable
	default:
		return err
	}
	t.conn.Want(want)
	return t.park()
}

func (t *transport) park() error {
	t.co.Park()
	switch {
	case t.co.Dying(), t.conn.IsBroken(), !t.conn.IsOpen():
		return ErrGone
	case t.conn.Loop().Now() >= t.deadline:
		return ErrTimeout
	}
	return nil
}

// maxHeld bounds the ciphertext that waits for the socket, in bytes: beyond what TryWrite
// adds there are only a few answers of TLS itself, unless a peer provokes them.
const maxHeld = 128 << 10

// Write is called by crypto/tls with one record, or a flight of the handshake. It takes
// all of it.
func (t *transport) Write(p []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	sent := 0
	if !t.gather && len(t.out) == 0 {
		n, err := t.conn.WriteSocket(p)
		if err != nil && err != reactor.ErrWouldBlock {
			t.err = err
			return 0, err
		}
		sent = n
	}
	if sent < len(p) {
		if len(t.out)+len(p) > maxHeld {
			t.err = errStuck
			return 0, t.err
		}
		t.keep(p[sent:])
	}
	return len(p), nil
}

// keep holds ciphertext until the socket takes it.
func (t *transport) keep(p []byte) {
	if t.outBuf == nil {
		b := &t.conn.Loop().Buffers
		if t.gather || len(p) > reactor.SmallBuffer {
			t.outBuf = b.Large()
		} else {
			t.outBuf = b.Small()
		}
		t.out = t.outBuf[:0]
	}
	t.out = append(t.out, p...)
}

// flush sends what is held.
func (t *transport) flush() error {
	for len(t.out) > 0 {
		n, err := t.conn.WriteSocket(t.out)
		if err != nil {
			if err != reactor.ErrWouldBlock {
				t.err = err
			}
			return err
		}
		t.out = t.out[n:]
	}
	t.putOut()
	return t.err
}

func (t *transport) putOut() {
	if t.outBuf != nil {
		t.conn.Loop().Buffers.Put(t.outBuf)
	}
	t.out, t.outBuf = nil, nil
}

func (t *transport) release() {
	t.putIn()
	t.putOut()
}

// What else a net.Conn has. crypto/tls sets write deadlines around its last alert.

// Close does nothing: the socket is its connection's.
func (t *transport) Close() error { return nil }

// LocalAddr returns nil, like RemoteAddr.
func (t *transport) LocalAddr() net.Addr { return nil }

// RemoteAddr returns nil.
func (t *transport) RemoteAddr() net.Addr { return nil }

// SetDeadline does nothing, like those below: nothing here blocks.
func (t *transport) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (t *transport) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (t *transport) SetWriteDeadline(time.Time) error { return nil }
