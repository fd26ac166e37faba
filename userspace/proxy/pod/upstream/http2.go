package upstream

import (
	"crypto/sha1"
	"encoding/base64"
	"strconv"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/message/chars"
)

// HTTP2 is a request to a pod that speaks HTTP/2, and its response: a stream of a connection that
// others share. It is reused; Open comes before each use.
type HTTP2 struct {
	*Stream
	request *Outgoing
	connect bool   // a WebSocket is asked for, by extended CONNECT
	tunnel  bool   // and the pod has agreed
	path    []byte // with the query
	agreed  message.Response
	accept  [28]byte
}

// Open makes p a request over s.
func (p *HTTP2) Open(s *Stream, request *Outgoing) {
	p.Stream, p.request = s, request
	p.connect, p.tunnel = request.opensWebSocket(), false
	s.Limits = request.Limits
}

// RefusesTunnel reports whether a WebSocket is asked for that the pod does not take.
func (p *HTTP2) RefusesTunnel() bool { return p.connect && !p.Tunnels() }

var (
	methodConnect     = []byte("CONNECT")
	protocolWebSocket = []byte("websocket")
	trailersWord      = []byte("trailers")
	schemeHTTP        = []byte("http")
	schemeHTTPS       = []byte("https")
)

// Begin queues the head, with the fields that AppendHead gives an HTTP/1.1 pod.
func (p *HTTP2) Begin() {
	o, r := p.request, p.request.Request
	p.BeginHead(r.MethodID)
	method, scheme := r.Method, schemeHTTP
	if p.connect {
		method = methodConnect
	}
	if o.Secure {
		scheme = schemeHTTPS
	}
	path := r.Path
	if r.Query != nil {
		p.path = append(append(append(p.path[:0], r.Path...), '?'), r.Query...)
		path = p.path
	}
	p.Known(":method", method)
	if p.connect {
		p.Known(":protocol", protocolWebSocket)
	}
	p.Known(":scheme", scheme)
	p.Known(":authority", r.Authority)
	p.Known(":path", path)
	for i := range r.Fields {
		f := &r.Fields[i]
		if f.HopByHop || o.Own.Has(f.ID) || p.connect && chars.EqualFold(f.Name, "sec-websocket-key") {
			continue
		}
		p.Field(f.Name, f.Value)
	}
	for i := range o.Added {
		p.Field([]byte(o.Added[i].Name), o.Added[i].Value)
	}
	if r.TETrailers {
		p.Known("te", trailersWord)
	}
	if r.ContentLength >= 0 && !p.connect {
		p.path = strconv.AppendUint(p.path[:0], uint64(r.ContentLength), 10)
		p.Known("content-length", p.path)
	}
	p.EndHead(!r.HasBody() && !p.connect)
}

// End queues the end of the body. Without one it has gone with the head.
func (p *HTTP2) End(trailers []message.Field) {
	if p.request.Request.HasBody() || p.tunnel {
		p.Stream.End(trailers)
	}
}

// ReadHead returns the next head of a response.
func (p *HTTP2) ReadHead() (*message.Response, error) {
	r, err := p.Stream.ReadHead()
	if err == nil && p.connect && r.Status/100 == 2 {
		return p.switchProtocols(r)
	}
	return r, err
}

// switchProtocols makes of the answer that accepts an extended CONNECT the one by which an
// HTTP/1.1 pod accepts a WebSocket.
func (p *HTTP2) switchProtocols(r *message.Response) (*message.Response, error) {
	if r.Body == message.BodyNone {
		return nil, &Fault{Invalid, "tunnel_without_a_stream"}
	}
	a := &p.agreed
	a.Reset()
	a.Status, a.Upgrade = 101, protocolWebSocket
	a.Minor, a.KeepAlive = 1, true
	a.Present = r.Present
	a.Fields = append(a.Fields[:0], r.Fields...)
	if key := p.request.Request.Lookup("sec-websocket-key"); key != nil {
		const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455 section 1.3
		sum := sha1.Sum(append(append(p.path[:0], key...), guid...))
		base64.StdEncoding.Encode(p.accept[:], sum[:])
		a.Fields = append(a.Fields, message.Field{Name: []byte("Sec-WebSocket-Accept"), Value: p.accept[:]})
	}
	return a, nil
}

// Sink returns nil, as Source does: a stream shares its socket with others, so that nothing can
// go past it.
func (p *HTTP2) Sink() *reactor.Conn { return nil }

// Source returns nil.
func (p *HTTP2) Source() (*reactor.Conn, int64) { return nil, 0 }

// Took is not called without a Source.
func (p *HTTP2) Took(int64) {}

// Tunnel notes that the pod has agreed: the tunnel's bytes are those of the stream.
func (p *HTTP2) Tunnel() { p.tunnel = true }

// CloseWrite does nothing: End has ended the tunnel's one direction.
func (p *HTTP2) CloseWrite() {}

// Finish does nothing: the connection is others' all the time.
func (p *HTTP2) Finish() {}

// Close ends the request. Unless both messages are complete the pod is told.
func (p *HTTP2) Close() {
	p.Stream.Close()
	p.Stream = nil
}

// Abandon is Close after a panic.
func (p *HTTP2) Abandon() {
	p.Stream.Abandon()
	p.Stream = nil
}
