package http2

import (
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/io/linger"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
)

// Owner is told what becomes of its connection.
type Owner interface {
	// Busy is called when the first of some requests begins and when the last has ended.
	Busy(bool)
	// Ended is called when the connection is over; the socket is to be closed. It is the
	// last call.
	Ended()
}

// Conn is one client's connection. Between frames it is this struct, a timer and HPACK's
// table.
type Conn struct {
	server *Server
	conn   *reactor.Conn
	about  *exchange.Connection
	owner  Owner
	state  state
	timer  reactor.Timer

	// Receiving.
	preface   int    // bytes of the client's preface still to come
	settled   bool   // the client's first SETTINGS has come
	paused    bool   // nothing is read until output drains
	again     bool   // a further read is submitted
	partial   []byte // a frame that has not arrived whole, in a buffer of the loop
	decoder   *hpack.Decoder
	block     block
	window    int32           // bytes of bodies that the client may send
	taken     int32           // of them to be given back
	held      exchange.HeldBy // by bodies
	grown     int32           // by which streams' windows exceed streamWindow
	lent      int32           // by which window was raised beyond connWindow
	lastID    uint32          // highest stream that the client has opened
	debts     debts
	credit    credit
	headsFrom int64 // loop time since which a header block is incomplete, 0: none is

	// Streams.
	ids     []uint32 // of streams, in the same order: what a search looks at
	streams []*stream
	starts  []*stream // to be started when the frames at hand are read, or at the end of the turn
	waiting []*stream // that are started once the client takes something, see shut.go
	running int       // exchanges, with those of streams that were taken back
	resets  resetRing

	leftovers []leftover // streams that are answered while their requests' bodies still come
	lingering linger.Budget

	out output

	drain drainState
}

type state uint8

const (
	open   state = iota
	ending       // GOAWAY is on its way, then what the client sends is dropped until it closes
	closed
)

// Open takes over a connection, which must have no coroutine as owner and whose events must
// come to OnEvent.
func (s *Server) Open(c *reactor.Conn, about *exchange.Connection, owner Owner) *Conn {
	h := &Conn{server: s, conn: c, about: about, owner: owner, preface: len(xhttp2.ClientPreface)}
	h.timer.Init(h.expire)
	h.decoder = hpack.NewDecoder(tableSize, h.field)
	h.window = connWindow
	h.out.init(h)
	s.stats.Connections.Add(1)
	h.queueSettings()
	return h
}

// Start acts on what has arrived; early was received before.
func (c *Conn) Start(early []byte) {
	if len(early) > 0 {
		c.partial = append(c.partialBuffer(len(early)), early...)
	}
	c.arm()
	c.read()
}

// OnEvent acts on an event of the connection's socket.
func (c *Conn) OnEvent() {
	if c.state == closed {
		return
	}
	if c.out.blocked && c.conn.Ready()&reactor.Writable != 0 {
		c.out.blocked = false
		c.conn.Want(0)
		c.touch()
	}
	c.read()
}

// maxReads bounds what one connection gets done before the others of its worker have a turn.
const maxReads = 8

// read reads what has arrived and acts on it.
func (c *Conn) read() {
	if c.state == closed || c.paused {
		return
	}
	b := c.server.readBuffer()
	have := copy(b, c.partial)
	c.dropPartial()
	for reads := 0; ; reads++ {
		if have > 0 && c.state == open {
			used := c.process(b[:have])
			have = copy(b, b[used:have])
		}
		if c.state == ending {
			have = 0
		}
		if c.state == closed {
			c.start() // to see that there is nothing left to do, and be counted
			return
		}
		if c.paused = c.out.backlog() > maxBacklog; c.paused || reads == maxReads {
			break
		}
		n, err := c.conn.TryRead(b[have:])
		if err == reactor.ErrWouldBlock {
			break
		}
		if err != nil {
			c.close()
			c.start()
			return
		}
		if have += n; c.state == ending {
			if c.drain.linger -= n; c.drain.linger < 0 {
				c.close()
				return
			}
		}
		if reads+1 == maxReads && !c.again {
			c.again = true
			c.server.worker.Loop.Submit(func() {
				c.again = false
				c.read()
			})
		}
	}
	if have > 0 {
		c.partial = append(c.partialBuffer(have), b[:have]...)
	}
	c.start()
	c.arm()
}

// partialBuffer returns an empty buffer for n bytes.
func (c *Conn) partialBuffer(n int) []byte {
	bufs := c.server.buffers()
	switch {
	case n <= reactor.SmallBuffer:
		return bufs.Small()[:0]
	case n <= reactor.LargeBuffer:
		return bufs.Large()[:0]
	}
	return make([]byte, 0, n)
}

func (c *Conn) dropPartial() {
	if c.partial != nil {
		c.server.buffers().Put(c.partial)
		c.partial = nil
	}
}

// start starts the exchanges of the requests that were read.
func (c *Conn) start() {
	for i := 0; i < len(c.starts); i++ {
		s := c.starts[i]
		c.starts[i] = nil
		c.server.worker.Loop.Go(s)
	}
	c.starts = c.starts[:0]
}

// find returns the open stream with this id, or nil.
func (c *Conn) find(id uint32) *stream {
	for i, other := range c.ids {
		if other == id {
			return c.streams[i]
		}
	}
	return nil
}

func (c *Conn) add(s *stream) {
	s.at = len(c.ids)
	c.ids = append(c.ids, s.id)
	c.streams = append(c.streams, s)
}

