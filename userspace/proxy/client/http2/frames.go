package http2

import (
	"encoding/binary"
	"errors"

	xhttp2 "golang.org/x/net/http2"

	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// process acts on the frames that have arrived whole and returns how many bytes they were.
func (c *Conn) process(b []byte) (used int) {
	if c.preface > 0 {
		n := min(c.preface, len(b))
		at := len(xhttp2.ClientPreface) - c.preface
		if string(b[:n]) != xhttp2.ClientPreface[at:at+n] {
			c.fail(xhttp2.ErrCodeProtocol, FaultPreface)
			return len(b)
		}
		c.preface -= n
		used = n
	}
	for c.state == open && len(b)-used >= frameHeader {
		header := b[used:]
		n := int(header[0])<<16 | int(header[1])<<8 | int(header[2])
		if n > maxFrame {
			c.fail(xhttp2.ErrCodeFrameSize, FaultFrameSize)
			return len(b)
		}
		if len(header) < frameHeader+n {
			break
		}
		c.frame(header[:frameHeader+n])
		used += frameHeader + n
	}
	return used
}

// frame acts on one frame. Those that carry requests and bodies are taken apart here, where
// they lie; all others by the Framer, which copies and allocates.
func (c *Conn) frame(b []byte) {
	kind, flags := xhttp2.FrameType(b[3]), xhttp2.Flags(b[4])
	id := binary.BigEndian.Uint32(b[5:]) & maxStreamID
	switch {
	case !c.settled && (kind != xhttp2.FrameSettings || flags.Has(xhttp2.FlagSettingsAck)):
		c.fail(xhttp2.ErrCodeProtocol, FaultFirstFrame)
	case c.block.open && (kind != xhttp2.FrameContinuation || id != c.block.id):
		c.fail(xhttp2.ErrCodeProtocol, FaultInterrupted)
	case kind == xhttp2.FrameData:
		c.onData(flags, id, b[frameHeader:])
	case kind == xhttp2.FrameHeaders:
		c.onHeaders(flags, id, b[frameHeader:])
	case kind == xhttp2.FrameContinuation:
		c.onContinuation(flags, id, b[frameHeader:])
	default:
		c.readFrame(b)
	}
}

// readFrame has the Framer read a frame.
func (c *Conn) readFrame(b []byte) {
	s := c.server
	s.memory.Reset(b)
	f, err := s.framer.ReadFrame()
	if err != nil {
		var stream xhttp2.StreamError
		var connection xhttp2.ConnectionError
		switch {
		case errors.As(err, &stream):
			c.streamError(stream.StreamID, stream.Code)
		case errors.As(err, &connection):
			c.fail(xhttp2.ErrCode(connection), FaultFrame)
		default:
			c.fail(xhttp2.ErrCodeProtocol, FaultFrame)
		}
		return
	}
	switch f := f.(type) {
	case *xhttp2.SettingsFrame:
		c.onSettings(f)
	case *xhttp2.PingFrame:
		c.onPing(f)
	case *xhttp2.WindowUpdateFrame:
		c.onWindowUpdate(f)
	case *xhttp2.RSTStreamFrame:
		c.onReset(f)
	case *xhttp2.PriorityFrame:
		c.onPriority(f)
	case *xhttp2.GoAwayFrame:
		c.onGoAway(f)
	case *xhttp2.PushPromiseFrame:
		c.fail(xhttp2.ErrCodeProtocol, FaultPush)
	default:
		c.charge(LimitOther) // unknown frames are ignored (RFC 9113 section 5.5)
	}
}

// idle reports whether the stream has never been opened.
func (c *Conn) idle(id uint32) bool { return id > c.lastID || id%2 == 0 }

// streamError ends a stream for a breach of the protocol (RFC 9113 section 5.4.2).
func (c *Conn) streamError(id uint32, code xhttp2.ErrCode) {
	if c.idle(id) {
		c.fail(code, FaultIdleStream)
		return
	}
	if s := c.find(id); s != nil {
		if s.fault == nil {
			s.fault = streamFault(code)
		}
		s.breakOff()
	}
	c.resets.add(id)
	c.queueReset(id, code)
	c.charge(LimitMalformed)
}

// streamFault returns what the access log says of a request whose stream was reset for this.
func streamFault(code xhttp2.ErrCode) *message.Error {
	switch code {
	case xhttp2.ErrCodeFlowControl:
		return message.ErrStreamWindow
	case xhttp2.ErrCodeStreamClosed:
		return message.ErrStreamClosed
	}
	return message.ErrStreamFrame
}

// resetRing remembers which streams this side has reset last: frames for them may have been
// on their way, and mean nothing (RFC 9113 section 5.1, closed).
type resetRing struct {
	ids  [64]uint32
	next uint8
}

func (r *resetRing) add(id uint32) {
	r.ids[r.next%uint8(len(r.ids))] = id
	r.next++
}

func (r *resetRing) has(id uint32) bool {
	for _, other := range r.ids {
		if other == id {
			return true
		}
	}
	return false
}

// unpad takes the padding off a frame's payload (RFC 9113 section 6.1).
func unpad(flags xhttp2.Flags, p []byte) ([]byte, bool) {
	if !flags.Has(xhttp2.FlagDataPadded) { // the same bit in HEADERS
		return p, true
	}
	if len(p) == 0 || int(p[0]) >= len(p) {
		return nil, false
	}
	return p[1 : len(p)-int(p[0])], true
}

// onData takes in a piece of a request's body.
func (c *Conn) onData(flags xhttp2.Flags, id uint32, payload []byte) {
	data, ok := unpad(flags, payload)
	switch {
	case id == 0:
		c.fail(xhttp2.ErrCodeProtocol, FaultFrame)
		return
	case !ok:
		c.fail(xhttp2.ErrCodeProtocol, FaultFrame)
		return
	case c.idle(id):
		c.fail(xhttp2.ErrCodeProtocol, FaultIdleStream)
		return
	case len(payload) > int(c.window):
		c.fail(xhttp2.ErrCodeFlowControl, FaultFlowControl)
		return
	}
	end := flags.Has(xhttp2.FlagDataEndStream)
	if len(data) == 0 && !end && !c.charge(LimitEmptyData) {
		return
	}
	c.window -= int32(len(payload))
	s := c.find(id)
	switch {
	case s == nil:
		c.giveBack(len(payload))
		if i := c.leftoverAt(id); i >= 0 {
			c.drop(i, len(payload), end)
		} else if !c.resets.has(id) {
			c.streamError(id, xhttp2.ErrCodeStreamClosed)
		}
	case s.ended:
		c.giveBack(len(payload))
		c.streamError(id, xhttp2.ErrCodeStreamClosed)
	case len(payload) > int(s.allowed):
		c.giveBack(len(payload))
		c.streamError(id, xhttp2.ErrCodeFlowControl)
	default:
		s.allowed -= int32(len(payload))
		padding := len(payload) - len(data) // is nobody's to take
		c.giveBack(padding)
		s.widen(padding)
		s.receive(data, end)
	}
}

// giveBack lets the client send n bytes more, as soon as it is worth a frame.
func (c *Conn) giveBack(n int) {
	if c.lent > 0 {
		kept := min(c.lent, int32(n))
		c.lent -= kept
		n -= int(kept)
	}
	if c.taken += int32(n); c.taken >= connWindow/4 && c.state == open {
		c.queueWindow(0, uint32(c.taken))
		c.window += c.taken
		c.taken = 0
	}
}
