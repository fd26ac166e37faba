package http2

import (
	"bytes"
	"time"

	"github.com/rs/zerolog"
	xhttp2 "golang.org/x/net/http2"

	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// Server is what the HTTP/2 connections of one worker share.
type Server struct {
	worker *exchange.Worker
	log    zerolog.Logger
	stats  *Stats

	framer *xhttp2.Framer
	memory bytes.Reader // what framer reads from
	buffer []byte       // what connections read into, one at a time
	dirty  []*Conn      // have output for the end of this turn
	free   []*stream
	date   []byte // IMF-fixdate of the current second
	dateAt int64
}

const (
	// maxFrame is the largest payload that is accepted, and sent, in bytes. It is the
	// smallest maximum that the protocol has: larger frames gain little, and hold up the
	// other streams.
	maxFrame    = 16 << 10
	frameHeader = 9 // bytes
	// readSize is how much is read from a connection at once.
	readSize = 64 << 10
)

// NewServer makes what a worker's connections share.
func NewServer(w *exchange.Worker, stats *Stats, log zerolog.Logger) *Server {
	s := &Server{worker: w, log: log, stats: stats}
	s.framer = xhttp2.NewFramer(nil, &s.memory)
	// The order of frames is a connection's affair, and one Framer serves them all.
	s.framer.AllowIllegalReads = true
	s.framer.SetReuseFrames()
	s.framer.SetMaxReadFrameSize(maxFrame)
	w.Loop.EndOfTurn(s.flush)
	w.Loop.OnTrim(func() { s.free = reactor.Trimmed(s.free) })
	return s
}

// flush writes what the connections have gathered in this turn.
func (s *Server) flush() {
	for i := 0; i < len(s.dirty); i++ {
		c := s.dirty[i]
		s.dirty[i] = nil
		c.flush()
	}
	s.dirty = s.dirty[:0]
}

// readBuffer returns the buffer that connections read into.
func (s *Server) readBuffer() []byte {
	if s.buffer == nil {
		s.buffer = make([]byte, readSize+frameHeader+maxFrame)
	}
	return s.buffer
}

// dateValue returns the value of Date for the current second.
func (s *Server) dateValue() []byte {
	if now := s.worker.Loop.Now(); s.date == nil || now-s.dateAt >= int64(time.Second) {
		t := s.worker.Loop.Time(now)
		s.dateAt = now - int64(t.Nanosecond())
		s.date = message.AppendDate(s.date[:0], t)
	}
	return s.date
}

// maxFreeStreams bounds what a burst leaves behind; a stream is some 3 KiB.
const maxFreeStreams = 1024

func (s *Server) take() *stream {
	if n := len(s.free); n > 0 {
		p := s.free[n-1]
		s.free[n-1] = nil
		s.free = s.free[:n-1]
		return p
	}
	p := &stream{server: s}
	p.exchange.Setup()
	p.exchange.Crowded = p.crowded
	return p
}

func (s *Server) put(p *stream) {
	p.conn, p.co = nil, nil
	clear(p.request.Fields) // so that no request's strings are kept
	clear(p.trailers.Fields)
	if len(s.free) < maxFreeStreams {
		s.free = append(s.free, p)
	}
}

func (s *Server) buffers() *reactor.Buffers { return &s.worker.Loop.Buffers }
