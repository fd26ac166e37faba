package reactor

import (
	"io"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// start runs a loop until the test ends.
func start(t testing.TB) *Loop {
	t.Helper()
	l, err := New(Stats{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.Run() }()
	t.Cleanup(func() {
		l.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l
}

// on runs f on the loop and waits.
func on(l *Loop, f func()) {
	done := make(chan struct{})
	l.Submit(func() { f(); close(done) })
	<-done
}

type task struct {
	run     func(co *Coroutine)
	crashed func(reason any)
}

func (t *task) Run(co *Coroutine) { t.run(co) }
func (t *task) Crashed(reason any, _ []byte) {
	if t.crashed != nil {
		t.crashed(reason)
	}
}

func pair(t testing.TB) (a, b int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fds[0], fds[1]
}

func TestEcho(t *testing.T) {
	l := start(t)
	near, far := pair(t)
	var c Conn
	on(l, func() {
		if err := l.Add(&c, far, nil); err != nil {
			t.Error(err)
		}
		l.Go(&task{run: func(co *Coroutine) {
			c.Own(co)
			buf := make([]byte, 100)
			for {
				n, err := c.TryRead(buf)
				switch err {
				case nil:
					c.TryWrite(buf[:n])
				case ErrWouldBlock:
					c.Want(Readable)
					co.Park()
				case io.EOF:
					c.Close()
					return
				default:
					t.Error(err)
					return
				}
			}
		}})
	})
	unix.SetNonblock(near, false)
	buf := make([]byte, 1000)
	for range 1000 {
		n := 1 + rand.IntN(500) // more and less than the echo's buffer
		if _, err := unix.Write(near, buf[:n]); err != nil {
			t.Fatal(err)
		}
		for got := 0; got < n; {
			m, err := unix.Read(near, buf)
			if err != nil {
				t.Fatal(err)
			}
			got += m
		}
	}
	unix.Shutdown(near, unix.SHUT_WR)
	if n, err := unix.Read(near, buf); n != 0 || err != nil {
		t.Errorf("after our end: %d %v, want the end", n, err)
	}
	unix.Close(near)
}

// TestEndWithLastData: the end of the stream that comes together with data must be seen,
// though there is one event for both and the read was short.
func TestEndWithLastData(t *testing.T) {
	l := start(t)
	for range 200 {
		near, far := pair(t)
		unix.Write(near, []byte("last words"))
		unix.Close(near)
		ended := make(chan struct{})
		on(l, func() {
			c := new(Conn)
			l.Add(c, far, nil)
			l.Go(&task{run: func(co *Coroutine) {
				c.Own(co)
				buf := make([]byte, 100)
				for {
					_, err := c.TryRead(buf)
					if err == ErrWouldBlock {
						c.Want(Readable)
						co.Park()
						continue
					}
					if err != nil {
						c.Close()
						close(ended)
						return
					}
				}
			}})
		})
		select {
		case <-ended:
		case <-time.After(2 * time.Second):
			t.Fatal("the end was not seen")
		}
	}
}

// TestPanic: a task's panic ends that task alone, and its coroutine goes on to be used.
func TestPanic(t *testing.T) {
	l := start(t)
	var crashes, ran int
	on(l, func() {
		for range 10 {
			l.Go(&task{
				run:     func(*Coroutine) { panic("fault") },
				crashed: func(reason any) { crashes++ },
			})
			l.Go(&task{run: func(*Coroutine) { ran++ }})
		}
	})
	on(l, func() {
		if crashes != 10 || ran != 10 || l.Panics() != 10 {
			t.Errorf("%d crashes, %d ran, %d counted; want 10 each", crashes, ran, l.Panics())
		}
		if l.coroutines > 2 {
			t.Errorf("%d coroutines made for tasks that ran one after the other", l.coroutines)
		}
	})
}

// TestTimers compares the wheel with what was asked for: never early, late by no more than
// a tick and what the machine delays, whatever setting, resetting and clearing came before.
// TestWakeOutlivesTask: a task that was woken and then ended by an event, in one turn, is
// not run again, and its coroutine runs the next one.
func TestWakeOutlivesTask(t *testing.T) {
	l := start(t)
	runs := 0
	on(l, func() {
		var co *Coroutine
		l.Go(&task{run: func(c *Coroutine) {
			co = c
			c.Park()
			runs++
		}})
		co.Wake()
		l.resume(co) // as an event does
		l.Go(&task{run: func(c *Coroutine) {
			if c != co {
				t.Error("the coroutine was not used again")
			}
			c.Wake() // not parked: nothing
			runs++
		}})
	})
	on(l, func() {}) // a turn later
	on(l, func() {
		if runs != 2 || l.Panics() != 0 {
			t.Errorf("%d runs and %d panics, want 2 and none", runs, l.Panics())
		}
	})
}

func TestTimers(t *testing.T) {
	l := &Loop{}
	random := rand.New(rand.NewPCG(1, 2))
	type timer struct {
		Timer
		want int64 // 0: stopped
	}
	timers := make([]*timer, 300)
	expired := 0
	for i := range timers {
		x := &timer{}
		x.Init(func() {
			if x.want == 0 || l.now < x.want || l.now > x.want+2*int64(tick)+int64(50*time.Millisecond) {
				t.Errorf("expired at %v, wanted %v", time.Duration(l.now), time.Duration(x.want))
			}
			x.want = 0
			expired++
		})
		timers[i] = x
	}
	for range 20000 {
		for range 3 {
			x := timers[random.IntN(len(timers))]
			switch random.IntN(8) {
			case 0:
				l.Clear(&x.Timer)
				x.want = 0
			case 1:
				l.Drop(&x.Timer)
				x.want = 0
			default:
				d := time.Duration(random.Int64N(int64(200 * time.Second)))
				if random.IntN(2) == 0 {
					d = time.Duration(random.Int64N(int64(time.Second)))
				}
				l.Set(&x.Timer, d)
				x.want = l.now + int64(d)
			}
		}
		sleep := l.untilNext()
		if sleep > 50*time.Millisecond || sleep < 0 {
			sleep = 50 * time.Millisecond
		}
		l.now += int64(sleep)
		l.advance()
	}
	if expired < 1000 {
		t.Errorf("only %d timers expired: the test shows nothing", expired)
	}
	for _, x := range timers {
		l.Drop(&x.Timer)
	}
	if l.wheel.count != 0 || l.wheel.filled != [slots / 64]uint64{} || l.untilNext() != -1 {
		t.Error("the wheel is not empty after all timers were dropped")
	}
}

// TestTimerWakes: the loop sleeps no longer than to the next timer.
func TestTimerWakes(t *testing.T) {
	l := start(t)
	fired := make(chan time.Duration, 1)
	begin := time.Now()
	on(l, func() {
		x := new(Timer)
		x.Init(func() { fired <- time.Since(begin) })
		l.Set(x, 200*time.Millisecond)
	})
	if d := <-fired; d < 200*time.Millisecond {
		t.Errorf("fired after %v, before its time", d)
	}
}

// TestBeat: a loop that has nothing to do turns again and again, and says so.
func TestBeat(t *testing.T) {
	var seen uint64
	l, err := New(Stats{Seen: &seen, Beat: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.Run() }()
	last := uint64(0)
	for turns, deadline := 0, time.Now().Add(30*time.Second); turns < 5; {
		if now := atomic.LoadUint64(&seen); now > last {
			last = now
			turns++
		}
		if time.Now().After(deadline) {
			t.Fatalf("an idle loop has turned %d times in half a minute", turns)
		}
		time.Sleep(time.Millisecond)
	}
	l.Stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestStop: parked tasks see the end, and nothing is left behind.
func TestStop(t *testing.T) {
	before := runtime.NumGoroutine()
	l, err := New(Stats{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.Run() }()
	var ended atomic.Int64
	near, far := pair(t)
	on(l, func() {
		c := new(Conn)
		l.Add(c, far, nil)
		l.Go(&task{run: func(co *Coroutine) {
			c.Own(co)
			c.Want(Readable)
			for !co.Dying() {
				co.Park()
			}
			ended.Add(1)
		}})
	})
	l.Stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if ended.Load() != 1 {
		t.Error("the parked task did not end")
	}
	unix.SetNonblock(near, false)
	if n, _ := unix.Read(near, make([]byte, 1)); n != 0 {
		t.Error("the connection is still open")
	}
	unix.Close(near)
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

func BenchmarkResume(b *testing.B) {
	l := start(b)
	on(l, func() {
		var co *Coroutine
		l.Go(&task{run: func(c *Coroutine) {
			co = c
			for !c.Dying() {
				c.Park()
			}
		}})
		for b.Loop() {
			l.resume(co)
		}
		co.stop()
	})
}
