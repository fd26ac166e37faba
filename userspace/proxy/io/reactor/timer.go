package reactor

import (
	"math/bits"
	"time"
)

const (
	tick  = 64 * time.Millisecond
	slots = 1024 // one turn of the wheel: 65 s
)

// Timer calls its function once after its deadline, late by at most a tick (64 ms). It is
// embedded in what it times and costs nothing to push further into the future, which is
// what keep-alive connections do with every request: the wheel looks at the deadline only
// when the slot of an earlier one comes up. The zero value is stopped.
type Timer struct {
	expire     func()
	deadline   int64 // loop time in ns, 0 = stopped
	slot       int32 // + 1; 0 = not in the wheel
	due        int64 // tick number at which the wheel looks at it
	next, prev *Timer
}

// Init sets the function to call on expiry. Once, before the first Set.
func (t *Timer) Init(expire func()) { t.expire = expire }

type wheel struct {
	slots  [slots]*Timer
	filled [slots / 64]uint64 // bit per slot that has timers
	now    int64              // tick number up to which slots were looked at
	count  int
}

// Set arms the timer to expire after d from the loop's current turn.
func (l *Loop) Set(t *Timer, d time.Duration) {
	t.deadline = l.now + int64(d)
	due := t.deadline/int64(tick) + 1
	if t.slot != 0 && t.due <= due {
		return // it will be looked at in time and put back
	}
	if t.slot != 0 {
		l.wheel.remove(t)
	}
	l.wheel.insert(t, due)
}

// Clear stops the timer. It stays in the wheel until its slot comes up, so that stopping
// and setting it again costs two stores; use Drop before freeing what it is part of.
func (l *Loop) Clear(t *Timer) { t.deadline = 0 }

// Drop stops the timer and takes it out of the wheel.
func (l *Loop) Drop(t *Timer) {
	t.deadline = 0
	if t.slot != 0 {
		l.wheel.remove(t)
	}
}

func (w *wheel) insert(t *Timer, due int64) {
	if due <= w.now {
		due = w.now + 1
	}
	if due > w.now+slots-1 {
		due = w.now + slots - 1 // looked at early, put back
	}
	s := due % slots
	t.due, t.slot = due, int32(s)+1
	t.prev, t.next = nil, w.slots[s]
	if t.next != nil {
		t.next.prev = t
	}
	w.slots[s] = t
	w.filled[s/64] |= 1 << (s % 64)
	w.count++
}

func (w *wheel) remove(t *Timer) {
	s := int64(t.slot - 1)
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		w.slots[s] = t.next
		if t.next == nil {
			w.filled[s/64] &^= 1 << (s % 64)
		}
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	t.next, t.prev, t.slot = nil, nil, 0
	w.count--
}

// dropStopped takes all stopped timers out.
func (w *wheel) dropStopped() {
	for _, first := range w.slots {
		for t := first; t != nil; {
			next := t.next
			if t.deadline == 0 {
				w.remove(t)
			}
			t = next
		}
	}
}

// advance expires what is due at loop time now.
func (l *Loop) advance() {
	w := &l.wheel
	to := l.now / int64(tick)
	if w.count == 0 {
		w.now = to
		return
	}
	for w.now < to {
		w.now++
		s := w.now % slots
		if w.filled[s/64]&(1<<(s%64)) == 0 {
			continue
		}
		for t := w.slots[s]; t != nil; t = w.slots[s] {
			w.remove(t)
			switch {
			case t.deadline == 0:
			case t.deadline > l.now:
				w.insert(t, t.deadline/int64(tick)+1)
			default:
				t.deadline = 0
				t.expire()
			}
		}
	}
}

// untilNext returns how long the loop may sleep: the time to the next slot with timers,
// -1 if there is none.
func (l *Loop) untilNext() time.Duration {
	w := &l.wheel
	if w.count == 0 {
		return -1
	}
	start := (w.now + 1) % slots
	word, bit := start/64, uint(start%64)
	b := w.filled[word] >> bit
	if b != 0 {
		return l.until(w.now + 1 + int64(bits.TrailingZeros64(b)))
	}
	dist := int64(64 - bit)
	for i := int64(1); i <= slots/64; i++ {
		if b := w.filled[(word+i)%(slots/64)]; b != 0 {
			return l.until(w.now + 1 + dist + int64(bits.TrailingZeros64(b)))
		}
		dist += 64
	}
	return tick // unreachable while count > 0
}

func (l *Loop) until(tickNumber int64) time.Duration {
	d := time.Duration(tickNumber*int64(tick) - l.now)
	return max(d, 0)
}
