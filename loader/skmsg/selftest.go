package skmsg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
)

// patience is how long nothing may happen. Steps take milliseconds; a kernel that loses data
// or an event would let them wait for ever.
const patience = 3 * time.Second

// A check is one thing that connections must do as before when they are joined. It is given
// two ends of such a connection and closes both.
type check struct {
	name string
	run  func(proxy, pod end) error
}

// checks are what sockets in a sockmap have been known to do wrong, on one kernel or another.
var checks = []check{
	{"messages both ways", checkMessages},
	{"bodies of many sizes both ways", checkBodies},
	{"an end of stream behind data", checkEnd},
	{"half-close", checkHalfClose},
	{"a reader that waits", checkPressure},
	{"a change to TCP and back-pressure the other way", checkPressureBack},
	{"reset", checkReset},
	{"an end that is gone", checkGone},
	{"reads in part and peeks", checkParts},
	{"events of a polled socket", checkEvents},
}

// Test finds out whether this kernel can be trusted with joined connections: it joins some of
// its own on the loopback interface and tries what has gone wrong in kernels before. It returns
// why not. Nothing is left of it.
func Test(ctx context.Context, cgroup string) error {
	if err := knownBad(); err != nil {
		return err
	}
	p, err := Open(Options{UID: uint32(os.Getuid()), Cgroup: cgroup})
	if err != nil {
		return err
	}
	defer p.Close()
	for _, listener := range []struct {
		address   string
		multipath bool // as servers written in Go do
	}{{"127.0.0.1:0", false}, {"[::1]:0", false}, {"127.0.0.1:0", true}} {
		l, err := listen(ctx, listener.address, listener.multipath)
		if err != nil {
			continue // a family that the node does not have
		}
		err = p.check(ctx, l)
		l.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// check runs all checks on connections to a listener.
func (p *Programs) check(ctx context.Context, l *net.TCPListener) error {
	for _, c := range checks {
		before, err := p.Counters()
		if err != nil {
			return err
		}
		proxy, pod, err := connect(ctx, l)
		if err != nil {
			return fmt.Errorf("self-test of sk_msg: %w", err)
		}
		err = c.run(proxy, pod)
		proxy.Close()
		pod.Close()
		if err != nil {
			return fmt.Errorf("self-test of sk_msg failed at %s: %w", c.name, err)
		}
		after, err := p.Counters()
		if err != nil {
			return err
		}
		if after.Joined == before.Joined || after.PastTCP == before.PastTCP {
			return fmt.Errorf("self-test of sk_msg: a connection on %v was not joined; is %s the root of all cgroups?", l.Addr(), "--cgroup")
		}
	}
	return nil
}

func listen(ctx context.Context, address string, multipath bool) (*net.TCPListener, error) {
	var c net.ListenConfig
	c.SetMultipathTCP(multipath)
	l, err := c.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// connect returns both ends of a connection that is to be joined.
func connect(ctx context.Context, l *net.TCPListener) (proxy, pod end, err error) {
	d := net.Dialer{Timeout: patience, Control: func(_, _ string, c syscall.RawConn) (err error) {
		controlErr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY, abi.JoinPriority)
		})
		return errors.Join(err, controlErr)
	}}
	d.SetMultipathTCP(false)
	c, err := d.DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return end{}, end{}, err
	}
	l.SetDeadline(time.Now().Add(patience))
	accepted, err := l.AcceptTCP()
	if err != nil {
		c.Close()
		return end{}, end{}, err
	}
	return end{c.(*net.TCPConn)}, end{accepted}, nil
}

// An end of a connection waits for as long as there is progress. It hides what lets io.Copy
// use splice(2), which does not see what went past TCP.
type end struct{ conn *net.TCPConn }

func (e end) Read(b []byte) (int, error) {
	e.conn.SetReadDeadline(time.Now().Add(patience))
	return e.conn.Read(b)
}

