package reactor

// few is how much of each kind a loop keeps for its next work when it trims.
const few = 16

// OnTrim registers a function that lets go of what is kept for reuse and not in use, on the loop's
// thread.
func (l *Loop) OnTrim(f func()) { l.trims = append(l.trims, f) }

// Trim lets go of buffers, coroutines and whatever else is kept for the next connections, but for
// a few: what a crowd that has left has used. Timers that are stopped go, too: the wheel would keep
// alive what they are part of, until their slots come up.
func (l *Loop) Trim() {
	l.wheel.dropStopped()
	for len(l.idle) > few {
		l.endIdle()
	}
	for n := len(l.pipes); n > few; n-- {
		l.pipes[n-1].close()
		l.pipes = l.pipes[:n-1]
	}
	l.idle = Trimmed(l.idle)
	l.Buffers.small, l.Buffers.large = Trimmed(l.Buffers.small), Trimmed(l.Buffers.large)
	for _, f := range l.trims {
		f()
	}
}

// Trimmed returns a list of what is kept for reuse that holds only a few of it.
func Trimmed[T any](free []T) []T {
	if len(free) > few {
		free = free[:few]
	}
	return append([]T(nil), free...)
}
