package upstream

import (
	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/message/chars"
)

// Outgoing is a request as a pod gets it, whichever protocol the pod speaks: what its client has
// sent, without the fields that the proxy writes itself, and what the proxy adds.
type Outgoing struct {
	Request *message.Request
	Own     message.FieldSet // of Request's fields those that are left out
	Added   []message.Added
	Secure  bool           // the pod is spoken to over TLS
	Upgrade bool           // the client asks for other protocols, to which it may change
	Limits  message.Limits // of the response's head, and of its trailers
}

// AppendHead appends the request's head for a pod that speaks HTTP/1.1.
func (o *Outgoing) AppendHead(dst []byte) []byte {
	r := o.Request
	dst = http1.AppendRequestLine(dst, r.Method, r.Path, r.Query)
	dst = http1.AppendField(dst, "Host", r.Authority)
	dst = http1.AppendEndToEnd(dst, r.Fields, o.Own)
	dst = http1.AppendAdded(dst, o.Added)
	switch {
	case r.Chunked:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case r.ContentLength >= 0:
		dst = http1.AppendFieldUint(dst, "Content-Length", uint64(r.ContentLength))
	}
	if o.Upgrade {
		dst = append(dst, "Connection: Upgrade\r\n"...)
		dst = http1.AppendField(dst, "Upgrade", r.Upgrade)
	}
	return append(dst, '\r', '\n')
}

// opensWebSocket reports whether the client asks for a WebSocket, the one protocol that an
// HTTP/2 pod can be asked to change to.
func (o *Outgoing) opensWebSocket() bool { return chars.EqualFold(o.Request.Upgrade, "websocket") }
