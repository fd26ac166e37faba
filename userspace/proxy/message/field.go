package message

import "github.com/kerngate/kerngate/userspace/proxy/message/chars"

// Field is one field line. Name and Value are views into the parsed buffer;
// Value has no whitespace around it and may be empty.
type Field struct {
	Name, Value []byte
	// ID tells the fields that the proxy treats itself; else FieldOther.
	ID FieldID
	// HopByHop is set for fields that end at this connection: those of RFC 9110
	// section 7.6.1, those named in Connection, and lookalikes of FieldIDs
	// spelled with '_' (see the package comment).
	HopByHop bool
}

// FieldID identifies a field name that the proxy knows.
type FieldID uint8

// FieldOther is any name without an identity of its own.
const FieldOther FieldID = 0

// The names that the proxy reads, writes, replaces or protects.
const (
	FieldConnection FieldID = iota + 1
	FieldKeepAlive
	FieldProxyConnection
	FieldProxyAuthenticate
	FieldProxyAuthorization
	FieldTE
	FieldTransferEncoding
	FieldUpgrade
	FieldHTTP2Settings
	FieldTrailer
	FieldContentLength
	FieldHost
	FieldExpect
	FieldXForwardedFor
	FieldXForwardedProto
	FieldXForwardedHost
	FieldXForwardedPort
	FieldXForwardedScheme
	FieldXScheme
	FieldXRealIP
	FieldForwarded
	FieldVia
	FieldXRequestID
	FieldTraceparent
	FieldDate
	FieldServer
	FieldAuthorization
	FieldCookie
	FieldSetCookie
	FieldUserAgent
	FieldReferer
	FieldOrigin
	FieldContentType
	FieldContentEncoding
	FieldContentRange
	FieldAcceptEncoding
	FieldCacheControl
	FieldRange
	FieldMaxForwards
	FieldLocation
	FieldRetryAfter
	FieldWWWAuthenticate
	FieldStrictTransport
	FieldGRPCStatus
	FieldSSLClientVerify
	FieldSSLClientSubject
	FieldSSLClientIssuer
	FieldSSLClientCert

	fieldCount
)

// fieldNames holds the lower-case names, by FieldID.
var fieldNames = [fieldCount]string{
	FieldConnection:         "connection",
	FieldKeepAlive:          "keep-alive",
	FieldProxyConnection:    "proxy-connection",
	FieldProxyAuthenticate:  "proxy-authenticate",
	FieldProxyAuthorization: "proxy-authorization",
	FieldTE:                 "te",
	FieldTransferEncoding:   "transfer-encoding",
	FieldUpgrade:            "upgrade",
	FieldHTTP2Settings:      "http2-settings",
	FieldTrailer:            "trailer",
	FieldContentLength:      "content-length",
	FieldHost:               "host",
	FieldExpect:             "expect",
	FieldXForwardedFor:      "x-forwarded-for",
	FieldXForwardedProto:    "x-forwarded-proto",
	FieldXForwardedHost:     "x-forwarded-host",
	FieldXForwardedPort:     "x-forwarded-port",
	FieldXForwardedScheme:   "x-forwarded-scheme",
	FieldXScheme:            "x-scheme",
	FieldXRealIP:            "x-real-ip",
	FieldForwarded:          "forwarded",
	FieldVia:                "via",
	FieldXRequestID:         "x-request-id",
	FieldTraceparent:        "traceparent",
	FieldDate:               "date",
	FieldServer:             "server",
	FieldAuthorization:      "authorization",
	FieldCookie:             "cookie",
	FieldSetCookie:          "set-cookie",
	FieldUserAgent:          "user-agent",
	FieldReferer:            "referer",
	FieldOrigin:             "origin",
	FieldContentType:        "content-type",
	FieldContentEncoding:    "content-encoding",
	FieldContentRange:       "content-range",
	FieldAcceptEncoding:     "accept-encoding",
	FieldCacheControl:       "cache-control",
	FieldRange:              "range",
	FieldMaxForwards:        "max-forwards",
	FieldLocation:           "location",
	FieldRetryAfter:         "retry-after",
	FieldWWWAuthenticate:    "www-authenticate",
	FieldStrictTransport:    "strict-transport-security",
	FieldGRPCStatus:         "grpc-status",
	FieldSSLClientVerify:    "ssl-client-verify",
	FieldSSLClientSubject:   "ssl-client-subject-dn",
	FieldSSLClientIssuer:    "ssl-client-issuer-dn",
	FieldSSLClientCert:      "ssl-client-cert",
}

