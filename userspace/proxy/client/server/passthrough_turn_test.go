package server

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
)

// TestTunnelsTakeTurns: a connection that is passed on encrypted rests once it has had its share
// of a turn, and goes on in the next.
func TestTunnelsTakeTurns(t *testing.T) {
	loop, err := reactor.New(reactor.Stats{})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var from, to reactor.Conn
	for i, c := range []*reactor.Conn{&from, &to} {
		if err := loop.Add(c, pair[i], nil); err != nil {
			t.Fatal(err)
		}
	}
	d := direction{from: &from, to: &to}
	woken := false
	loop.Submit(func() {
		d.turn.AddSpliced(loop, 4*reactor.Quantum)
		moved, fault := d.move(func() {
			woken = true
			d.turn.Woken()
			// Nothing is there to be moved, but it looks.
			if d.turn.Spent(loop, loop.Stop) {
				t.Error("the share of a new turn is spent")
			}
			loop.Stop()
		})
		if moved || fault || d.splice.IsOpen() {
			t.Errorf("it went on: moved %v, fault %v", moved, fault)
		}
	})
	if err := loop.Run(); err != nil {
		t.Fatal(err)
	}
	if !woken {
		t.Error("nothing goes on in the next turn")
	}
}
