package reactor

import (
	"testing"
	"time"
)

// once is a task that parks one time.
type once struct{ parked *[]*Coroutine }

func (o once) Run(co *Coroutine) {
	*o.parked = append(*o.parked, co)
	co.Park()
}

func (once) Crashed(any, []byte) {}

// TestTrim: a loop that trims keeps a few of what is free, and all that is in use.
func TestTrim(t *testing.T) {
	l, err := New(Stats{})
	if err != nil {
		t.Fatal(err)
	}
	const many, inUse = 100, 7
	trimmed := 0
	var parked []*Coroutine
	l.OnTrim(func() { trimmed++ })
	l.Submit(func() {
		var small, large [][]byte
		var pipes []pipe
		for i := range many {
			l.Go(once{&parked})
			small, large = append(small, l.Buffers.Small()), append(large, l.Buffers.Large())
			if i < 2*few {
				p, err := l.pipe()
				if err != nil {
					t.Fatal(err)
				}
				pipes = append(pipes, p)
			}
		}
		for i := range many {
			l.Buffers.Put(small[i])
			l.Buffers.Put(large[i])
		}
		l.pipes = pipes
	})
	l.Submit(func() {
		// All of them park still: wake most.
		for n, co := range parked {
			if n >= inUse {
				co.Wake()
			}
		}
		l.Submit(func() {
			if len(l.idle) != many-inUse {
				t.Errorf("%d coroutines are free, want %d", len(l.idle), many-inUse)
			}
			l.Trim()
			if l.coroutines != few+inUse || trimmed != 1 {
				t.Errorf("%d coroutines are left, want %d; %d functions were called of 1", l.coroutines, few+inUse, trimmed)
			}
			if n, m, pipes := len(l.Buffers.small), len(l.Buffers.large), len(l.pipes); n != few || m != few || pipes != few {
				t.Errorf("%d small buffers, %d large ones and %d pipes are left, want %d", n, m, pipes, few)
			}
			if c := cap(l.Buffers.small); c > 2*few {
				t.Errorf("the list keeps %d buffers alive", c)
			}
			for _, co := range parked[:inUse] {
				co.Wake()
			}
			l.Stop()
		})
	})
	if err := l.Run(); err != nil {
		t.Fatal(err)
	}
}

// TestTrimTimers: stopped timers keep nothing alive once a loop has trimmed, and the others run
// out in time.
func TestTrimTimers(t *testing.T) {
	l, err := New(Stats{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Stop()
	expired := 0
	timers := make([]Timer, 300)
	for i := range timers {
		timers[i].Init(func() { expired++ })
		l.Set(&timers[i], time.Duration(1+i%10)*time.Minute)
		if i%3 != 0 {
			l.Clear(&timers[i])
		}
	}
	l.Trim()
	if n := l.wheel.count; n != 100 {
		t.Errorf("the wheel holds %d timers, want 100", n)
	}
	for i := range timers {
		if in := timers[i].slot != 0; in != (i%3 == 0) {
			t.Errorf("timer %d is in the wheel: %v", i, in)
		}
	}
	l.Set(&timers[1], time.Minute) // one that was taken out
	for range 30 {
		l.now += int64(30 * time.Second)
		l.advance()
	}
	if expired != 101 || l.wheel.count != 0 {
		t.Errorf("%d timers have run out, %d are left, want 101 and 0", expired, l.wheel.count)
	}
}
