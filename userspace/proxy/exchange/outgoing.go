package exchange

import (
	"net/http"
	"slices"
	"strings"

	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/pod/upstream"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// outgoing is the request as a pod gets it. Rules edit it: it is a policy.Head.
type outgoing struct{ upstream.Outgoing }

// rebuilt are the end-to-end fields that the proxy writes itself: what a client says of
// its own address must not reach a pod. Forwarded is read from trusted proxies, and never
// passed on: pods get X-Forwarded-*, and one account of the client, not two.
var rebuilt = message.Fields(message.FieldHost, message.FieldContentLength, message.FieldXForwardedFor,
	message.FieldXForwardedProto, message.FieldXForwardedHost, message.FieldXForwardedPort,
	message.FieldXForwardedScheme, message.FieldXScheme, message.FieldXRealIP, message.FieldForwarded, message.FieldXRequestID,
	message.FieldSSLClientVerify, message.FieldSSLClientSubject, message.FieldSSLClientIssuer, message.FieldSSLClientCert)

// begin makes it the client's request alone.
func (o *outgoing) begin(r *message.Request) {
	o.Outgoing = upstream.Outgoing{Request: r, Own: rebuilt, Added: o.Added[:0]}
}

// add adds a field; value must stay as it is until the exchange has ended.
func (o *outgoing) add(name string, value []byte) {
	o.Added = append(o.Added, message.Added{Name: name, Value: value})
}

// Add is add, like the methods below a part of policy.Head.
func (o *outgoing) Add(name string, value []byte) { o.add(name, value) }

// Has reports whether the pod gets a field.
func (o *outgoing) Has(lower string) bool {
	for i := range o.Added {
		if strings.EqualFold(o.Added[i].Name, lower) {
			return true
		}
	}
	return o.Request.Passes(lower)
}

// Drop leaves out all fields of a name.
func (o *outgoing) Drop(lower string) {
	o.Added = slices.DeleteFunc(o.Added, func(a message.Added) bool { return strings.EqualFold(a.Name, lower) })
	policy.DropVariable(o.Request, lower)
}

// Clear leaves out all fields whose names begin so.
func (o *outgoing) Clear(lower string) {
	o.Added = slices.DeleteFunc(o.Added, func(a message.Added) bool { return policy.BeginsLike(a.Name, lower) })
	policy.ClearFields(o.Request.Fields, lower)
}

// Type returns the value of Content-Type.
func (o *outgoing) Type() []byte { return o.Request.Lookup("content-type") }

// Status returns 0: it is a request.
func (o *outgoing) Status() int { return 0 }

// header returns the fields as a pod gets them.
func (o *outgoing) header() http.Header {
	h := clientFields(o.Request)
	for i := range o.Added {
		h.Add(o.Added[i].Name, string(o.Added[i].Value))
	}
	return h
}

// clientFields are a request's own fields, but for those that the proxy writes.
func clientFields(r *message.Request) http.Header {
	h := http.Header{}
	for i := range r.Fields {
		if f := &r.Fields[i]; !f.HopByHop && !rebuilt.Has(f.ID) {
			name := http.CanonicalHeaderKey(string(f.Name))
			h[name] = append(h[name], string(f.Value))
		}
	}
	h.Del("Expect")
	return h
}