// remove forgets a stream: from now on its id is that of a closed one.
func (c *Conn) remove(s *stream) {
	if s.at < 0 {
		return
	}
	last := len(c.ids) - 1
	c.ids[s.at], c.streams[s.at] = c.ids[last], c.streams[last]
	c.streams[s.at].at = s.at
	c.streams[last] = nil
	c.ids, c.streams = c.ids[:last], c.streams[:last]
	s.at = -1
}

// touch has the output written at the end of the turn.
func (c *Conn) touch() {
	if !c.out.dirty {
		c.out.dirty = true
		c.server.dirty = append(c.server.dirty, c)
	}
}

// close closes the connection at once. Exchanges end as if the client had gone.
func (c *Conn) close() {
	if c.state == closed {
		return
	}
	c.state = closed
	for len(c.streams) > 0 {
		c.streams[len(c.streams)-1].breakOff()
	}
	if len(c.starts) > 0 {
		c.touch() // to see that there is nothing left to do, and be counted
	}
	c.dropPartial()
	c.out.release()
	c.server.worker.Loop.Drop(&c.timer)
	c.leftovers = nil
	if c.running > 0 {
		c.owner.Busy(false)
	}
	c.owner.Ended()
}

// Reset closes the connection, whatever it is doing.
func (c *Conn) Reset() { c.close() }

// fail ends the connection for a breach of the protocol (RFC 9113 section 5.4.1).
func (c *Conn) fail(code xhttp2.ErrCode, why Fault) {
	if c.state != open {
		return
	}
	c.server.stats.Errors[why].Add(1)
	c.server.log.Debug().Stringer("client", c.about.Client).Stringer("code", code).Stringer("reason", why).
		Msg("an HTTP/2 client broke the protocol")
	c.end(code, why.String())
}

// cut ends the connection of a client that has gone beyond a limit.
func (c *Conn) cut(l Limit) {
	if c.state != open {
		return
	}
	c.server.stats.Cut[l].Add(1)
	c.server.log.Debug().Stringer("client", c.about.Client).Stringer("limit", l).
		Msg("cut off an HTTP/2 client")
	c.end(xhttp2.ErrCodeEnhanceYourCalm, l.String())
}

// charge counts one of what a client may not do without end, and cuts it off if that was
// too much.
func (c *Conn) charge(l Limit) bool {
	if c.debts.charge(l, c.server.worker.Loop.Now()) {
		return true
	}
	c.cut(l)
	return false
}

const (
	lingerTime  = time.Second
	lingerBytes = 1 << 20
)

// end says GOAWAY, gives all streams up, and reads on for a moment: a close while bytes of
// the client are coming in would be a reset, which may destroy the GOAWAY on its way.
func (c *Conn) end(code xhttp2.ErrCode, debug string) {
	c.state = ending
	for len(c.streams) > 0 {
		c.streams[len(c.streams)-1].breakOff()
	}
	c.leftovers = nil
	c.out.drop()
	c.queueGoAway(c.lastID, code, debug)
	c.finish()
}

// finish sends what is left, then the end of the stream of bytes.
func (c *Conn) finish() {
	c.state = ending
	c.drain.linger = lingerBytes
	c.paused = false
	c.server.worker.Loop.Set(&c.timer, lingerTime)
	c.touch()
}

// expire acts on whatever has been waited for too long.
func (c *Conn) expire() {
	if c.state != open {
		c.close()
		return
	}
	now := c.server.worker.Loop.Now()
	settings := &c.server.worker.Config.Load().Settings
	c.resetLeftovers(now)
	switch {
	case c.state != open: // drained, by the end of the last leftover
	case c.headsFrom != 0 && now-c.headsFrom >= int64(settings.HeadTimeout):
		c.cut(LimitHeaderTime)
	case c.out.blockedAt != 0 && now-c.out.blockedAt >= int64(settings.ResponseTimeout):
		// Nothing that is said would arrive.
		c.server.stats.Cut[LimitBacklog].Add(1)
		c.conn.Reset()
		c.close()
	case c.drain.step == drainAsked && now-c.drain.at >= int64(drainWait):
		c.drainLast()
		c.arm()
	case c.quiet() && now-c.drain.idleAt >= int64(c.idleTime()):
		c.end(xhttp2.ErrCodeNo, "idle")
	default:
		c.arm()
	}
}

// arm sets the timer to the next moment at which expire has something to look at.
func (c *Conn) arm() {
	if c.state != open {
		return
	}
	loop := c.server.worker.Loop
	settings := &c.server.worker.Config.Load().Settings
	now := loop.Now()
	next := int64(-1)
	at := func(t int64) {
		if next < 0 || t < next {
			next = t
		}
	}
	if c.headsFrom != 0 {
		at(c.headsFrom + int64(settings.HeadTimeout))
	}
	if c.out.blockedAt != 0 {
		at(c.out.blockedAt + int64(settings.ResponseTimeout))
	}
	if c.drain.step == drainAsked {
		at(c.drain.at + int64(drainWait))
	}
	for i := range c.leftovers {
		at(c.leftovers[i].until)
	}
	if c.quiet() {
		if c.drain.idleAt == 0 {
			c.drain.idleAt = now
		}
		at(c.drain.idleAt + int64(c.idleTime()))
	}
	if next < 0 {
		loop.Clear(&c.timer)
		return
	}
	loop.Set(&c.timer, time.Duration(max(next-now, 0)))
}

// idleTime is how long the connection may be without a request: less before its first one.
func (c *Conn) idleTime() time.Duration {
	settings := &c.server.worker.Config.Load().Settings
	if c.lastID == 0 {
		return settings.HeadTimeout
	}
	return settings.IdleTimeout
}