func (e end) Write(b []byte) (n int, err error) {
	for piece := range slices.Chunk(b, 256<<10) {
		e.conn.SetWriteDeadline(time.Now().Add(patience))
		m, err := e.conn.Write(piece)
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

func (e end) Close() error      { return e.conn.Close() }
func (e end) CloseWrite() error { return e.conn.CloseWrite() }

// checkMessages has both ends ask and answer.
func checkMessages(proxy, pod end) error {
	for i := range 100 {
		for _, way := range [][2]end{{proxy, pod}, {pod, proxy}} {
			if err := pass(way[0], way[1], randomBytes(1+i*7)); err != nil {
				return fmt.Errorf("message %d: %w", i, err)
			}
		}
	}
	return nil
}

// checkBodies has bodies pass of which the small ones go past TCP, the large ones begin so.
func checkBodies(proxy, pod end) error {
	for _, size := range []int{1, 100, 4096, 65536, 300 << 10, Window, 8 << 20, 70000} {
		for _, way := range [][2]end{{proxy, pod}, {pod, proxy}} {
			if err := pass(way[0], way[1], randomBytes(size)); err != nil {
				return fmt.Errorf("%d bytes: %w", size, err)
			}
		}
	}
	return nil
}

// checkEnd closes behind data that nobody has read yet: the end must not pass it.
func checkEnd(proxy, pod end) error {
	data := randomBytes(200 << 10)
	for piece := data; len(piece) > 0; piece = piece[min(1000, len(piece)):] {
		if _, err := proxy.Write(piece[:min(1000, len(piece))]); err != nil {
			return err
		}
	}
	if err := proxy.Close(); err != nil {
		return err
	}
	time.Sleep(10 * time.Millisecond) // the end of stream has come
	return expect(pod, data, true)
}

// checkHalfClose ends one direction and goes on in the other.
func checkHalfClose(proxy, pod end) error {
	request, response := randomBytes(50<<10), randomBytes(2<<20)
	if _, err := proxy.Write(request); err != nil {
		return err
	}
	if err := proxy.CloseWrite(); err != nil {
		return err
	}
	if err := expect(pod, request, true); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := pod.Write(response)
		sent <- errors.Join(err, pod.CloseWrite())
	}()
	if err := expect(proxy, response, true); err != nil {
		return fmt.Errorf("response: %w", err)
	}
	return <-sent
}

func checkPressure(proxy, pod end) error     { return pressure(proxy, pod) }
func checkPressureBack(proxy, pod end) error { return pressure(pod, proxy) }

// mostUnread is what may be on its way when nobody reads: the window, one message, and the
// buffers of TCP, whose limits are 4 and 6 MiB unless somebody raised them.
const mostUnread = 64 << 20

// pressure sends to a reader that does not read: at some point the sender must wait. Then
// the other reads, and must get all of it.
func pressure(from, to end) error {
	piece := randomBytes(64 << 10)
	sent := 0
	from.conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	for {
		n, err := from.conn.Write(piece)
		sent += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return err
		}
		if sent > mostUnread {
			return fmt.Errorf("%d bytes were taken that nobody read", sent)
		}
	}
	if err := from.CloseWrite(); err != nil {
		return err
	}
	got, buffer := 0, make([]byte, 100_000)
	for {
		n, err := to.Read(buffer)
		for i, b := range buffer[:n] {
			if b != piece[(got+i)%len(piece)] {
				return fmt.Errorf("byte %d is wrong", got+i)
			}
		}
		got += n
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", got, sent, err)
		}
	}
	if got != sent {
		return fmt.Errorf("%d bytes were sent, %d came", sent, got)
	}
	return nil
}

// checkReset resets one end while the other waits and has something unread.
func checkReset(proxy, pod end) error {
	if _, err := pod.Write([]byte("unread")); err != nil {
		return err
	}
	if err := pod.conn.SetLinger(0); err != nil {
		return err
	}
	if err := pod.Close(); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, proxy); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the other end was told %v", err)
	}
	return nil
}

