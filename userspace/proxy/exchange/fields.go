package exchange

import (
	"strconv"

	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// oldSchemes are names for X-Forwarded-Proto that some applications believe before it: a
// client that writes one does not get its word through. Who writes none costs nothing.
var oldSchemes = message.Fields(message.FieldXForwardedScheme, message.FieldXScheme)

// addFields lists what is added to the request on its way to a pod, whichever protocol the
// pod speaks.
func (x *Exchange) addFields() {
	x.outgoing.begin(x.Request)
	o := &x.origin
	at := len(x.values)
	x.values = o.client.AppendTo(x.values)
	client := x.values[at:]
	if len(o.hops) == 0 {
		x.outgoing.add("X-Forwarded-For", client)
	} else {
		at = len(x.values)
		x.values = x.AppendForwardedFor(x.values)
		x.outgoing.add("X-Forwarded-For", x.values[at:])
	}
	x.outgoing.add("X-Real-IP", client)
	scheme := schemeHTTP
	if o.secure {
		scheme = schemeHTTPS
	}
	x.outgoing.add("X-Forwarded-Proto", scheme)
	if x.Request.Present&oldSchemes != 0 {
		x.outgoing.add("X-Forwarded-Scheme", scheme)
		x.outgoing.add("X-Scheme", scheme)
	}
	if o.host != nil {
		x.outgoing.add("X-Forwarded-Host", o.host)
	} else {
		x.outgoing.add("X-Forwarded-Host", x.Request.Authority)
	}
	at = len(x.values)
	x.values = strconv.AppendUint(x.values, uint64(o.port), 10)
	x.outgoing.add("X-Forwarded-Port", x.values[at:])
	x.outgoing.add("X-Request-ID", x.RequestID())
	at = len(x.values)
	x.values = x.appendPass(x.values)
	x.outgoing.add(passName, x.values[at:])
	x.Connection.TLS.addTo(&x.outgoing)
	x.dropAnnouncement()
}

// AppendForwardedFor appends the X-Forwarded-For that pods get: the client's address alone,
// or the client, the trusted proxies behind it, and the one whose connection this is.
func (x *Exchange) AppendForwardedFor(dst []byte) []byte {
	if len(x.origin.hops) == 0 {
		return x.origin.client.AppendTo(dst)
	}
	for i := len(x.origin.hops) - 1; i >= 0; i-- {
		dst = x.origin.hops[i].AppendTo(dst)
		dst = append(dst, ", "...)
	}
	return x.Connection.Client.Addr().AppendTo(dst)
}

var schemeHTTP, schemeHTTPS = []byte("http"), []byte("https")
