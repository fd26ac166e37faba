package upstream

import (
	"golang.org/x/net/http2"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
)

// writer takes what the session's framer writes.
type writer struct{ s *session }

func (w writer) Write(p []byte) (int, error) {
	w.s.write(p)
	return len(p), nil
}

func (s *session) write(p []byte) {
	if s.out == nil {
		s.out, s.sent = s.pool.loop.Buffers.Large()[:0], 0
	}
	s.out = append(s.out, p...)
}

// backlog returns how many bytes wait to be sent.
func (s *session) backlog() int { return len(s.out) - s.sent }

// room returns how many bytes of bodies may be queued.
func (s *session) room() int { return dataRoom - frameHeader - len(s.out) }

const frameHeader = 9

// data queues a DATA frame with as much of p as the windows and the output have room for,
// and returns how much that is. Without room it queues nothing.
func (s *session) data(st *Stream, p []byte, last bool) int {
	n := min(int64(len(p)), int64(s.maxFrame), s.window, st.window, int64(s.room()))
	if n <= 0 && len(p) > 0 {
		return 0
	}
	n = max(n, 0)
	flags := http2.Flags(0)
	if last && int(n) == len(p) {
		flags = http2.FlagDataEndStream
	}
	s.window -= n
	st.window -= n
	s.write(nil)
	s.out = append(s.out, byte(n>>16), byte(n>>8), byte(n), byte(http2.FrameData), byte(flags),
		byte(st.id>>24), byte(st.id>>16), byte(st.id>>8), byte(st.id))
	s.out = append(s.out, p[:n]...)
	s.idle.Empty()
	return int(n)
}

// flush sends what the socket takes, and lets streams go on that waited for room.
func (s *session) flush() error {
	full := s.room() <= 0
	for s.sent < len(s.out) {
		n, err := s.TryWrite(s.out[s.sent:])
		if err == reactor.ErrWouldBlock {
			// Make room in front rather than grow.
			if s.sent > dataRoom/2 {
				s.out = s.out[:copy(s.out, s.out[s.sent:])]
				s.sent = 0
			}
			s.unblock(full)
			return nil
		}
		if err != nil {
			return err
		}
		s.sent += n
		s.taken += uint64(n)
	}
	if s.out != nil {
		s.pool.loop.Buffers.Put(s.out)
		s.out, s.sent = nil, 0
	}
	if err := s.TryFlush(); err != nil && err != reactor.ErrWouldBlock {
		return err
	}
	s.unblock(full)
	return nil
}

// unblock wakes the streams that wait to send, if there is room now and there was none.
func (s *session) unblock(was bool) {
	if !was || s.room() <= 0 {
		return
	}
	s.wakeBlocked()
}

func (s *session) wakeBlocked() {
	blocked := s.blocked
	s.blocked = s.blocked[:0]
	for i, st := range blocked {
		blocked[i] = nil
		if st.waiting {
			st.waiting = false
			st.wake(reactor.Writable)
		}
	}
}

// block has a stream woken when there is room or window again.
func (s *session) wait(st *Stream) {
	if !st.waiting {
		st.waiting = true
		s.blocked = append(s.blocked, st)
	}
}
