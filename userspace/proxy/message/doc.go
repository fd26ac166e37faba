// Package message holds the heads of HTTP messages: requests, responses and trailers as all protocols
// have them, and what their fields, methods, hosts and statuses mean to the proxy.
//
// In: for HTTP/1.0 and HTTP/1.1 what package http1 has read from bytes; for HTTP/2 and HTTP/3 the
// single fields, by Compose, under the same rules. Out: a Request or a Response whose slices are
// views of what was received, and an *Error with a status and a stable reason token for everything
// that is not beyond doubt. It does no I/O and, once its structs have been used for a message or
// two, allocates nothing.
//
// What is not beyond doubt is refused and never repaired: two readers who repair a message
// differently are how requests get smuggled. Framing and hop-by-hop fields are never copied from one
// connection to another. Where this is stricter than the RFCs, on purpose:
//
//   - Several Content-Length fields, or a list in one, are refused even if all
//     values are equal (RFC 9112 section 6.3 would allow to merge them).
//   - Content-Length and Transfer-Encoding among trailers are refused.
//   - A host is a DNS name, an IPv4 address or an IPv6 literal. Percent-encoding,
//     sub-delims and IPvFuture, which RFC 3986 allows in a reg-name, are refused.
//   - A field that the proxy treats itself (X-Forwarded-For, Host, Content-Length,
//     Authorization, ...) cannot be removed by naming it in Connection.
//   - A name that differs from such a field only by '_' in the place of '-' is
//     not forwarded: CGI-like backends could not tell the two apart.
//
// And more lenient: a request target may hold printable ASCII that RFC 3986
// wants encoded (such as '|' or '{'), since browsers send it in queries.
package message
