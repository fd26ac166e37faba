// Package spool keeps request bodies that are too large for memory in files without a name,
// within a bound for all of them. Its calls block as the disk does: they are not for the thread
// of a reactor.
package spool

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/userspace/model"
)

// maxCalls bounds the system calls to the disk that are under way at a time. Each holds a thread
// of the process while the disk does not answer.
const maxCalls = 16

var (
	// ErrFull: other bodies take the room; later there may be some.
	ErrFull = errors.New("too many request bodies are spooled")
	// ErrTooLarge: the body alone is larger than all of the room.
	ErrTooLarge = errors.New("the request body is larger than all that may be spooled")
)

// Dir is a folder for such files.
type Dir struct {
	path  string
	fd    int
	total int64
	held  atomic.Int64 // bytes that files have taken of the total
	files atomic.Int64
	calls chan struct{}

	named atomic.Bool // the file system has no O_TMPFILE
	next  atomic.Uint64

	write atomic.Pointer[Write]
}

// Write is pwritev(2), or what a test puts in its place.
type Write func(fd int, pieces [][]byte, offset int64) (int, error)

// SetWrite has data written by w, for tests in which that fails, or takes long.
func (d *Dir) SetWrite(w Write) { d.write.Store(&w) }

// Open opens a folder in which up to total bytes may be spooled. It makes a file there, so that a
// folder that is of no use is found out before there is a request.
func Open(path string, total int64) (*Dir, error) {
	fd, err := unix.Open(path, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	d := &Dir{path: path, fd: fd, total: total, calls: make(chan struct{}, maxCalls)}
	d.SetWrite(unix.Pwritev)
	f, err := d.create()
	if err == nil {
		err = os.NewSyscallError("pwrite", write(f, unix.Pwritev, [][]byte{{0}}, 0))
		unix.Close(f)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make a file in %s: %w", path, err)
	}
	return d, nil
}

// Close closes the folder. Files that are open stay so.
func (d *Dir) Close() { unix.Close(d.fd) }

// Total returns the bound of all files, in bytes.
func (d *Dir) Total() int64 { return d.total }

// Held returns how much of it is taken.
func (d *Dir) Held() int64 { return d.held.Load() }

// Files returns how many files there are.
func (d *Dir) Files() int64 { return d.files.Load() }

// create returns a file that has no name.
func (d *Dir) create() (int, error) {
	const flags = unix.O_RDWR | unix.O_CLOEXEC
	if !d.named.Load() {
		fd, err := unix.Openat(d.fd, ".", flags|unix.O_TMPFILE, 0o600)
		switch err {
		case nil:
			return fd, nil
		case unix.EOPNOTSUPP, unix.EISDIR, unix.ENOENT: // open(2): by file system, and by kernel
			d.named.Store(true)
		default:
			return -1, os.NewSyscallError("open with O_TMPFILE", err)
		}
	}
	// It has a name for a moment, and no data then. Another proxy may use the same folder.
	for {
		name := fmt.Sprintf(".kerngate-%d-%d", os.Getpid(), d.next.Add(1))
		fd, err := unix.Openat(d.fd, name, flags|unix.O_CREAT|unix.O_EXCL, 0o600)
		if err == unix.EEXIST {
			continue
		}
		if err != nil {
			return -1, os.NewSyscallError("open", err)
		}
		if err := unix.Unlinkat(d.fd, name, 0); err != nil {
			unix.Close(fd)
			return -1, os.NewSyscallError("unlink", err)
		}
		return fd, nil
	}
}

// File is one body, or its beginning. It is made by the first Append. One goroutine at a time may
// use it; Close is for any.
type File struct {
	dir      *Dir
	fd       int // -1: none yet
	size     int64
	reserved int64

	mu     sync.Mutex
	busy   bool // within a call
	closed bool
}

// New returns an empty file, which takes nothing yet.
func (d *Dir) New() *File { return &File{dir: d, fd: -1} }

// begin and end enclose what uses the descriptor.
func (f *File) begin() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return os.ErrClosed
	}
	f.busy = true
	return nil
}

func (f *File) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy = false
	if f.closed {
		f.release()
	}
}

// Close gives the file and its part of the total back, when the call that uses it has ended.
func (f *File) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	f.closed = true
	if !f.busy {
		f.release()
	}
}

func (f *File) release() {
	if f.fd >= 0 {
		go unix.Close(f.fd) // frees what the file holds, which waits for a busy disk
		f.fd = -1
		f.dir.files.Add(-1)
	}
	f.dir.held.Add(-f.reserved)
	f.reserved = 0
}

// Size returns how many bytes there are.
func (f *File) Size() int64 { return f.size }

// reserve takes room for size bytes in all.
func (f *File) reserve(size int64) error {
	d := f.dir
	if size > d.total {
		return ErrTooLarge
	}
	if size <= f.reserved {
		return nil
	}
	want := min((size+model.LeastSpool-1)/model.LeastSpool*model.LeastSpool, d.total) - f.reserved
	if d.held.Add(want) > d.total {
		d.held.Add(-want)
		return ErrFull
	}
	f.reserved += want
	return nil
}

// Append writes the pieces behind what there is: all of them, or none on an error: ErrFull,
// ErrTooLarge, or what the file system says.
func (f *File) Append(pieces [][]byte) error {
	if err := f.begin(); err != nil {
		return err
	}
	defer f.end()
	var n int64
	for _, p := range pieces {
		n += int64(len(p))
	}
	if err := f.reserve(f.size + n); err != nil {
		return err
	}
	d := f.dir
	d.calls <- struct{}{}
	defer func() { <-d.calls }()
	if f.fd < 0 {
		fd, err := d.create()
		if err != nil {
			return fmt.Errorf("make a file in %s: %w", d.path, err)
		}
		f.fd = fd
		d.files.Add(1)
	}
	if err := write(f.fd, *d.write.Load(), pieces, f.size); err != nil {
		return fmt.Errorf("write to a file in %s: %w", d.path, err)
	}
	f.size += n
	return nil
}

// maxPieces is how many pieces one system call gets; IOV_MAX is 1024.
const maxPieces = 64

func write(fd int, pwritev Write, pieces [][]byte, offset int64) error {
	rest := append([][]byte(nil), pieces...)
	for len(rest) > 0 {
		n, err := pwritev(fd, rest[:min(len(rest), maxPieces)], offset)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0 && len(rest[0]) > 0:
			return unix.ENOSPC // what a file system that writes nothing means
		}
		offset += int64(n)
		for len(rest) > 0 && n >= len(rest[0]) {
			n -= len(rest[0])
			rest = rest[1:]
		}
		if len(rest) > 0 {
			rest[0] = rest[0][n:]
		}
	}
	return nil
}

// Fill reads what stands at offset until p is full or the file ends, and returns how much that is.
func (f *File) Fill(p []byte, offset int64) (int, error) {
	if err := f.begin(); err != nil {
		return 0, err
	}
	defer f.end()
	f.dir.calls <- struct{}{}
	defer func() { <-f.dir.calls }()
	want := min(int64(len(p)), f.size-offset)
	have := int64(0)
	for have < want {
		n, err := unix.Pread(f.fd, p[have:want], offset+have)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return int(have), fmt.Errorf("read a file in %s: %w", f.dir.path, err)
		case n == 0: // shorter than it was written
			return int(have), fmt.Errorf("read a file in %s: %w", f.dir.path, unix.EIO)
		}
		have += int64(n)
	}
	return int(have), nil
}
