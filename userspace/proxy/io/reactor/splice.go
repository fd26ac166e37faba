package reactor

import (
	"io"

	"golang.org/x/sys/unix"
)

// pipeSize is the capacity asked for. The kernel lets all pipes of an unprivileged user
// take 64 MiB (fs.pipe-user-pages-soft) and makes those beyond it one page small.
const pipeSize = 256 << 10

// maxFreePipes bounds what a burst leaves behind, per loop.
const maxFreePipes = 32

type pipe struct{ r, w, size int }

// Splice moves a number of bytes from one socket to another through a pipe: pages change
// hands, nothing is copied to user space. Neither socket may be in a SOCKMAP, whose data
// splice(2) does not see.
type Splice struct {
	from, to *Conn
	pipe     pipe
	left     int64 // not yet taken from the source
	inside   int   // in the pipe
	Sent     int64
	// Stream says that nobody knows how much will come: what has come is sent at once, and
	// never held back to fill a segment. Set after Open.
	Stream bool
}

// SpliceError says on which side a Splice failed.
type SpliceError struct {
	Source bool // else the destination
	Err    error
}

func (e *SpliceError) Error() string { return "splice: " + e.Err.Error() }
func (e *SpliceError) Unwrap() error { return e.Err }

// Open prepares to move n bytes. It fails if there is no pipe to be had; the bytes can
// then be moved by reading and writing.
func (s *Splice) Open(from, to *Conn, n int64) error {
	p, err := from.loop.pipe()
	if err != nil {
		return err
	}
	*s = Splice{from: from, to: to, pipe: p, left: n}
	return nil
}

func (l *Loop) pipe() (pipe, error) {
	if n := len(l.pipes); n > 0 {
		p := l.pipes[n-1]
		l.pipes = l.pipes[:n-1]
		return p, nil
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return pipe{}, err
	}
	p := pipe{r: fds[0], w: fds[1]}
	size, err := unix.FcntlInt(uintptr(p.w), unix.F_SETPIPE_SZ, pipeSize)
	if err != nil {
		size, err = unix.FcntlInt(uintptr(p.w), unix.F_GETPIPE_SZ, 0)
	}
	if p.size = size; err != nil || size < 64<<10 {
		p.close()
		return pipe{}, unix.EMFILE
	}
	return p, nil
}

func (p pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

// IsOpen reports whether a move is under way.
func (s *Splice) IsOpen() bool { return s.from != nil }

// Done reports whether all bytes have been moved.
func (s *Splice) Done() bool { return s.left == 0 && s.inside == 0 }

// Wants returns what the sides have to become for Move to get on.
func (s *Splice) Wants() (from, to Interest) {
	if s.inside > 0 {
		to = Writable
	}
	if s.left > 0 && s.inside < s.pipe.size {
		from = Readable
	}
	return from, to
}

// Move moves what can be moved now and reports whether that was anything. It ends after most
// bytes, beyond which it goes by what the pipe holds. An error is a *SpliceError; io.EOF of the
// source is one.
func (s *Splice) Move(most int64) (moved bool, err error) {
	for before := s.Sent; s.Sent-before < most; {
		in, err := s.fill()
		if err != nil && s.inside == 0 {
			return moved, err // what came before the end goes out first
		}
		out, werr := s.empty()
		if werr != nil {
			return moved, werr
		}
		if !in && !out {
			return moved, nil
		}
		moved = true
		if s.Done() {
			return true, nil
		}
	}
	return moved, nil
}

// fill takes bytes from the source.
func (s *Splice) fill() (bool, error) {
	if s.left == 0 || s.inside >= s.pipe.size || s.from.ready&Readable == 0 {
		return false, nil
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(s.from.fd), 0, uintptr(s.pipe.w), 0,
		uintptr(min(s.left, int64(s.pipe.size))), unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
	switch errno {
	case 0:
		if n == 0 {
			return false, &SpliceError{true, io.EOF}
		}
		s.left -= int64(n)
		s.inside += int(n)
		return true, nil
	case unix.EAGAIN:
		// The socket is empty, or the pipe has no slot left though its bytes would fit.
		// Only an empty pipe tells; a full one is emptied first.
		if s.inside == 0 {
			s.from.ready &^= Readable
		}
		return false, nil
	case unix.EINTR:
		return true, nil
	default:
		s.from.ready |= Broken
		return false, &SpliceError{true, errno}
	}
}

// empty hands the destination what is in the pipe.
func (s *Splice) empty() (bool, error) {
	if s.inside == 0 || s.to.ready&Writable == 0 {
		return false, nil
	}
	flags := uintptr(unix.SPLICE_F_NONBLOCK | unix.SPLICE_F_MOVE)
	if s.left > 0 && !s.Stream {
		flags |= unix.SPLICE_F_MORE
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(s.pipe.r), 0, uintptr(s.to.fd), 0, uintptr(s.inside), flags)
	switch errno {
	case 0:
		s.inside -= int(n)
		s.Sent += int64(n)
		return n > 0, nil
	case unix.EAGAIN:
		s.to.ready &^= Writable
		return false, nil
	case unix.EINTR:
		return true, nil
	default:
		s.to.ready |= Broken | Readable // see WriteSocket
		return false, &SpliceError{false, errno}
	}
}

// Close ends the use of the pipe. One that still holds bytes is not used again.
func (s *Splice) Close() {
	if !s.IsOpen() {
		return
	}
	l := s.from.loop
	if s.inside == 0 && len(l.pipes) < maxFreePipes {
		l.pipes = append(l.pipes, s.pipe)
	} else {
		s.pipe.close()
	}
	s.from, s.to = nil, nil
}
