package reactor

import (
	"iter"
	"runtime/debug"
)

// Task is a piece of straight-line connection code.
type Task interface {
	// Run does the work; it may park its coroutine any number of times.
	Run(co *Coroutine)
	// Crashed is called in place of Run's return if it panicked. It must let go of
	// whatever the task held; only this task's connections are affected.
	Crashed(reason any, stack []byte)
}

// Coroutine runs tasks, one after the other. Between tasks it waits in its loop's pool,
// so that starting a task costs a resume (65 ns) and no memory.
type Coroutine struct {
	loop   *Loop
	next   func() (struct{}, bool)
	stop   func()
	yield  func(struct{}) bool
	task   Task
	parked bool
	queued bool // in loop.runnable
	dying  bool // the loop is being closed: park returns at once
}

func newCoroutine(l *Loop) *Coroutine {
	co := &Coroutine{loop: l}
	co.next, co.stop = iter.Pull(func(yield func(struct{}) bool) {
		co.yield = yield
		for {
			co.run()
			if co.dying {
				return
			}
			l.idle = append(l.idle, co)
			if !yield(struct{}{}) {
				return
			}
		}
	})
	return co
}

func (co *Coroutine) run() {
	task := co.task
	defer func() {
		co.task = nil
		if r := recover(); r != nil {
			co.loop.panics++
			task.Crashed(r, debug.Stack())
		}
	}()
	task.Run(co)
}

// Loop returns the loop that the coroutine belongs to.
func (co *Coroutine) Loop() *Loop { return co.loop }

// Park gives control back to the loop until something wakes the coroutine: an event that
// one of its connections asked for (Conn.Want), a timer, or Wake. It may return for no
// reason; the caller tries again and parks again.
func (co *Coroutine) Park() {
	if co.dying {
		return
	}
	co.parked = true
	if !co.yield(struct{}{}) {
		co.dying = true
	}
	co.parked = false
}

// Dying reports whether the loop is being closed. A task that sees it returns without
// parking again.
func (co *Coroutine) Dying() bool { return co.dying }

// Wake makes a parked coroutine runnable; it runs before the loop waits for events again.
func (co *Coroutine) Wake() {
	if co.parked && !co.queued {
		co.queued = true
		co.loop.runnable = append(co.loop.runnable, co)
	}
}

// Go starts a task on a coroutine of the pool. Called by the loop (handlers, timers), the
// task runs at once up to its first park; called by another task it is queued.
func (l *Loop) Go(t Task) {
	var co *Coroutine
	if n := len(l.idle); n > 0 {
		co = l.idle[n-1]
		l.idle = l.idle[:n-1]
	} else {
		co = newCoroutine(l)
		l.coroutines++
	}
	co.task = t
	if l.running {
		if !co.queued { // by a Wake that its last task did not live to see
			co.queued = true
			l.runnable = append(l.runnable, co)
		}
		return
	}
	l.resume(co)
}

func (l *Loop) resume(co *Coroutine) {
	l.running = true
	co.next()
	l.running = false
}

// maxIdleCoroutines bounds what a burst leaves behind; a parked coroutine is 2.7 KiB.
const maxIdleCoroutines = 1024

func (l *Loop) runQueued() {
	for len(l.runnable) > 0 {
		batch := l.runnable
		l.runnable = l.spare[:0]
		for i, co := range batch {
			batch[i] = nil
			co.queued = false
			if co.task != nil { // else it was resumed by an event meanwhile, and has ended
				l.resume(co)
			}
		}
		l.spare = batch[:0]
	}
	for len(l.idle) > maxIdleCoroutines {
		l.endIdle()
	}
}

// endIdle ends a coroutine that waits in the pool.
func (l *Loop) endIdle() {
	n := len(l.idle) - 1
	co := l.idle[n]
	l.idle[n] = nil
	l.idle = l.idle[:n]
	co.stop()
	l.coroutines--
}
