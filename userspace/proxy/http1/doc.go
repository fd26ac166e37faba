// Package http1 reads and writes HTTP/1.0 and HTTP/1.1 messages (RFC 9110,
// RFC 9112) on byte slices. It does no I/O, keeps no goroutine and, once its
// structs have been used for a message or two, allocates nothing.
//
// In: bytes as they arrived, in any pieces. Out: a message.Request or a
// message.Response whose slices are views into those bytes, the body's framing, and a
// *message.Error for everything that is not beyond doubt. What is accepted is meant to be
// written anew by the Append functions.
//
// Where this package is stricter than the RFCs, on purpose, beyond what package message is:
//
//   - Transfer-Encoding must be exactly "chunked", once, on HTTP/1.1, and no tab
//     behind it, which llhttp would not trim.
//   - Only the versions 1.0 and 1.1 exist; a later 1.x minor gets 505.
//   - After a 1xx or 204 response with a framing that it must not have, the
//     connection is not used again, whatever it says.
//   - Whitespace around chunk sizes and chunk extensions is refused.
package http1
