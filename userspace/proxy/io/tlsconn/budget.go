package tlsconn

import (
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
)

// Budget shares a loop's time between handshakes and everything else. A handshake computes
// for a tenth of a millisecond to several milliseconds (RSA 4096), a request for some
// microseconds; without a budget, a turn in which many clients say hello keeps the open
// connections waiting until all of them have been answered.
//
// Within a turn of the loop handshakes compute until the budget is spent, by at most one of
// their steps more. Those that come later queue, first come, first served, and go on in the
// turns to come, each after the events of that turn. The methods of a nil Budget do
// handshakes without limit.
type Budget struct {
	loop    *reactor.Loop
	perTurn int64 // ns
	turn    int64 // loop time of the turn that spent belongs to
	spent   int64 // ns
	queue   []*transport

	// Delayed counts the steps that had to wait for a later turn.
	Delayed uint64
}

// NewBudget makes a budget of some time per turn of the loop.
func NewBudget(l *reactor.Loop, perTurn time.Duration) *Budget {
	b := &Budget{loop: l, perTurn: int64(perTurn)}
	l.EndOfTurn(b.admit)
	return b
}

// Set changes the time per turn.
func (b *Budget) Set(perTurn time.Duration) { b.perTurn = int64(perTurn) }

// enter waits until the handshake may compute.
func (t *transport) enter() error {
	b := t.budget
	if b == nil || t.began != 0 {
		return nil
	}
	if now := b.loop.Now(); b.turn != now {
		b.turn, b.spent = now, 0
	}
	if b.spent >= b.perTurn || len(b.queue) > 0 {
		b.Delayed++
		b.queue = append(b.queue, t)
		t.queued = true
		t.conn.Want(0)
		for t.queued {
			if err := t.park(); err != nil {
				t.queued = false
				return err
			}
		}
	}
	t.began = b.loop.Clock()
	return nil
}

// pause says that the handshake computes no more, for now.
func (t *transport) pause() {
	b := t.budget
	if b == nil || t.began == 0 {
		return
	}
	now := b.loop.Now()
	if b.turn != now {
		b.turn, b.spent = now, 0
	}
	b.spent += b.loop.Clock() - t.began
	t.began = 0
	if b.spent < b.perTurn {
		b.admit()
	}
}

// admit lets the first that waits go on.
func (b *Budget) admit() {
	for len(b.queue) > 0 {
		t := b.queue[0]
		b.queue[0] = nil
		b.queue = b.queue[1:]
		if t.queued { // else it has given up
			t.queued = false
			t.co.Wake()
			return
		}
	}
}
