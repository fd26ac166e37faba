package exchange

import (
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/io/spool"
)

// Bodies that are too large for memory are kept in files (package spool). A call to a file
// system takes as long as a disk does, and the clients of a reactor must not wait for that: a
// goroutine makes the call, and wakes the exchange's coroutine. The exchange itself waits, so
// that a client sends no faster than the disk writes.
const (
	spoolBatch = 256 << 10 // bytes that are gathered before they are written
	spoolRead  = 256 << 10 // bytes that are read at a time, one buffer of reactor.Large where memory is short
)

// spooled is the beginning of a body, in a file.
type spooled struct {
	data *spool.File
	at   int64  // offset of what is read next
	buf  []byte // what was read last; nil: nothing yet
	read *spoolRequest
}

// spoolRequest fills the buffer.
type spoolRequest struct {
	errand *errand
	from   int64 // offset

	// Set by the errand's goroutine.
	n   int
	err error
}

// spoolFault ends a request whose body cannot be read back.
type spoolFault struct{ detail string }

func (f *spoolFault) Error() string { return "spooled request body: " + f.detail }

// spool moves what is held in memory of the request's body to a file. It reports Forwarded if
// that is done.
func (x *Exchange) spool() Reason {
	s := &x.body.store
	if s.file == nil {
		s.file = &spooled{data: x.worker.Spool.New()}
	}
	var err error
	file, pieces := s.file.data, s.pieces
	e := x.dispatch(func() { err = file.Append(pieces) })
	// The goroutine uses the pieces, so that it is waited for even if the client is gone.
	x.down.Want(0)
	for !e.done {
		if x.co.Dying() {
			e.abandon(nil)
			s.pieces = nil
			return ClientAborted
		}
		x.co.Park()
	}
	switch {
	case err == nil:
		s.drop(&x.worker.Loop.Buffers)
		return Forwarded
	case errors.Is(err, spool.ErrFull):
		return BuffersFull
	case errors.Is(err, spool.ErrTooLarge):
		return LengthRequired
	}
	x.worker.logSpool(err)
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		return Overloaded
	}
	x.Outcome.Detail = errnoToken(err)
	return SpoolFailed
}

// readSpooled returns the next piece of the file, nil after the last. Like one of
// Downstream.ReadBody it is valid until the call after.
func (x *Exchange) readSpooled() ([]byte, error) {
	f := x.body.store.file
	if r := f.read; r != nil {
		if !r.errand.done {
			return nil, reactor.ErrWouldBlock
		}
		f.read = nil
		switch {
		case r.err != nil:
			x.worker.logSpool(r.err)
			return nil, &spoolFault{errnoToken(r.err)}
		case r.from == f.at: // else the body was rewound meanwhile
			f.at += int64(r.n)
			return f.buf[:r.n], nil
		}
	}
	if f.at == f.data.Size() {
		return nil, nil
	}
	if f.buf == nil {
		n := int64(spoolRead)
		if x.conf.Settings.RequestBuffers-x.body.store.total.Load() < 4*n {
			n = reactor.LargeBuffer
		}
		f.buf = make([]byte, n)
		x.body.store.total.Add(n)
	}
	r := &spoolRequest{from: f.at}
	data, buf := f.data, f.buf
	r.errand = x.dispatch(func() { r.n, r.err = data.Fill(buf, r.from) })
	f.read = r
	return nil, reactor.ErrWouldBlock
}

// waits reports whether something is being read from the file.
func (f *spooled) waits() bool { return f != nil && f.read != nil && !f.read.errand.done }

// close gives the file and the buffer back, which is counted in total: as soon as nothing is
// read into it any more.
func (f *spooled) close(total *atomic.Int64) {
	n := int64(len(f.buf))
	f.buf = nil
	f.data.Close()
	if r := f.read; r != nil && !r.errand.done {
		r.errand.abandon(func() { total.Add(-n) })
		return
	}
	total.Add(-n)
}

// errnoToken names what a system call has failed with.
func errnoToken(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		if name := unix.ErrnoName(errno); name != "" {
			return strings.ToLower(name)
		}
	}
	return "unknown"
}

// spoolLog bounds how often failures of the file system are logged.
type spoolLog struct {
	at   int64 // loop time of the last line, 0: none
	left int   // failures since, that have none
}

const spoolLogEvery = 30 * time.Second // per worker

func (w *Worker) logSpool(err error) {
	l := &w.spoolLog
	if now := w.Loop.Clock(); l.at != 0 && now-l.at < int64(spoolLogEvery) {
		l.left++
		return
	} else {
		l.at = now
	}
	e := w.Log.Error().Err(err)
	if l.left > 0 {
		e = e.Int("not_logged", l.left)
		l.left = 0
	}
	e.Msg("request bodies cannot be spooled, and their clients get 507; see --request-spool-dir")
}
