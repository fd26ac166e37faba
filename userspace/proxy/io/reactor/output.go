package reactor

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Output is what is on its way to a connection: bytes that were appended (heads, chunk
// framing, small bodies), then at most one borrowed slice (a piece of a large body), which
// is sent from where it lies. One party writes to it. While nothing is appended it holds no
// buffer.
type Output struct {
	conn     *Conn
	buf      []byte // appended, nil: nothing; buf[sent:] is still to go
	sent     int
	borrowed []byte
	written  uint64 // bytes accepted by the socket
}

// Open starts output to a connection, using small buffers of its loop until Release.
func (o *Output) Open(c *Conn) { *o = Output{conn: c} }

// Release ends the output; what was not flushed is lost.
func (o *Output) Release() {
	o.giveBack()
	*o = Output{}
}

// giveBack gives the buffer back, with whatever is in it.
func (o *Output) giveBack() {
	if o.buf != nil {
		o.conn.loop.Buffers.Put(o.buf)
		o.buf, o.sent = nil, 0
	}
}

// Written returns how many bytes the socket has taken.
func (o *Output) Written() uint64 { return o.written }

// Pending reports whether something is still to go.
func (o *Output) Pending() bool {
	return o.sent < len(o.buf) || len(o.borrowed) > 0 || o.conn != nil && o.conn.Unsent()
}

// Blocked reports whether a borrowed piece has not been sent whole.
func (o *Output) Blocked() bool { return len(o.borrowed) > 0 }

// Room returns how many bytes may be appended.
func (o *Output) Room() int {
	switch {
	case len(o.borrowed) > 0:
		return 0
	case o.buf == nil:
		return SmallBuffer
	}
	return cap(o.buf) - len(o.buf)
}

// Tail returns the appended bytes for append functions; the result goes to Extend.
func (o *Output) Tail() []byte {
	if o.buf == nil {
		o.buf = o.conn.loop.Buffers.Small()[:0]
	}
	return o.buf
}

// Extend takes what an append function made of Tail.
func (o *Output) Extend(b []byte) { o.buf = b }

// Reset drops everything that was appended and not sent, e.g. a head that is replaced.
func (o *Output) Reset() {
	o.giveBack()
	o.borrowed = nil
}

// copyBelow is up to where copying a body piece behind its head is cheaper than a second
// element of a gathered write.
const copyBelow = 2048

// Send queues p, which must stay as it is until Pending is false. Only while nothing is
// borrowed.
func (o *Output) Send(p []byte) {
	if len(p) <= copyBelow && len(p) <= o.Room() {
		o.buf = append(o.Tail(), p...)
		return
	}
	o.borrowed = p
}

// Flush hands the socket what it takes. It returns nil when nothing is left, else
// ErrWouldBlock or the socket's error.
func (o *Output) Flush() error {
	for {
		head := o.buf[o.sent:]
		if len(head) == 0 && len(o.borrowed) == 0 {
			o.giveBack()
			return o.conn.TryFlush()
		}
		var n int
		var err error
		switch {
		case len(o.borrowed) == 0:
			n, err = o.conn.TryWrite(head)
		case len(head) == 0:
			n, err = o.conn.TryWrite(o.borrowed)
		default:
			n, err = o.conn.TryWrite2(head, o.borrowed)
		}
		if err != nil {
			return err
		}
		o.written += uint64(n)
		h := min(n, len(head))
		o.sent += h
		o.borrowed = o.borrowed[n-h:]
		if len(o.borrowed) == 0 {
			o.borrowed = nil
		}
	}
}

// TryWrite2 writes a, then b, by one system call; else like TryWrite.
func (c *Conn) TryWrite2(a, b []byte) (int, error) {
	if c.layer != nil {
		return c.layer.TryWrite(a, b)
	}
	iov := [2]unix.Iovec{
		{Base: unsafe.SliceData(a), Len: uint64(len(a))},
		{Base: unsafe.SliceData(b), Len: uint64(len(b))},
	}
	msg := unix.Msghdr{Iov: &iov[0], Iovlen: 2}
	for {
		r, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(c.fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_NOSIGNAL)
		switch errno {
		case 0:
			return int(r), nil
		case unix.EAGAIN:
			c.ready &^= Writable
			return 0, ErrWouldBlock
		case unix.EINTR:
			continue
		default:
			c.ready |= Broken | Readable // see WriteSocket
			return 0, errno
		}
	}
}
