package http2

import (
	"encoding/binary"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kerngate/kerngate/userspace/proxy/message"
)

const (
	// tableSize is what HPACK's table of one connection holds at most, in bytes. The
	// protocol's default.
	tableSize = 4 << 10
	// maxContinuations is how many frames may follow a HEADERS frame. A block that needs
	// more than one has more fields than are allowed, or a client that plays.
	maxContinuations = 10
)

// maxUnread is how many fields are still decoded once one is not valid, so that a block which
// cannot be decoded at all is seen as such (RFC 7541 section 5.2).
const maxUnread = 256

// block is the header block that is being read.
type block struct {
	open          bool // CONTINUATION must follow
	id            uint32
	kind          blockKind
	end           bool // of the stream
	continuations int
	size          int  // bytes of its fragments
	faulty        bool // one of its fields is not valid
	unread        int  // fields from that one on
	muted         bool // the others are not even decoded
	stream        *stream
}

type blockKind uint8

const (
	requestBlock blockKind = iota
	trailerBlock
	ignoredBlock // decoded for HPACK's sake
)

// onHeaders begins a request, or ends one with trailers.
func (c *Conn) onHeaders(flags xhttp2.Flags, id uint32, payload []byte) {
	fragment, ok := unpad(flags, payload)
	if !ok || id == 0 || id%2 == 0 {
		c.fail(xhttp2.ErrCodeProtocol, FaultFrame)
		return
	}
	selfish := false
	if flags.Has(xhttp2.FlagHeadersPriority) {
		if len(fragment) < 5 {
			c.fail(xhttp2.ErrCodeFrameSize, FaultFrame)
			return
		}
		selfish = binary.BigEndian.Uint32(fragment)&maxStreamID == id
		fragment = fragment[5:]
	}
	c.block = block{open: true, id: id, end: flags.Has(xhttp2.FlagHeadersEndStream)}
	s := c.find(id)
	switch {
	case s != nil:
		c.block.kind, c.block.stream = trailerBlock, s
		s.trailers.Reset()
		s.trailers.Limits = c.server.worker.Config.Load().Settings.RequestLimits()
		if s.ended {
			c.block.kind = ignoredBlock
			c.streamError(id, xhttp2.ErrCodeStreamClosed)
		}
	case id <= c.lastID:
		c.block.kind = ignoredBlock
		if i := c.leftoverAt(id); i >= 0 {
			c.forget(i)
			if !c.block.end {
				c.streamError(id, xhttp2.ErrCodeProtocol)
			}
		} else if !c.resets.has(id) {
			c.fail(xhttp2.ErrCodeStreamClosed, FaultClosedStream)
			return
		} else if !c.charge(LimitOther) {
			return
		}
	default:
		c.lastID = id
		c.openStream(id, selfish)
	}
	if c.state == open {
		c.decode(flags, fragment)
	}
}

// openStream takes a stream for a new request, if there may be one more.
func (c *Conn) openStream(id uint32, selfish bool) {
	limit := c.maxStreams()
	switch {
	case c.drain.step == drainTold:
		// The client will have read by now that it is not answered.
		c.block.kind = ignoredBlock
		c.server.stats.Refused[RefusedDraining].Add(1)
		c.resets.add(id)
		c.queueReset(id, xhttp2.ErrCodeRefusedStream)
	case len(c.streams)+len(c.leftovers) >= limit:
		c.refuseStream(id, LimitRefused)
	case c.running >= 2*limit:
		// Requests are taken back faster than they can be let go.
		c.refuseStream(id, LimitResets)
	default:
		s := c.server.take()
		s.begin(c, id)
		s.request.Compose(c.server.worker.Config.Load().Settings.RequestLimits())
		if selfish {
			s.fault = message.ErrStreamDependency
		}
		c.block.stream = s
	}
}

// refuseStream tells the client that nothing was done for a request, so that it may ask again.
func (c *Conn) refuseStream(id uint32, why Limit) {
	c.block.kind = ignoredBlock
	c.server.stats.Refused[RefusedTooMany].Add(1)
	c.resets.add(id)
	c.queueReset(id, xhttp2.ErrCodeRefusedStream)
	c.charge(why)
}

// onContinuation goes on with a header block.
func (c *Conn) onContinuation(flags xhttp2.Flags, id uint32, fragment []byte) {
	if !c.block.open {
		c.fail(xhttp2.ErrCodeProtocol, FaultContinuation)
		return
	}
	if c.block.continuations++; c.block.continuations > maxContinuations {
		c.cut(LimitContinuation)
		return
	}
	c.decode(flags, fragment)
}

// decode reads a fragment of a header block, and acts on the block if it is complete.
func (c *Conn) decode(flags xhttp2.Flags, fragment []byte) {
	max := c.server.worker.Config.Load().Settings.MaxHead
	if c.block.size += len(fragment); c.block.size > 4*max {
		c.cut(LimitHeaderBlock)
		return
	}
	// Longer strings cannot be part of an acceptable request. The decoder gives up on them,
	// and nothing on the connection could be understood from there.
	c.decoder.SetMaxStringLength(4 * max)
	c.decoder.SetEmitEnabled(c.block.kind != ignoredBlock && !c.block.muted)
	_, err := c.decoder.Write(fragment)
	if c.state != open {
		return
	}
	end := flags.Has(xhttp2.FlagHeadersEndHeaders)
	if err == nil && end {
		err = c.decoder.Close()
	}
	switch {
	case err == hpack.ErrStringLength:
		c.cut(LimitHeaderBlock)
	case err != nil:
		c.fail(xhttp2.ErrCodeCompression, FaultHeaderBlock)
	case end:
		c.headsFrom = 0
		b := c.block
		c.block = block{}
		c.endBlock(b)
	case c.headsFrom == 0:
		c.headsFrom = c.server.worker.Loop.Now()
	}
}

// field takes a field from the decoder.
func (c *Conn) field(f hpack.HeaderField) {
	var err error
	switch c.block.kind {
	case requestBlock:
		err = c.block.stream.request.AddField(f.Name, f.Value)
	case trailerBlock:
		err = c.block.stream.trailers.AddField(f.Name, f.Value)
	}
	if err == nil {
		return
	}
	c.block.faulty = true
	if c.block.unread++; c.block.unread > maxUnread || err == message.ErrHeadLimit || err == message.ErrTrailerLimit {
		// The rest is for HPACK's table alone: strings that do not enter it are not even
		// decoded, so that a bomb costs no more than its bytes.
		c.block.muted = true
		c.decoder.SetEmitEnabled(false)
	}
}

// endBlock acts on a complete header block.
func (c *Conn) endBlock(b block) {
	switch b.kind {
	case requestBlock:
		c.server.stats.Streams.Add(1)
		b.stream.admit(b.end)
		if b.faulty && c.state == open && b.stream.refusal != nil {
			c.charge(LimitMalformed) // one whose stream is reset has been charged
		}
	case trailerBlock:
		s := b.stream
		switch {
		case s.at < 0: // broken off within the block
		case !b.end, s.trailers.Finish() != nil, s.missing > 0, s.tunnel:
			s.fault = message.ErrPseudoOrder
			if e, ok := s.trailers.Finish().(*message.Error); ok {
				s.fault = e
			} else if s.missing > 0 {
				s.fault = message.ErrLengthMismatch
			}
			c.streamError(s.id, xhttp2.ErrCodeProtocol)
		default:
			s.receive(nil, true)
		}
	}
}
