package skmsg

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/netnstest"
)

// What a pod cannot do on a joined connection, so that docs/operations.md can say so: splice(2)
// does not see what came past TCP, and FIONREAD counts it on some kernels only. Neither loses
// anything. A kernel whose splice(2) sees it makes this test fail, and the text obsolete.
func TestLimits(t *testing.T) {
	netnstest.Enter(t)
	if err := knownBad(); err != nil {
		t.Logf("not joined here: %v", err)
		return
	}
	p, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	l, err := listen(t.Context(), "127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	proxy, pod, err := connect(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	defer pod.Close()
	if _, err := proxy.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	raw, err := pod.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	var counted int
	var spliced int64
	var spliceErr error
	if err := raw.Control(func(fd uintptr) {
		counted, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ)
		spliced, spliceErr = unix.Splice(int(fd), nil, pipe[1], nil, 100, unix.SPLICE_F_NONBLOCK)
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("sk_msg: of 5 bytes FIONREAD counts %d and splice moves %d (%v)", counted, spliced, spliceErr)
	if spliced > 0 || !errors.Is(spliceErr, unix.EAGAIN) {
		t.Errorf("splice moved %d bytes, %v", spliced, spliceErr)
	}
	time.Sleep(time.Millisecond)
	if err := expect(pod, []byte("hello"), false); err != nil {
		t.Errorf("after that a read: %v", err)
	}
}
