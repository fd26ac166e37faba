package reactor

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// onLoop opens a connection over loopback, one end of which is on the loop.
func onLoop(t *testing.T, l *Loop, c *Conn) (peer *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := listener.Accept()
		accepted <- c
	}()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	to := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: listener.Addr().(*net.TCPAddr).Port}
	if err := errors.Join(unix.Connect(fd, to), unix.SetNonblock(fd, true), l.Add(c, fd, nil)); err != nil {
		t.Fatal(err)
	}
	other := <-accepted
	if other == nil {
		t.Fatal("nothing was accepted")
	}
	t.Cleanup(func() { other.Close() })
	return other.(*net.TCPConn)
}

// TestMoveEnds: a Move ends after as many bytes as it was allowed, though there is more to move
// and room for it; the rest follows, and nothing is lost.
func TestMoveEnds(t *testing.T) {
	l, err := New(Stats{})
	if err != nil {
		t.Fatal(err)
	}
	const most, size = 32 << 10, 192 << 10
	var from, to Conn
	pod, client := onLoop(t, l, &from), onLoop(t, l, &to)
	if _, err := pod.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	var s Splice
	var moves []int64
	start := func() {
		from.ready, to.ready = Readable|Writable, Writable
		if err := s.Open(&from, &to, size); err != nil {
			t.Error(err)
			l.Stop()
		}
	}
	var step func()
	step = func() {
		before := s.Sent
		_, err := s.Move(most)
		switch moves = append(moves, s.Sent-before); {
		case err != nil:
			t.Error(err)
			l.Stop()
		case s.Done():
			s.Close()
			l.Stop()
		default:
			from.ready |= Readable
			to.ready |= Writable
			l.Submit(step)
		}
	}
	got := make(chan int64, 1)
	go func() {
		client.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, _ := io.CopyN(io.Discard, client, size)
		got <- n
	}()
	l.Submit(start)
	l.Submit(step)
	if err := l.Run(); err != nil {
		t.Fatal(err)
	}
	if n := <-got; n != size {
		t.Errorf("%d bytes arrived, want %d", n, size)
	}
	for _, n := range moves {
		// It goes on in pieces of what one system call takes from the source.
		if n > most+128<<10 {
			t.Errorf("a Move of at most %d moved %d", most, n)
		}
	}
	if len(moves) < 2 {
		t.Errorf("all was moved at once: %v", moves)
	}
}

// TestShare: a party that has had its share is woken once, in the next turn.
func TestShare(t *testing.T) {
	l, err := New(Stats{})
	if err != nil {
		t.Fatal(err)
	}
	var s Share
	var woken []int64 // turns
	spent := 0
	wake := func() {
		s.Woken()
		woken = append(woken, l.Now())
		if s.Spent(l, func() {}) {
			t.Error("the share of a new turn is spent")
		}
		l.Stop()
	}
	began := int64(0)
	l.Submit(func() {
		began = l.Now()
		for range Quantum / 1024 {
			if s.Spent(l, wake) {
				t.Error("spent too early")
			}
			s.Add(l, 1024)
		}
		for range 3 {
			if s.Spent(l, wake) {
				spent++
			}
		}
	})
	if err := l.Run(); err != nil {
		t.Fatal(err)
	}
	if spent != 3 || len(woken) != 1 || woken[0] <= began {
		t.Errorf("spent %d times of 3, woken in turns %v after %d", spent, woken, began)
	}
}