// String returns the lower-case name, or "" for FieldOther.
func (id FieldID) String() string {
	if id >= fieldCount {
		return ""
	}
	return fieldNames[id]
}

// FieldSet is a set of FieldIDs, one bit each.
type FieldSet uint64

// Fields makes a FieldSet.
func Fields(ids ...FieldID) FieldSet {
	var s FieldSet
	for _, id := range ids {
		s |= 1 << id
	}
	return s
}

// Has reports whether id is in the set. FieldOther is in a set only if it was
// put there.
func (s FieldSet) Has(id FieldID) bool { return s>>id&1 != 0 }

// With returns the union of both sets.
func (s FieldSet) With(t FieldSet) FieldSet { return s | t }

var (
	// hopByHop are the fields that end at a connection. Proxy-Auth* are among
	// them since no client is meant to authenticate to a reverse proxy that way.
	hopByHop = Fields(FieldConnection, FieldKeepAlive, FieldProxyConnection, FieldProxyAuthenticate,
		FieldProxyAuthorization, FieldTE, FieldTransferEncoding, FieldUpgrade, FieldHTTP2Settings)

	// framing are the fields that say where a body ends.
	framing = Fields(FieldContentLength, FieldTransferEncoding)

	// noTrailer are the fields that mean something else, or something harmful,
	// when they arrive after the body (RFC 9110 section 6.5.1).
	noTrailer = hopByHop.With(Fields(FieldTrailer, FieldContentLength, FieldHost, FieldExpect,
		FieldXForwardedFor, FieldXForwardedProto, FieldXForwardedHost, FieldXForwardedPort, FieldXForwardedScheme,
		FieldXScheme, FieldXRealIP, FieldForwarded, FieldVia, FieldXRequestID, FieldTraceparent, FieldDate, FieldAuthorization, FieldCookie,
		FieldSetCookie, FieldOrigin, FieldContentType, FieldContentEncoding, FieldContentRange, FieldCacheControl,
		FieldRange, FieldMaxForwards, FieldLocation, FieldRetryAfter, FieldWWWAuthenticate, FieldStrictTransport,
		FieldSSLClientVerify, FieldSSLClientSubject, FieldSSLClientIssuer, FieldSSLClientCert))
)

// maxFieldName is the length of the longest known name.
const maxFieldName = len("strict-transport-security")

// fieldHash maps the length, the first and the last two characters of a name
// of at least two characters to a slot of fieldSlots. The factors were found by
// trial so that no two known names collide; a test proves it for every name.
func fieldHash(name []byte) uint8 {
	n := len(name)
	return uint8(n)*66 + (name[0]|0x20)*9 + (name[n-2]|0x20)*216 + (name[n-1]|0x20)*242
}

var fieldSlots = func() (t [256]FieldID) {
	for id := FieldOther + 1; id < fieldCount; id++ {
		t[fieldHash([]byte(fieldNames[id]))] = id
	}
	return t
}()

// FieldIDOf finds a name's FieldID. name must be a token.
func FieldIDOf(name []byte) FieldID {
	if len(name) < 2 {
		return FieldOther
	}
	id := fieldSlots[fieldHash(name)]
	if id == FieldOther || !chars.FoldEqualWords(name, fieldNames[id]) {
		return FieldOther
	}
	return id
}

// lookalike reports whether name, with '-' for each '_', is a known name.
func lookalike(name []byte) bool {
	if len(name) > maxFieldName {
		return false
	}
	var dashed [maxFieldName]byte
	for i, c := range name {
		if c == '_' {
			c = '-'
		}
		dashed[i] = c
	}
	return FieldIDOf(dashed[:len(name)]) != FieldOther
}
