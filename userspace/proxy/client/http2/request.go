package http2

import (
	"io"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// ReadBody implements exchange.Downstream, like the exported methods of stream in the
// other files.
func (s *stream) ReadBody() ([]byte, error) {
	if s.fault != nil {
		return nil, s.fault
	}
	if s.broken {
		return nil, errBroken
	}
	p := s.in.take(s.server.buffers())
	s.account()
	if p != nil {
		if n := s.in.credit(); n > 0 {
			s.received += int64(n)
			s.giveBack(n)
		}
		return p, nil
	}
	if s.ended {
		return nil, io.EOF
	}
	return nil, reactor.ErrWouldBlock
}

// Trailers of the request.
func (s *stream) Trailers() []message.Field { return s.trailers.Fields }

// RewindBody starts the body again if all of it that was read is still there.
func (s *stream) RewindBody() bool { return s.in.rewind() }

// Source returns nil: bodies come in frames.
func (s *stream) Source() (*reactor.Conn, int64) { return nil, 0 }

// Took is not called without a Source.
func (s *stream) Took(int64) {}

// Want says what wakes the coroutine.
func (s *stream) Want(i reactor.Interest) { s.wants = i }

// Broken reports whether the client has taken the request back or is gone.
func (s *stream) Broken() bool { return s.broken }
