package http2

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"

	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// A WebSocket over HTTP/2 (RFC 8441) is opened by an extended CONNECT and has no handshake
// of its own. Towards the pod it is one over HTTP/1.1: this side makes up the key and
// checks the answer to it (RFC 6455 section 4.1), which neither client nor pod could fake
// for the other.

// webSocket is what a stream keeps of such a handshake.
type webSocket struct {
	key     [24]byte // base64 of 16 random bytes
	refused bool     // the pod's answer was not one to this key
}

// badAccept is the access log's detail where a pod has answered another key.
const badAccept = "bad_websocket_accept"

// openSocket turns the request into what the pod gets.
func (s *stream) openSocket() error {
	var raw [16]byte
	random := s.server.worker.Rand
	binary.LittleEndian.PutUint64(raw[:], random.Uint64())
	binary.LittleEndian.PutUint64(raw[8:], random.Uint64())
	base64.StdEncoding.Encode(s.socket.key[:], raw[:])
	return s.request.TunnelWebSocket(s.socket.key[:])
}

// webSocketGUID is joined to the key (RFC 6455 section 1.3).
const webSocketGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// accepted reports whether the pod has answered this key.
func (w *webSocket) accepted(value []byte) bool {
	sum := sha1.Sum(append(w.key[:len(w.key):len(w.key)], webSocketGUID...))
	var want [28]byte
	base64.StdEncoding.Encode(want[:], sum[:])
	return bytes.Equal(value, want[:])
}

var acceptName = []byte("sec-websocket-accept")

// respondSocket answers 200 for the pod's 101.
func (s *stream) respondSocket(r *message.Response) {
	if !s.socket.accepted(r.Lookup("sec-websocket-accept")) {
		s.socket.refused = true
		s.Reply(exchange.UpstreamInvalid.Status(), exchange.UpstreamInvalid, badAccept)
		return
	}
	start := len(s.conn.out.tail())
	b := appendStatus(s.beginHead(), 200)
	for i := range r.Fields {
		f := &r.Fields[i]
		if !f.HopByHop && !ownFraming.Has(f.ID) && !bytes.EqualFold(f.Name, acceptName) {
			b = appendField(b, f.Name, f.Value)
		}
	}
	s.headed = true
	s.endHead(b, start, false)
}

// Tunnel makes the stream's DATA a stream of bytes.
func (s *stream) Tunnel() { s.tunnel = true }

// CloseWrite ends our side of the stream.
func (s *stream) CloseWrite() {
	s.End(nil)
	s.emit()
}
