package exchange

import (
	"encoding/binary"
	"strconv"

	"github.com/kerngate/kerngate/userspace/proxy/http1"
)

// rebuilt are the end-to-end fields that the proxy writes itself: what a client says of
// its own address must not reach a pod. Forwarded is read from trusted proxies, and never
// passed on: pods get X-Forwarded-*, and one account of the client, not two.
var rebuilt = http1.Fields(http1.FieldHost, http1.FieldContentLength, http1.FieldXForwardedFor,
	http1.FieldXForwardedProto, http1.FieldXForwardedHost, http1.FieldXForwardedPort,
	http1.FieldXForwardedScheme, http1.FieldXScheme, http1.FieldXRealIP, http1.FieldForwarded, http1.FieldXRequestID,
	http1.FieldSSLClientVerify, http1.FieldSSLClientSubject, http1.FieldSSLClientIssuer, http1.FieldSSLClientCert)

// oldSchemes are names for X-Forwarded-Proto that some applications believe before it: a
// client that writes one does not get its word through. Who writes none costs nothing.
var oldSchemes = http1.Fields(http1.FieldXForwardedScheme, http1.FieldXScheme)

// Added is a field that the proxy adds to a request.
type Added struct {
	Name  string
	Value []byte
}

// addFields lists what is added to the request on its way to a pod, whichever protocol the
// pod speaks.
func (x *Exchange) addFields() {
	x.added, x.values = x.added[:0], x.values[:0]
	o := &x.origin
	at := len(x.values)
	x.values = o.client.AppendTo(x.values)
	client := x.values[at:]
	if len(o.hops) == 0 {
		x.add("X-Forwarded-For", client)
	} else {
		at = len(x.values)
		x.values = x.AppendForwardedFor(x.values)
		x.add("X-Forwarded-For", x.values[at:])
	}
	x.add("X-Real-IP", client)
	scheme := schemeHTTP
	if o.secure {
		scheme = schemeHTTPS
	}
	x.add("X-Forwarded-Proto", scheme)
	if x.Request.Present&oldSchemes != 0 {
		x.add("X-Forwarded-Scheme", scheme)
		x.add("X-Scheme", scheme)
	}
	if o.host != nil {
		x.add("X-Forwarded-Host", o.host)
	} else {
		x.add("X-Forwarded-Host", x.Request.Authority)
	}
	at = len(x.values)
	x.values = strconv.AppendUint(x.values, uint64(o.port), 10)
	x.add("X-Forwarded-Port", x.values[at:])
	x.add("X-Request-ID", x.RequestID())
	at = len(x.values)
	x.values = x.appendPass(x.values)
	x.add(passName, x.values[at:])
	x.addClientFields()
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

// add adds a field; value must stay as it is until the exchange has ended.
func (x *Exchange) add(name string, value []byte) {
	x.added = append(x.added, Added{name, value})
}

// appendHead appends the request head as a pod that speaks HTTP/1.1 gets it.
func (x *Exchange) appendHead(dst []byte) []byte {
	r := x.Request
	dst = http1.AppendRequestLine(dst, r.Method, r.Path, r.Query)
	dst = append(dst, "Host: "...)
	dst = append(dst, r.Authority...)
	dst = append(dst, '\r', '\n')
	dst = r.AppendEndToEnd(dst, rebuilt)
	for i := range x.added {
		dst = append(dst, x.added[i].Name...)
		dst = append(dst, ": "...)
		dst = append(dst, x.added[i].Value...)
		dst = append(dst, '\r', '\n')
	}
	switch {
	case r.Chunked:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case r.ContentLength >= 0:
		dst = http1.AppendFieldUint(dst, "Content-Length", uint64(r.ContentLength))
	}
	if x.upgrades() {
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: "...)
		dst = append(dst, r.Upgrade...)
		dst = append(dst, '\r', '\n')
	}
	return append(dst, '\r', '\n')
}

// maxRequestID is the longest X-Request-ID that is taken over from a client.
const maxRequestID = 128

// RequestID returns the request's id: the client's if it is a sane one, else 32 random
// hexadecimal digits.
func (x *Exchange) RequestID() []byte {
	if x.idLen > 0 {
		return x.id[:x.idLen]
	}
	if v := x.Request.Value(http1.FieldXRequestID); saneID(v) {
		x.idLen = copy(x.id[:], v)
		return x.id[:x.idLen]
	}
	x.idLen = copy(x.id[:], x.OwnID())
	return x.id[:x.idLen]
}

// OwnID returns 32 random hexadecimal digits, the same ones throughout the exchange, also
// where the client has chosen the request's id.
func (x *Exchange) OwnID() []byte {
	if x.ownIDed {
		return x.ownID[:]
	}
	const digits = "0123456789abcdef"
	var raw [16]byte
	binary.LittleEndian.PutUint64(raw[:], x.worker.Rand.Uint64())
	binary.LittleEndian.PutUint64(raw[8:], x.worker.Rand.Uint64())
	for i, b := range raw {
		x.ownID[2*i], x.ownID[2*i+1] = digits[b>>4], digits[b&15]
	}
	x.ownIDed = true
	return x.ownID[:]
}

func saneID(v []byte) bool {
	if len(v) == 0 || len(v) > maxRequestID {
		return false
	}
	for _, c := range v {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		case c == '-', c == '_', c == '.', c == ':', c == '/', c == '+', c == '=':
		default:
			return false
		}
	}
	return true
}
