package compress

import (
	"fmt"
	"io"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/kerngate/kerngate/userspace/text/compression"
)

// encoder is what the libraries have in common.
type encoder interface {
	io.WriteCloser
	Flush() error
	Reset(io.Writer)
}

// An encoder holds 0.3 to 1.2 MiB, so that their number is bounded: what MaxStreams does not
// let in goes out as it is. Some are kept for those that come after.
const (
	MaxStreams = 64 // of one worker, at a time
	maxIdle    = 4  // of one coding
)

// Levels: about what the peers do by default, where a CPU-second is worth more than the last
// percents of size.
const (
	gzipLevel   = 4
	brotliLevel = 4
	windowBytes = 256 << 10 // of zstd, where a decoder must take up to 8 MiB (RFC 9659)
	windowBits  = 18        // of Brotli, the same
)

// Pool gives the exchanges of one worker their encoders. The zero value is ready; like all
// that a worker has, it is not for use by others.
type Pool struct {
	open int
	idle [compression.Encodings][]*Stream
}

// Open begins a stream. nil: there are too many.
func (p *Pool) Open(e compression.Encoding) *Stream {
	if p.open >= MaxStreams {
		return nil
	}
	p.open++
	if n := len(p.idle[e]); n > 0 {
		s := p.idle[e][n-1]
		p.idle[e] = p.idle[e][:n-1]
		return s
	}
	s := &Stream{Encoding: e}
	s.encoder = newEncoder(e, &s.out)
	return s
}

// Put takes a stream back that has ended, or is given up.
func (p *Pool) Put(s *Stream) {
	p.open--
	if len(p.idle[s.Encoding]) < maxIdle {
		s.reset()
		p.idle[s.Encoding] = append(p.idle[s.Encoding], s)
	}
}

func newEncoder(e compression.Encoding, to io.Writer) encoder {
	switch e {
	case compression.Gzip:
		w, err := gzip.NewWriterLevel(to, gzipLevel)
		if err != nil {
			panic(err) // the level is a constant
		}
		return w
	case compression.Brotli:
		return brotli.NewWriterOptions(to, brotli.WriterOptions{Quality: brotliLevel, LGWin: windowBits})
	case compression.Zstd:
		// Without concurrency it does all work in the caller's turn.
		w, err := zstd.NewWriter(to, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true),
			zstd.WithWindowSize(windowBytes), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false))
		if err != nil {
			panic(err) // the options are constants
		}
		return w
	}
	panic(fmt.Sprintf("there is no encoder for %v", e))
}

// Stream is the compression of one body.
type Stream struct {
	Encoding compression.Encoding
	In, Out  uint64 // bytes so far
	encoder  encoder
	out      output
	held     bool // the encoder has taken bytes that it has not given yet
	taken    bool // what is in out
}

type output []byte

func (o *output) Write(p []byte) (int, error) {
	*o = append(*o, p...)
	return len(p), nil
}

// maxKept bounds the memory of a stream's output while nobody uses it.
const maxKept = 64 << 10

func (s *Stream) reset() {
	if cap(s.out) > maxKept {
		s.out = nil
	}
	s.out, s.held, s.taken, s.In, s.Out = s.out[:0], false, false, 0, 0
	s.encoder.Reset(&s.out)
}

func (s *Stream) room() {
	if s.taken {
		s.out, s.taken = s.out[:0], false
	}
}

// Write compresses a piece of the body.
func (s *Stream) Write(p []byte) error {
	s.room()
	s.held = true
	s.In += uint64(len(p))
	_, err := s.encoder.Write(p)
	return err
}

// Flush makes the encoder give what it holds back, so that the client can read all of the
// body so far. It costs some of the gain.
func (s *Stream) Flush() error {
	if !s.held {
		return nil
	}
	s.room()
	s.held = false
	return s.encoder.Flush()
}

// Close ends the body.
func (s *Stream) Close() error {
	s.room()
	s.held = false
	return s.encoder.Close()
}

// Take returns what there is to send, maybe nothing. It is valid until the next call of
// another method.
func (s *Stream) Take() []byte {
	if s.taken {
		return nil
	}
	s.taken = true
	s.Out += uint64(len(s.out))
	return s.out
}
