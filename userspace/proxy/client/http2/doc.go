// Package http2 is the HTTP/2 front end (RFC 9113): it reads frames from a client's
// connection, has each request carried out as an exchange in a coroutine of its own, and
// writes the responses.
//
// A connection is driven by events, not by a coroutine: frames are read into a buffer that
// all connections of a worker share, as many as have arrived, and acted on. Only what has
// not arrived whole is kept, so that an idle connection holds no buffer and no stack. What
// the streams have to say is gathered in one buffer per connection and written at the end
// of the loop's turn: many small responses share one system call.
//
// Priorities are ignored, as section 5.3.1 allows, and the client is told so (RFC 9218);
// streams take turns frame by frame. Nothing is pushed.
//
// A stream's window is given back as the pod takes its body, never before, so that is the most
// that is kept of it; the connection's as bytes come, so that no body stops another
// (exchange.BodiesHeld bounds them all together). A response is read from the pod no faster than the client
// takes it. Whatever else a client could make the proxy do or keep by frames alone has a
// limit with a name (see Limit): beyond it the client is told ENHANCE_YOUR_CALM and cut off.
package http2
