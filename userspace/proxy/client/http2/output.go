package http2

import (
	xhttp2 "golang.org/x/net/http2"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
)

// output is what is on its way to the client. Frames are appended to one buffer, which is
// written at the end of the turn, or earlier if it is full; streams that have more to say
// than fits take turns. While there is nothing to send it holds no buffer.
type output struct {
	c         *Conn
	b         []byte // b[sent:] is still to go
	sent      int
	dirty     bool  // in the server's list for the end of this turn
	blocked   bool  // the socket takes no more
	blockedAt int64 // loop time since which it takes nothing at all, 0: it does

	window   int64 // bytes of bodies that the client takes, of all streams
	initial  int64 // with which a stream begins
	maxFrame int   // payload that the client takes in a frame, or less
	resize   bool  // the client has changed the size of HPACK's table: say that we use none
	waiting  []*stream

	late []reset // go out once all else has, in a write of their own

	explained int64 // bytes of body sent for which no WINDOW_UPDATE has come
}

// reset is an RST_STREAM frame to be.
type reset struct {
	id   uint32
	code xhttp2.ErrCode
}

const (
	// outputSize is up to where bodies are gathered, in bytes.
	outputSize = reactor.LargeBuffer
	// maxBacklog is how much may wait for a client that does not read before nothing
	// more is read from it: every frame could ask for an answer.
	maxBacklog = 64 << 10
	// minRoom is the least that is worth beginning a frame of body for.
	minRoom = 1 << 10
)

func (o *output) init(c *Conn) {
	o.c = c
	o.window, o.initial, o.maxFrame = defaultWindow, defaultWindow, maxFrame
}

// backlog returns the number of bytes that are to go.
func (o *output) backlog() int { return len(o.b) - o.sent }

// room returns how many bytes of body may be appended.
func (o *output) room() int { return outputSize - len(o.b) }

// tail returns the output for append functions; the result goes to extend.
func (o *output) tail() []byte {
	if o.b == nil {
		o.b = o.c.server.buffers().Large()[:0]
	}
	return o.b
}

// extend takes what an append function made of tail.
func (o *output) extend(b []byte) {
	o.b = b
	o.c.touch()
}

// drop forgets what is not sent, but for the rest of a frame of which a part is.
func (o *output) drop() {
	for i, s := range o.waiting {
		s.waits = false
		o.waiting[i] = nil
	}
	o.waiting = o.waiting[:0]
	o.late = o.late[:0]
}

func (o *output) release() {
	o.drop()
	if o.b != nil {
		o.c.server.buffers().Put(o.b)
		o.b, o.sent = nil, 0
	}
}

// wait puts a stream at the end of those that take turns.
func (o *output) wait(s *stream) {
	if !s.waits {
		s.waits = true
		o.waiting = append(o.waiting, s)
		o.c.touch()
	}
}

// leave takes a stream out of turn.
func (o *output) leave(s *stream) {
	if !s.waits {
		return
	}
	s.waits = false
	for i, other := range o.waiting {
		if other == s {
			o.waiting = append(o.waiting[:i], o.waiting[i+1:]...)
			return
		}
	}
}

// serve lets the waiting streams take turns, a frame each, while there is room.
func (o *output) serve() {
	for len(o.waiting) > 0 && o.window > 0 && o.room() > minRoom {
		s := o.waiting[0]
		last := copy(o.waiting, o.waiting[1:])
		o.waiting[last] = nil
		o.waiting = o.waiting[:last]
		s.waits = false
		s.emitFrame()
		switch {
		case !s.unsent():
			s.signal(reactor.Writable)
		case s.window > 0 && s.at >= 0:
			s.waits = true
			o.waiting = append(o.waiting, s)
		}
	}
}

// flush starts what may begin by now, writes what is there, lets streams fill up what becomes free, and so on until
// nothing is left or the socket takes no more.
func (c *Conn) flush() {
	o := &c.out
	o.dirty = false
	c.start()
	if c.state == closed || o.blocked {
		return
	}
	for {
		o.serve()
		if o.sent == len(o.b) && !o.takeLate() {
			break
		}
		if !o.write() {
			return
		}
	}
	if err := c.conn.TryFlush(); err != nil {
		o.stuck(err)
		return
	}
	o.blockedAt = 0
	if o.b != nil {
		c.server.buffers().Put(o.b)
		o.b, o.sent = nil, 0
	}
	if c.state == ending && !c.drain.shut {
		c.drain.shut = true
		c.conn.CloseWrite()
	}
	if c.paused {
		c.paused = false
		c.read()
	}
}

// takeLate appends the resets that have waited, and reports whether there were any.
func (o *output) takeLate() bool {
	for _, r := range o.late {
		o.c.queueReset(r.id, r.code)
	}
	taken := len(o.late) > 0
	o.late = o.late[:0]
	return taken
}

// write writes once. It reports whether the socket may take more.
func (o *output) write() bool {
	n, err := o.c.conn.TryWrite(o.b[o.sent:])
	if err != nil {
		o.stuck(err)
		return false
	}
	if o.sent += n; o.sent == len(o.b) {
		o.b, o.sent = o.b[:0], 0
	}
	o.blockedAt = 0
	return true
}

// stuck acts on an error of writing.
func (o *output) stuck(err error) {
	c := o.c
	if err != reactor.ErrWouldBlock {
		c.close()
		return
	}
	if o.sent > 0 {
		o.b = o.b[:copy(o.b, o.b[o.sent:])]
		o.sent = 0
	}
	o.blocked = true
	if o.blockedAt == 0 {
		o.blockedAt = c.server.worker.Loop.Now()
		c.arm()
	}
	c.conn.Want(reactor.Writable)
}

// makeRoom writes in the middle of a turn.
func (o *output) makeRoom() {
	if !o.blocked && o.c.state == open && o.backlog() > 0 {
		o.write()
	}
}

// appendFrameHeader appends the header of a frame with n bytes of payload.
func appendFrameHeader(dst []byte, n int, t xhttp2.FrameType, flags xhttp2.Flags, stream uint32) []byte {
	return append(dst, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags),
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

func appendUint32(dst []byte, v uint32) []byte {
	return append(dst, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

func (c *Conn) queueGoAway(last uint32, code xhttp2.ErrCode, debug string) {
	b := appendFrameHeader(c.out.tail(), 8+len(debug), xhttp2.FrameGoAway, 0, 0)
	b = appendUint32(appendUint32(b, last), uint32(code))
	c.out.extend(append(b, debug...))
}

func (c *Conn) queuePing(data [8]byte) {
	c.credit.pings++
	c.out.extend(append(appendFrameHeader(c.out.tail(), 8, xhttp2.FramePing, 0, 0), data[:]...))
}

func (c *Conn) queuePong(data [8]byte) {
	c.out.extend(append(appendFrameHeader(c.out.tail(), 8, xhttp2.FramePing, xhttp2.FlagPingAck, 0), data[:]...))
}

func (c *Conn) queueReset(id uint32, code xhttp2.ErrCode) {
	c.out.extend(appendUint32(appendFrameHeader(c.out.tail(), 4, xhttp2.FrameRSTStream, 0, id), uint32(code)))
}

// resetAfter has a stream reset once what was said on it before has been written: a client
// that reads both together may see the reset alone.
func (c *Conn) resetAfter(id uint32, code xhttp2.ErrCode) {
	c.out.late = append(c.out.late, reset{id, code})
	c.touch()
}

func (c *Conn) queueWindow(id, n uint32) {
	c.out.extend(appendUint32(appendFrameHeader(c.out.tail(), 4, xhttp2.FrameWindowUpdate, 0, id), n))
}
