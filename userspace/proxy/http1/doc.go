// Package http1 reads and writes HTTP/1.0 and HTTP/1.1 messages (RFC 9110,
// RFC 9112) on byte slices. It does no I/O, keeps no goroutine and, once its
// structs have been used for a message or two, allocates nothing.
//
// In: bytes as they arrived, in any pieces. Out: a Request or a Response whose
// slices are views into those bytes, the body's framing, and an *Error with a
// status and a stable reason token for everything that is not beyond doubt.
//
// The parser refuses and never repairs: two readers who repair a message
// differently are how requests get smuggled. What is accepted is meant to be
// written anew by the Append functions: framing and hop-by-hop fields are never
// copied from one connection to the other.
//
// Where this package is stricter than the RFCs, on purpose:
//
//   - Several Content-Length fields, or a list in one, are refused even if all
//     values are equal (RFC 9112 section 6.3 would allow to merge them).
//   - Transfer-Encoding must be exactly "chunked", once, on HTTP/1.1, and no tab
//     behind it, which llhttp would not trim.
//   - Content-Length and Transfer-Encoding among trailers are refused.
//   - A host is a DNS name, an IPv4 address or an IPv6 literal. Percent-encoding,
//     sub-delims and IPvFuture, which RFC 3986 allows in a reg-name, are refused.
//   - Only the versions 1.0 and 1.1 exist; a later 1.x minor gets 505.
//   - After a 1xx or 204 response with a framing that it must not have, the
//     connection is not used again, whatever it says.
//   - A field that the proxy treats itself (X-Forwarded-For, Host, Content-Length,
//     Authorization, ...) cannot be removed by naming it in Connection.
//   - A name that differs from such a field only by '_' in the place of '-' is
//     not forwarded: CGI-like backends could not tell the two apart.
//   - Whitespace around chunk sizes and chunk extensions is refused.
//
// And more lenient: a request target may hold printable ASCII that RFC 3986
// wants encoded (such as '|' or '{'), since browsers send it in queries.
package http1
