package http2

import xhttp2 "golang.org/x/net/http2"

// account settles what the stream's body holds with the sums of its connection and worker
// (exchange.BodiesHeld).
func (s *stream) account() {
	n := s.in.buffered() - s.held
	s.held += n
	s.server.worker.Metrics.BodiesHeld.Add(&s.conn.held, n)
}

// evict ends a stream whose body there is no memory for.
func (s *stream) evict() {
	s.evicted = true
	s.breakOff()
	s.conn.resets.add(s.id)
	s.conn.queueReset(s.id, xhttp2.ErrCodeEnhanceYourCalm)
}
