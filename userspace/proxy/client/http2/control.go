package http2

import (
	"encoding/binary"
	"math"

	xhttp2 "golang.org/x/net/http2"
)

const (
	defaultWindow = 64<<10 - 1 // RFC 9113 section 6.9.2
	maxWindow     = math.MaxInt32
	// connWindow is how much of all bodies of a connection may be on its way, in bytes, and
	// streamWindow how much of one may be on its way or kept here, to begin with. A body that
	// its pod takes as fast as it comes earns up to maxStreamWindow: what is not kept costs
	// nothing. The pod may stop, so maxGrown bounds by how much all streams of a connection
	// have grown.
	connWindow      = 1 << 20
	streamWindow    = 64 << 10
	maxStreamWindow = 512 << 10
	maxGrown        = 2 << 20

	// settingNoPriorities says that priorities of RFC 7540 are ignored (RFC 9218 section 2.1).
	settingNoPriorities xhttp2.SettingID = 0x9
)

// bytesPerUpdate is how much body sent explains a WINDOW_UPDATE: net/http's client sends one
// for the stream and one for the connection with every 4 KiB.
const bytesPerUpdate = 1 << 10

// maxStreams is how many requests a connection may have open.
func (c *Conn) maxStreams() int { return c.server.worker.Config.Load().Settings.MaxStreams }

// queueSettings begins the connection from this side.
func (c *Conn) queueSettings() {
	settings := [...]xhttp2.Setting{
		{ID: xhttp2.SettingMaxConcurrentStreams, Val: uint32(c.maxStreams())},
		{ID: xhttp2.SettingInitialWindowSize, Val: streamWindow},
		{ID: xhttp2.SettingMaxHeaderListSize, Val: uint32(c.server.worker.Config.Load().Settings.MaxHead)},
		{ID: xhttp2.SettingEnableConnectProtocol, Val: 1},
		{ID: settingNoPriorities, Val: 1},
	}
	b := appendFrameHeader(c.out.tail(), 6*len(settings), xhttp2.FrameSettings, 0, 0)
	for _, s := range settings {
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, uint16(s.ID)), s.Val)
	}
	c.out.extend(b)
	c.credit.settings++
	c.queueWindow(0, connWindow-defaultWindow)
}

// onSettings puts the client's settings in force and says so.
func (c *Conn) onSettings(f *xhttp2.SettingsFrame) {
	if f.IsAck() {
		if c.credit.settings > 0 {
			c.credit.settings--
		} else {
			c.charge(LimitSettings)
		}
		return
	}
	if c.settled && !c.charge(LimitSettings) {
		return
	}
	c.settled = true
	for i := range f.NumSettings() {
		c.onSetting(f.Setting(i))
		if c.state != open {
			return
		}
	}
	c.out.extend(appendFrameHeader(c.out.tail(), 0, xhttp2.FrameSettings, xhttp2.FlagSettingsAck, 0))
}

func (c *Conn) onSetting(s xhttp2.Setting) {
	if err := s.Valid(); err != nil {
		code := xhttp2.ErrCodeProtocol
		if e, ok := err.(xhttp2.ConnectionError); ok {
			code = xhttp2.ErrCode(e)
		}
		c.fail(code, FaultSetting)
		return
	}
	switch s.ID {
	case xhttp2.SettingHeaderTableSize:
		c.out.resize = true
	case xhttp2.SettingMaxFrameSize:
		c.out.maxFrame = min(int(s.Val), maxFrame)
	case xhttp2.SettingInitialWindowSize:
		// It applies to open streams too, and may make their windows negative.
		change := int64(s.Val) - c.out.initial
		c.out.initial = int64(s.Val)
		for _, s := range c.streams {
			if s.window += change; s.window > maxWindow {
				c.fail(xhttp2.ErrCodeFlowControl, FaultFlowControl)
				return
			}
			s.resume()
		}
		c.startWaiting()
	}
}

func (c *Conn) onPing(f *xhttp2.PingFrame) {
	switch {
	case f.IsAck():
		if c.credit.pings == 0 {
			c.charge(LimitPings)
			return
		}
		c.credit.pings--
		if f.Data == drainPing && c.drain.step == drainAsked {
			c.drainLast()
		}
	case c.charge(LimitPings):
		c.queuePong(f.Data)
	}
}

func (c *Conn) onWindowUpdate(f *xhttp2.WindowUpdateFrame) {
	if c.out.explained >= bytesPerUpdate {
		c.out.explained -= bytesPerUpdate
	} else if !c.charge(LimitWindows) {
		return
	}
	if f.StreamID == 0 {
		if c.out.window += int64(f.Increment); c.out.window > maxWindow {
			c.fail(xhttp2.ErrCodeFlowControl, FaultFlowControl)
			return
		}
		if len(c.out.waiting) > 0 {
			c.touch()
		}
		c.startWaiting()
		return
	}
	if c.idle(f.StreamID) {
		c.fail(xhttp2.ErrCodeProtocol, FaultIdleStream)
		return
	}
	s := c.find(f.StreamID)
	if s == nil {
		return
	}
	if s.window += int64(f.Increment); s.window > maxWindow {
		c.streamError(s.id, xhttp2.ErrCodeFlowControl)
		return
	}
	s.resume()
	c.startWaiting()
}

// onReset takes a request back. One that has not been answered costs the pod work for
// nothing, which is what rapid reset (CVE-2023-44487) is about. Clients end a response that goes
// on in the same way, as gRPC's do with a stream of which they have read enough.
func (c *Conn) onReset(f *xhttp2.RSTStreamFrame) {
	if c.idle(f.StreamID) {
		c.fail(xhttp2.ErrCodeProtocol, FaultIdleStream)
		return
	}
	if s := c.find(f.StreamID); s != nil {
		headed := s.headed
		s.breakOff()
		if !headed {
			c.charge(LimitResets)
		}
	} else if i := c.leftoverAt(f.StreamID); i >= 0 {
		c.forget(i)
	} else if c.credit.resets > 0 {
		c.credit.resets-- // it may have crossed the end of the response
	} else {
		c.charge(LimitOther)
	}
}

func (c *Conn) onPriority(f *xhttp2.PriorityFrame) {
	switch {
	case f.StreamDep == f.StreamID:
		if c.idle(f.StreamID) {
			// Not open, so there is nothing to reset but the connection.
			c.fail(xhttp2.ErrCodeProtocol, FaultIdleStream)
			return
		}
		c.streamError(f.StreamID, xhttp2.ErrCodeProtocol)
	default:
		c.charge(LimitPriority)
	}
}

// onGoAway: the client opens no further streams' worth of pushes, of which there are none.
// It ends the connection itself when its requests are answered.
func (c *Conn) onGoAway(f *xhttp2.GoAwayFrame) { c.charge(LimitOther) }
