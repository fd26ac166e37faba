package exchange

import (
	"crypto/sha1"
	"encoding/base64"
	"net/http"

	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/pod/upstream"
)

// podHTTP2 is the side of a pod that speaks HTTP/2: a stream of a connection that others
// share.
type podHTTP2 struct {
	*upstream.Stream
	x       *Exchange
	connect bool   // a WebSocket is asked for, by extended CONNECT
	path    []byte // with the query
	agreed  http1.Response
	accept  [28]byte
}

func (p *podHTTP2) attach(x *Exchange, s *upstream.Stream) Upstream {
	p.x, p.Stream = x, s
	p.connect = x.opensWebSocket()
	s.Limits = x.responseLimits()
	return p
}

// opensWebSocket reports whether the client asks for a WebSocket, the one protocol that an
// HTTP/2 pod can be asked to change to.
func (x *Exchange) opensWebSocket() bool { return foldEqual(x.Request.Upgrade, "websocket") }

var (
	methodConnect     = []byte("CONNECT")
	protocolWebSocket = []byte("websocket")
	trailersWord      = []byte("trailers")
)

// Begin queues the head, with the fields that appendHead gives an HTTP/1.1 pod.
func (p *podHTTP2) Begin() {
	x, r := p.x, p.x.Request
	p.BeginHead(r.MethodID)
	method, scheme := r.Method, schemeHTTP
	if p.connect {
		method = methodConnect
	}
	if x.transport.TLS {
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
		if f.HopByHop || rebuilt.Has(f.ID) || p.connect && foldEqual(f.Name, "sec-websocket-key") {
			continue
		}
		p.Field(f.Name, f.Value)
	}
	for i := range x.added {
		p.Field([]byte(x.added[i].Name), x.added[i].Value)
	}
	if r.TETrailers {
		p.Known("te", trailersWord)
	}
	if r.ContentLength >= 0 && !p.connect {
		p.path = http1.AppendUint(p.path[:0], uint64(r.ContentLength))
		p.Known("content-length", p.path)
	}
	p.EndHead(!r.HasBody() && !p.connect)
}

func (p *podHTTP2) End(trailers []http1.Field) {
	if p.x.Request.HasBody() || p.x.tunnel {
		p.Stream.End(trailers)
	}
}

func (p *podHTTP2) ReadHead() (*http1.Response, error) {
	r, err := p.Stream.ReadHead()
	switch {
	case err != nil:
		if f, ok := err.(*upstream.Fault); ok && f.Kind == upstream.TooLarge {
			p.x.badStatus = http.StatusRequestHeaderFieldsTooLarge
		}
		return nil, podFault(err)
	case p.connect && r.Status/100 == 2:
		return p.switchProtocols(r)
	}
	return r, nil
}

// switchProtocols makes of the answer that accepts an extended CONNECT the one by which an
// HTTP/1.1 pod accepts a WebSocket.
func (p *podHTTP2) switchProtocols(r *http1.Response) (*http1.Response, error) {
	if r.Body == http1.BodyNone {
		return nil, &fault{reason: UpstreamInvalid, detail: "tunnel_without_a_stream"}
	}
	a := &p.agreed
	a.Reset()
	a.Status, a.Upgrade = 101, protocolWebSocket
	a.Minor, a.KeepAlive = 1, true
	a.Present = r.Present
	a.Fields = append(a.Fields[:0], r.Fields...)
	if key := p.x.Request.Lookup("sec-websocket-key"); key != nil {
		const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455 section 1.3
		sum := sha1.Sum(append(append(p.path[:0], key...), guid...))
		base64.StdEncoding.Encode(p.accept[:], sum[:])
		a.Fields = append(a.Fields, http1.Field{Name: []byte("Sec-WebSocket-Accept"), Value: p.accept[:]})
	}
	return a, nil
}

func (p *podHTTP2) ReadBody() ([]byte, error) {
	b, err := p.Stream.ReadBody()
	if err != nil {
		err = podFault(err)
	}
	return b, err
}

// podFault says what the end of a stream means for the exchange.
func podFault(err error) error {
	f, ok := err.(*upstream.Fault)
	if !ok {
		return err
	}
	switch f.Kind {
	case upstream.Closed:
		return &fault{reason: UpstreamClosed, detail: f.Detail}
	case upstream.Stale:
		return &fault{reason: UpstreamClosed, detail: f.Detail, repeat: repeatIdempotent}
	case upstream.Unprocessed:
		return &fault{reason: UpstreamRefused, detail: f.Detail, repeat: repeatAll}
	case upstream.Reset:
		return &fault{reason: UpstreamReset, detail: f.Detail}
	case upstream.Invalid:
		return &fault{reason: UpstreamInvalid, detail: f.Detail}
	case upstream.TooLarge:
		return &fault{reason: BadRequest, detail: f.Detail}
	case upstream.Silent:
		return &fault{reason: UpstreamTimeout, detail: f.Detail}
	default:
		return &fault{reason: UpstreamAborted, detail: f.Detail}
	}
}

// A stream shares its socket with others, so that nothing can go past it.

func (p *podHTTP2) Sink() *reactor.Conn            { return nil }
func (p *podHTTP2) Source() (*reactor.Conn, int64) { return nil, 0 }
func (p *podHTTP2) Took(int64)                     {}

// A tunnel's bytes are those of the streams, and End ends its one direction.

func (p *podHTTP2) Tunnel()     {}
func (p *podHTTP2) CloseWrite() {}

// Finish does nothing: the connection is others' all the time.
func (p *podHTTP2) Finish() {}

func (p *podHTTP2) Close() {
	p.Stream.Close()
	p.Stream = nil
}

func (p *podHTTP2) Abandon() {
	p.Stream.Abandon()
	p.Stream = nil
}
