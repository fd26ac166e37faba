package exchange

import (
	"encoding/binary"
	"math"

	"github.com/kerngate/kerngate/userspace/proxy/message/chars"
)

// A tunnel that is a WebSocket is ended as RFC 6455 asks for: with a close frame, so that
// the client's page and the pod's program learn that the other side goes away (1001) and may
// connect again, in place of an error. The frame may stand between any two others, also
// within a fragmented message. Where a frame has been passed on in part, because its sender
// or its receiver is slow, that direction gets no close frame, only the end.

const (
	closeGoingAway = 1001 // RFC 6455 section 7.4.1
	opcodeClose    = 0x8
	finalFrame     = 0x80
	maskedFrame    = 0x80
)

// frames follows one direction of a WebSocket, to know where a frame ends.
type frames struct {
	left  uint64   // bytes of the current frame's payload still to come
	head  [14]byte // of the frame that begins
	have  int      // bytes of head
	ended bool     // a close frame has passed, or what passes is not WebSocket
}

// pass notes bytes that are passed on.
func (f *frames) pass(p []byte) {
	for len(p) > 0 && !f.ended {
		if f.left > 0 {
			n := min(f.left, uint64(len(p)))
			f.left -= n
			p = p[n:]
			continue
		}
		f.head[f.have] = p[0]
		f.have++
		p = p[1:]
		if f.have == f.headSize() {
			f.begin()
		}
	}
}

// headSize returns the size of the frame's head as far as it is known, at least 2.
func (f *frames) headSize() int {
	if f.have < 2 {
		return 2
	}
	size := 2
	switch f.head[1] &^ maskedFrame {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if f.head[1]&maskedFrame != 0 {
		size += 4
	}
	return size
}

// begin starts the payload of the frame whose head is complete.
func (f *frames) begin() {
	switch n := f.head[1] &^ maskedFrame; n {
	case 126:
		f.left = uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 127:
		f.left = binary.BigEndian.Uint64(f.head[2:])
	default:
		f.left = uint64(n)
	}
	f.have = 0
	f.ended = f.head[0]&0xf == opcodeClose || f.left > math.MaxInt64
}

// between reports whether a frame may be put in here.
func (f *frames) between() bool { return f.left == 0 && f.have == 0 && !f.ended }

// tunnel is what an exchange becomes once both sides have changed to another protocol.
type tunnel struct {
	on              bool
	webSocket       bool
	closed          bool // the client's end was passed on
	leaving         bool // it is to end: the worker is going away
	toPod, toClient frames
}

// beginTunnel notes that the exchange has become a tunnel of the protocol that the pod has
// agreed to.
func (x *Exchange) beginTunnel(protocol []byte) {
	x.tunnel = tunnel{on: true, webSocket: chars.EqualFold(protocol, "websocket")}
	if x.worker.tunnels == nil {
		x.worker.tunnels = make(map[*Exchange]struct{})
	}
	x.worker.tunnels[x] = struct{}{}
}

// endTunnel is called when the exchange has ended.
func (x *Exchange) endTunnel() {
	if x.tunnel.on {
		delete(x.worker.tunnels, x)
	}
}

// EndTunnels ends every tunnel, each WebSocket with a close frame to both sides. It is
// called on the worker's loop when the drain limit is reached.
func (w *Worker) EndTunnels() {
	for x := range w.tunnels {
		x.tunnel.leaving = true
		x.co.Wake()
	}
}

// sayGoodbye sends close frames as far as they can be sent at once.
func (x *Exchange) sayGoodbye() {
	if !x.tunnel.webSocket {
		return
	}
	if x.tunnel.toClient.between() && x.down.Flush() == nil && !x.down.Blocked() {
		x.down.WriteBody([]byte{finalFrame | opcodeClose, 2, closeGoingAway >> 8, closeGoingAway & 0xff})
		x.down.Flush()
	}
	if x.tunnel.toPod.between() && !x.tunnel.closed && x.attempt.up.Flush() == nil && !x.attempt.up.Blocked() {
		// Frames to a server are masked (section 5.3).
		var key [4]byte
		binary.LittleEndian.PutUint32(key[:], uint32(x.worker.Rand.Uint64()))
		x.attempt.up.WriteBody([]byte{finalFrame | opcodeClose, maskedFrame | 2, key[0], key[1], key[2], key[3],
			closeGoingAway>>8 ^ key[0], closeGoingAway&0xff ^ key[1]})
		x.attempt.up.Flush()
	}
}
