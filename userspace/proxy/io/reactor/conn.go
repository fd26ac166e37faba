package reactor

import (
	"errors"
	"io"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrWouldBlock is returned by TryRead and TryWrite when nothing can be done now.
var ErrWouldBlock = errors.New("operation would block")

// Interest is what a connection's owner waits for.
type Interest uint8

const (
	Readable Interest = 1 << iota // data, end of stream or an error
	Writable
	Broken // the connection was reset or failed; reported whatever else is asked for
)

// Conn is a non-blocking socket on a loop, registered once for edge-triggered events.
//
// A read that returns less than it was given has emptied the socket (epoll(7)); from then
// on TryRead answers ErrWouldBlock without a system call until an event says otherwise.
// The end of stream may arrive with the last data, without an event of its own: after
// EPOLLRDHUP was seen, reads go on until they return 0.
type Conn struct {
	loop     *Loop
	fd       int32
	ready    Interest
	want     Interest
	peerDone bool // EPOLLRDHUP: the peer will send no more
	joined   bool // bytes may come by two queues: see SetJoined
	owner    *Coroutine
	handler  Handler
	layer    Layer
}

const watched = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff

// Add puts a non-blocking socket under the loop's care. Close closes it.
func (l *Loop) Add(c *Conn, fd int, h Handler) error {
	*c = Conn{loop: l, fd: int32(fd), handler: h}
	ev := unix.EpollEvent{Events: watched, Fd: int32(fd)}
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return err
	}
	l.put(c)
	return nil
}

// Listen puts a listening socket under the loop's care; it is level-triggered, so that
// its handler may take a few connections at a time.
func (l *Loop) Listen(c *Conn, fd int, h Handler) error {
	*c = Conn{loop: l, fd: int32(fd), handler: h}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return err
	}
	l.put(c)
	return nil
}

// Listening says whether a listening socket's handler is called. What comes meanwhile stays queued.
func (l *Loop) Listening(c *Conn, on bool) error {
	ev := unix.EpollEvent{Fd: c.fd}
	if on {
		ev.Events = unix.EPOLLIN
	}
	return unix.EpollCtl(l.epfd, unix.EPOLL_CTL_MOD, int(c.fd), &ev)
}

func (l *Loop) put(c *Conn) {
	for int(c.fd) >= len(l.conns) {
		l.conns = append(l.conns, make([]*Conn, max(64, len(l.conns)))...)
	}
	l.conns[c.fd] = c
	l.open++
}

// FD returns the descriptor, for system calls that the reactor does not wrap.
func (c *Conn) FD() int { return int(c.fd) }

// Loop returns the loop that the connection is on.
func (c *Conn) Loop() *Loop { return c.loop }

// Own makes co the connection's owner: the events it wants wake co. Without an owner
// (nil) they go to the handler.
func (c *Conn) Own(co *Coroutine) { c.owner, c.want = co, 0 }

// Want says which events wake the owner from its next park on, until the next Want. Without
// an owner it says which ones the handler gets, beyond those of reading.
func (c *Conn) Want(i Interest) { c.want = i }

// Ready returns what is possible as far as the loop knows.
func (c *Conn) Ready() Interest { return c.ready }

// IsBroken reports whether the connection was reset or failed.
func (c *Conn) IsBroken() bool { return c.ready&Broken != 0 }

// PeerDone reports whether the peer has closed its side.
func (c *Conn) PeerDone() bool { return c.peerDone }

// SetJoined says that the socket may be in a sockmap (bpf/skmsg.bpf.c). Then bytes come by two
// queues, and a read that returns less than it was given may have emptied one of them alone:
// only EAGAIN says that there is nothing more. splice(2) sees one of them only, and must not be
// used.
func (c *Conn) SetJoined() { c.joined = true }

// IsJoined reports whether SetJoined was called.
func (c *Conn) IsJoined() bool { return c.joined }

// IsOpen reports whether the connection has not been closed by us.
func (c *Conn) IsOpen() bool { return c.loop != nil && c.fd >= 0 }

