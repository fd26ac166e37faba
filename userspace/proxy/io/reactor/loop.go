package reactor

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Handler gets the events of a connection that no coroutine owns.
type Handler interface {
	// OnEvent is called when the connection became readable, was closed by the peer or
	// failed. It runs on the loop itself and must not block. It may be called for nothing.
	OnEvent(c *Conn)
}

// Stats is what a loop publishes about itself for others to read; the pointers may lead
// into shared memory. Each is written by the loop alone.
type Stats struct {
	BusySince *uint64 // CLOCK_MONOTONIC ns when the loop left epoll_wait, 0 while it waits
	Pending   *uint32 // ready events of this turn not yet handled
	Seen      *uint64 // CLOCK_MONOTONIC ns of the last turn
	// Beat is after how long a loop turns that has nothing to do, so that whoever reads Seen
	// knows it to live; 0: never.
	Beat time.Duration
}

// Loop is one reactor.
type Loop struct {
	epfd   int
	wakefd int
	conns  []*Conn // by descriptor
	events []unix.EpollEvent

	wheel wheel
	now   int64 // ns since base, of this turn
	base  time.Time
	mono  int64 // CLOCK_MONOTONIC at base

	idle       []*Coroutine
	runnable   []*Coroutine
	spare      []*Coroutine
	running    bool // inside a coroutine
	coroutines int
	panics     uint64

	stats   Stats
	noStats struct {
		busy    uint64
		seen    uint64
		pending uint32
	}

	mu        sync.Mutex
	submitted []func()
	woken     atomic.Bool
	stopped   bool
	open      int // connections

	Buffers Buffers
	pipes   []pipe // free
	endTurn []func()
	trims   []func()
}

// New makes a loop. It does nothing until Run.
func New(stats Stats) (*Loop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll instance: %w", err)
	}
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epfd)
		return nil, fmt.Errorf("create eventfd: %w", err)
	}
	l := &Loop{epfd: epfd, wakefd: wakefd, events: make([]unix.EpollEvent, 256), stats: stats}
	if l.stats.BusySince == nil {
		l.stats.BusySince = &l.noStats.busy
	}
	if l.stats.Seen == nil {
		l.stats.Seen = &l.noStats.seen
	}
	if l.stats.Pending == nil {
		l.stats.Pending = &l.noStats.pending
	}
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return nil, fmt.Errorf("read the clock: %w", err)
	}
	l.base, l.mono = time.Now(), ts.Nano()
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wakefd)}
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, wakefd, &ev); err != nil {
		return nil, fmt.Errorf("watch eventfd: %w", err)
	}
	return l, nil
}

// Now returns the loop's time: nanoseconds since it was made, as of this turn.
func (l *Loop) Now() int64 { return l.now }

// Clock returns the loop's time at this instant, for measuring within a turn.
func (l *Loop) Clock() int64 { return int64(time.Since(l.base)) }

// Time converts loop time to wall-clock time.
func (l *Loop) Time(at int64) time.Time { return l.base.Add(time.Duration(at)) }

// Open returns the number of descriptors that the loop watches.
func (l *Loop) Open() int { return l.open }

// Panics returns how many tasks have panicked.
func (l *Loop) Panics() uint64 { return l.panics }

// EndOfTurn registers a function that runs after each turn that had events.
func (l *Loop) EndOfTurn(f func()) { l.endTurn = append(l.endTurn, f) }

// Submit has f run on the loop's thread soon. It may be called from any goroutine.
func (l *Loop) Submit(f func()) {
	l.mu.Lock()
	l.submitted = append(l.submitted, f)
	l.mu.Unlock()
	if l.woken.CompareAndSwap(false, true) {
		one := [8]byte{1}
		unix.Write(l.wakefd, one[:]) // can only fail if the counter is full: woken anyway
	}
}

// Stop makes Run return after the current turn. It may be called from any goroutine.
func (l *Loop) Stop() { l.Submit(func() { l.stopped = true }) }

// Run handles events until Stop. It locks the calling goroutine to its thread, ends all
// coroutines and closes all connections before it returns.
func (l *Loop) Run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer l.close()
	for !l.stopped {
		n, err := l.wait()
		if err != nil {
			return err
		}
		l.now = l.Clock()
		atomic.StoreUint64(l.stats.BusySince, uint64(l.mono+l.now))
		atomic.StoreUint64(l.stats.Seen, uint64(l.mono+l.now))
		for i := range n {
			atomic.StoreUint32(l.stats.Pending, uint32(n-i))
			l.dispatch(&l.events[i])
		}
		atomic.StoreUint32(l.stats.Pending, 0)
		l.advance()
		l.runQueued()
		for _, f := range l.endTurn {
			f()
		}
		if n == len(l.events) && n < 4096 {
			l.events = make([]unix.EpollEvent, 2*n)
		}
	}
	return nil
}

// wait returns the number of ready events. It first asks without blocking by a raw system
// call, which the scheduler does not see: under load there is nearly always something.
func (l *Loop) wait() (int, error) {
	r, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epfd), uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)), 0, 0, 0)
	if errno == 0 && r > 0 {
		return int(r), nil
	}
	if len(l.runnable) > 0 {
		return 0, nil
	}
	l.now = l.Clock()
	timeout := -1
	if d := l.untilNext(); d >= 0 {
		timeout = int((d + time.Millisecond - 1) / time.Millisecond)
		if timeout == 0 {
			return 0, nil
		}
	}
	if most := int(l.stats.Beat / time.Millisecond); most > 0 && (timeout < 0 || timeout > most) {
		timeout = most
	}
	atomic.StoreUint64(l.stats.BusySince, 0)
	n, err := unix.EpollWait(l.epfd, l.events, timeout)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return 0, fmt.Errorf("wait for events: %w", err)
	}
	return max(n, 0), nil
}

func (l *Loop) dispatch(ev *unix.EpollEvent) {
	fd := int(ev.Fd)
	if fd == l.wakefd {
		l.runSubmitted()
		return
	}
	// An event of a descriptor that was closed and given out again within this turn is
	// harmless: every wake-up may be for nothing.
	if c := l.conns[fd]; c != nil {
		c.event(ev.Events)
	}
}

func (l *Loop) runSubmitted() {
	var counter [8]byte
	unix.Read(l.wakefd, counter[:])
	l.woken.Store(false)
	l.mu.Lock()
	fs := l.submitted
	l.submitted = nil
	l.mu.Unlock()
	for _, f := range fs {
		f()
	}
}

func (l *Loop) close() {
	// Coroutines end by their yield returning false: their tasks see Dying and return.
	for _, c := range l.conns {
		if c != nil && c.owner != nil && c.owner.parked {
			c.owner.stop()
		}
	}
	for _, c := range l.conns {
		if c != nil {
			c.Close()
		}
	}
	for _, co := range l.idle {
		co.stop()
	}
	for _, p := range l.pipes {
		p.close()
	}
	unix.Close(l.wakefd)
	unix.Close(l.epfd)
}
