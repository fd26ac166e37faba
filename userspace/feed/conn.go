package feed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// descriptorsPerByte is how many descriptors travel with one byte of the stream: below
// the kernel's SCM_MAX_FD (253).
const descriptorsPerByte = 240

// conn frames messages on a stream socket. One goroutine may read while another writes.
type conn struct {
	unix  *net.UnixConn
	limit int // of a received message, bytes

	buf []byte // received, not yet consumed
	oob []byte
	fds []int // received, not yet taken
}

func newConn(c *net.UnixConn, limit int) *conn {
	return &conn{unix: c, limit: limit, oob: make([]byte, unix.CmsgSpace(4*253))}
}

// write sends one message. Descriptors are duplicated by the kernel; the caller keeps
// its own. More than one sendmsg can carry are spread over the message's first bytes.
func (c *conn) write(m proto.Message, fds []int) error {
	frame := binary.AppendUvarint(nil, uint64(proto.Size(m)))
	frame, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(frame, m)
	if err != nil {
		return fmt.Errorf("encode %T: %w", m, err)
	}
	for len(fds) > 0 {
		if len(frame) < 2 {
			return fmt.Errorf("%T: too short a message for its descriptors", m)
		}
		n := min(len(fds), descriptorsPerByte)
		if _, _, err := c.unix.WriteMsgUnix(frame[:1], unix.UnixRights(fds[:n]...), nil); err != nil {
			return err
		}
		frame, fds = frame[1:], fds[n:]
	}
	_, err = c.unix.Write(frame)
	return err
}

// read receives one message into m and returns its size in bytes. io.EOF means that the
// peer closed between messages. Descriptors gather in c.fds until takeFDs.
func (c *conn) read(m proto.Message) (int, error) {
	var size uint64
	for {
		n := 0
		if size, n = binary.Uvarint(c.buf); n > 0 {
			c.buf = c.buf[n:]
			break
		}
		if n < 0 || len(c.buf) >= binary.MaxVarintLen64 {
			return 0, errors.New("malformed message length")
		}
		if err := c.fill(4 << 10); err != nil {
			if err == io.EOF && len(c.buf) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
	}
	if size > uint64(c.limit) {
		return 0, fmt.Errorf("message of %d bytes is over the limit of %d", size, c.limit)
	}
	for uint64(len(c.buf)) < size {
		// A peer that announces much and sends little costs little: ask for at most
		// as much again as has arrived.
		want := min(int(size)-len(c.buf), max(64<<10, len(c.buf)))
		if err := c.fill(want); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
	}
	if err := proto.Unmarshal(c.buf[:size], m); err != nil {
		return 0, fmt.Errorf("decode %T: %w", m, err)
	}
	c.buf = c.buf[size:]
	if len(c.buf) == 0 {
		c.buf = nil // a large snapshot is not kept
	}
	return int(size), nil
}

// fill reads at most n bytes and whatever descriptors come with them.
func (c *conn) fill(n int) error {
	have := len(c.buf)
	if cap(c.buf)-have < n {
		grown := make([]byte, have, have+n)
		copy(grown, c.buf)
		c.buf = grown
	}
	got, oobn, flags, _, err := c.unix.ReadMsgUnix(c.buf[have:have+n], c.oob)
	if oobn > 0 {
		if err := c.keepFDs(c.oob[:oobn]); err != nil {
			return err
		}
	}
	if errors.Is(err, io.EOF) {
		return io.EOF // ReadMsgUnix wraps it
	}
	if err != nil {
		return err
	}
	if flags&unix.MSG_CTRUNC != 0 {
		return errors.New("descriptors were lost: raise the limit of open files (ulimit -n)")
	}
	c.buf = c.buf[:have+got]
	return nil
}

// keepFDs takes ownership of the descriptors in a control message. They are close-on-exec
// (net sets MSG_CMSG_CLOEXEC).
func (c *conn) keepFDs(oob []byte) error {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("control message: %w", err)
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue // not descriptors
		}
		c.fds = append(c.fds, fds...)
	}
	if len(c.fds) > MaxDescriptors {
		return fmt.Errorf("more than %d descriptors", MaxDescriptors)
	}
	return nil
}

// stray reports whether descriptors came with the message just read. With those of the next
// message, part of it has come as well.
func (c *conn) stray() bool { return len(c.fds) > 0 && len(c.buf) == 0 }

// takeFDs hands the descriptors received so far to the caller.
func (c *conn) takeFDs() []int {
	fds := c.fds
	c.fds = nil
	return fds
}

// close ends the conversation and closes descriptors that nobody took.
func (c *conn) close() error {
	closeFDs(c.fds)
	c.fds = nil
	return c.unix.Close()
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