func (c *Conn) event(ev uint32) {
	var got Interest
	if ev&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		got |= Readable
	}
	if ev&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		got |= Writable
	}
	if ev&unix.EPOLLERR != 0 {
		got |= Broken
	}
	if ev&(unix.EPOLLRDHUP|unix.EPOLLHUP) != 0 {
		c.peerDone = true
	}
	c.ready |= got
	if c.owner != nil {
		if got&(c.want|Broken) != 0 && c.owner.parked {
			c.loop.resume(c.owner)
		}
		return
	}
	if got&(Readable|c.want) != 0 && c.handler != nil {
		c.handler.OnEvent(c)
	}
}

// TryRead reads what is there: n > 0, io.EOF at the end of the stream, ErrWouldBlock, or
// the connection's error.
func (c *Conn) TryRead(p []byte) (int, error) {
	if c.layer != nil {
		return c.layer.TryRead(p)
	}
	return c.ReadSocket(p)
}

// ReadSocket is TryRead past the layer.
func (c *Conn) ReadSocket(p []byte) (int, error) {
	if c.ready&Readable == 0 {
		return 0, ErrWouldBlock
	}
	for {
		r, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(c.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0)
		switch errno {
		case 0:
			n := int(r)
			if n == 0 {
				return 0, io.EOF
			}
			if n < len(p) && !c.peerDone && !c.joined {
				c.ready &^= Readable
			}
			return n, nil
		case unix.EAGAIN:
			c.ready &^= Readable
			return 0, ErrWouldBlock
		case unix.EINTR:
			continue
		default:
			c.ready |= Broken
			return 0, errno
		}
	}
}

// TryWrite writes what fits: n > 0, ErrWouldBlock, or the connection's error. What the peer had
// sent before the connection failed may still be read, until TryRead returns anything else.
func (c *Conn) TryWrite(p []byte) (int, error) {
	if c.layer != nil {
		return c.layer.TryWrite(p, nil)
	}
	return c.WriteSocket(p)
}

// WriteSocket is TryWrite past the layer.
func (c *Conn) WriteSocket(p []byte) (int, error) {
	for {
		r, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(c.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(r), nil
		case unix.EAGAIN:
			c.ready &^= Writable
			return 0, ErrWouldBlock
		case unix.EINTR:
			continue
		default:
			c.ready |= Broken | Readable // the event for the latter may be yet to come
			return 0, errno
		}
	}
}

// Quiet reports whether there is nothing to read: no data, no end of stream, no error. An
// event may be left over from data that was read meanwhile, so it looks.
func (c *Conn) Quiet() bool {
	if c.layer != nil {
		return c.layer.Quiet()
	}
	return c.QuietSocket()
}

// QuietSocket is Quiet past the layer.
func (c *Conn) QuietSocket() bool {
	if c.ready&Broken != 0 || c.peerDone {
		return false
	}
	if c.ready&Readable == 0 {
		return true
	}
	var b [1]byte
	_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(c.fd), uintptr(unsafe.Pointer(&b[0])), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
	if errno != unix.EAGAIN {
		return false
	}
	c.ready &^= Readable
	return true
}

// CloseWrite ends our side of the stream; the peer reads an end of stream.
func (c *Conn) CloseWrite() error {
	if c.layer != nil {
		c.layer.CloseWrite()
	}
	return unix.Shutdown(int(c.fd), unix.SHUT_WR)
}

// Close closes the socket. Safe to call twice.
func (c *Conn) Close() {
	if !c.IsOpen() {
		return
	}
	if c.layer != nil {
		c.layer.Close(true)
		c.layer = nil
	}
	c.loop.conns[c.fd] = nil
	c.loop.open--
	unix.Close(int(c.fd))
	c.fd, c.owner, c.handler, c.ready, c.want = -1, nil, nil, 0, 0
}

// Reset closes the socket so that the peer gets a reset and no state stays behind.
func (c *Conn) Reset() {
	if !c.IsOpen() {
		return
	}
	if c.layer != nil {
		c.layer.Close(false)
		c.layer = nil
	}
	unix.SetsockoptLinger(int(c.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	c.Close()
}
