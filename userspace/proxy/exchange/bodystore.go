package exchange

import (
	"sync/atomic"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
)

// bodyStore holds what was read of a request's body before a pod is chosen: a beginning that
// may be in a file, then pieces in memory. The zero value holds nothing.
type bodyStore struct {
	open   bool // a body is read into it, or from it
	whole  bool // it holds all of the body
	passed bool // more was read than it holds, or the pieces were let go: no rewind
	file   *spooled
	pieces [][]byte
	next   int           // index of the piece that is read next
	size   int64         // bytes of body
	memory int64         // bytes of the buffers that hold the pieces
	total  *atomic.Int64 // sum of memory over the worker's requests
}

// add appends a copy of p. The first buffer is a small one, as most bodies are small.
func (s *bodyStore) add(p []byte, bufs *reactor.Buffers) {
	s.size += int64(len(p))
	for len(p) > 0 {
		n := len(s.pieces)
		if n == 0 || len(s.pieces[n-1]) == cap(s.pieces[n-1]) {
			var b []byte
			if n == 0 {
				b = bufs.Small()[:0]
			} else {
				b = bufs.Large()[:0]
			}
			s.pieces = append(s.pieces, b)
			s.memory += int64(cap(b))
			s.total.Add(int64(cap(b)))
			n++
		}
		b := s.pieces[n-1]
		m := copy(b[len(b):cap(b)], p)
		s.pieces[n-1] = b[:len(b)+m]
		p = p[m:]
	}
}

// read returns the next piece, nil after the last. Pieces stay as they are until release.
func (s *bodyStore) read() []byte {
	if s.next == len(s.pieces) {
		return nil
	}
	s.next++
	return s.pieces[s.next-1]
}

// rewind makes reading start again.
func (s *bodyStore) rewind() {
	s.next = 0
	if s.file != nil {
		s.file.at = 0
	}
}

// unread reports whether something of the body is held that was not read since the beginning.
func (s *bodyStore) unread() bool {
	return s.next < len(s.pieces) || s.file != nil && s.file.at < s.file.data.Size()
}

// drop gives the pieces back.
func (s *bodyStore) drop(bufs *reactor.Buffers) {
	for i := range s.pieces {
		bufs.Put(s.pieces[i])
	}
	s.lose()
}

// lose leaves the pieces to the garbage collector, as their users are not known.
func (s *bodyStore) lose() {
	if s.memory > 0 {
		s.total.Add(-s.memory)
	}
	clear(s.pieces)
	s.pieces, s.next, s.memory = s.pieces[:0], 0, 0
}

// release gives everything back and empties the store.
func (s *bodyStore) release(bufs *reactor.Buffers) {
	if !s.open {
		return
	}
	s.drop(bufs)
	s.forget()
}

// forget is release without giving the pieces back.
func (s *bodyStore) forget() {
	s.lose()
	if s.file != nil {
		s.file.close(s.total)
	}
	*s = bodyStore{pieces: s.pieces, total: s.total}
}

// pass gives the memory back, where what follows still comes from the client.
func (s *bodyStore) pass(bufs *reactor.Buffers) {
	whole := s.whole
	s.release(bufs)
	s.open, s.whole, s.passed = true, whole, true
}