// checkGone writes to an end that is closed: somebody must say so.
func checkGone(proxy, pod end) error {
	if err := pass(proxy, pod, []byte("hello")); err != nil {
		return err
	}
	if err := pod.Close(); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if _, err := proxy.Write([]byte("is anybody there?")); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			return nil
		}
	}
	return errors.New("nobody said so")
}

// checkParts reads less than there is, and looks before it reads.
func checkParts(proxy, pod end) error {
	data := randomBytes(10_000)
	for piece := data; len(piece) > 0; piece = piece[1000:] {
		if _, err := proxy.Write(piece[:1000]); err != nil {
			return err
		}
	}
	raw, err := pod.conn.SyscallConn()
	if err != nil {
		return err
	}
	got, size := []byte(nil), 1
	for len(got) < len(data) {
		peeked, read := make([]byte, size), make([]byte, size)
		var n, m int
		if controlErr := raw.Control(func(fd uintptr) {
			if n, _, err = unix.Recvfrom(int(fd), peeked, unix.MSG_PEEK|unix.MSG_DONTWAIT); err == nil {
				m, _, err = unix.Recvfrom(int(fd), read, unix.MSG_DONTWAIT)
			}
		}); controlErr != nil {
			return controlErr
		}
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", len(got), err)
		}
		if m < n || !bytes.Equal(peeked[:n], read[:n]) {
			return fmt.Errorf("after %d bytes a peek showed %d bytes that a read of %d does not bear out", len(got), n, m)
		}
		got = append(got, read[:m]...)
		size = size*3%1777 + 1
	}
	if !bytes.Equal(got, data) {
		return errors.New("the bytes are wrong")
	}
	return nil
}

// checkEvents has edge-triggered epoll tell of data past TCP, and of an end.
func checkEvents(proxy, pod end) error {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(epfd)
	raw, err := proxy.conn.SyscallConn()
	if err != nil {
		return err
	}
	watch := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff}
	if controlErr := raw.Control(func(fd uintptr) { err = unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, int(fd), &watch) }); controlErr != nil || err != nil {
		return errors.Join(err, controlErr)
	}
	await := func(want uint32) error {
		var events [1]unix.EpollEvent
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
			n, err := unix.EpollWait(epfd, events[:], 100)
			if err != nil && err != unix.EINTR {
				return err
			}
			if n == 1 && events[0].Events&want == want {
				return nil
			}
		}
		return errors.New("no event")
	}
	for i := range 20 {
		if _, err := pod.Write([]byte("something")); err != nil {
			return err
		}
		if err := await(unix.EPOLLIN); err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
		if i%2 == 0 { // otherwise it lies there, and the next one must be told all the same
			if _, err := proxy.Read(make([]byte, 100)); err != nil {
				return err
			}
		}
	}
	if err := pod.CloseWrite(); err != nil {
		return err
	}
	if err := await(unix.EPOLLRDHUP); err != nil {
		return fmt.Errorf("end of stream: %w", err)
	}
	_, err = io.Copy(io.Discard, proxy)
	return err
}

// pass sends data and expects it at the other end.
func pass(from, to end, data []byte) error {
	sent := make(chan error, 1)
	go func() {
		_, err := from.Write(data)
		sent <- err
	}()
	if err := expect(to, data, false); err != nil {
		return err
	}
	return <-sent
}

// expect reads just this, and the end of the stream behind it if asked for.
func expect(from end, want []byte, end bool) error {
	var got []byte
	var err error
	if end {
		got, err = io.ReadAll(from)
	} else {
		got = make([]byte, len(want))
		var n int
		n, err = io.ReadFull(from, got)
		got = got[:n]
	}
	if err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", len(got), len(want), err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%d bytes came that are not the %d that were sent", len(got), len(want))
	}
	return nil
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	random := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	random.Read(b)
	return b
}
