package reactor

// Layer stands between a connection and its socket and changes the bytes on their way:
// TLS. Once it is set, everything above (Output, exchanges, pools) goes through it without
// knowing. Nothing in it blocks; like the connection it belongs to the loop's thread.
//
// A layer reads and writes the socket by ReadSocket and WriteSocket. What it has accepted
// it must get out: TryWrite never fails half way, what the socket does not take stays with
// the layer until TryFlush.
type Layer interface {
	// TryRead returns plain bytes: n > 0, io.EOF when the peer has ended its side
	// properly, ErrWouldBlock if more must arrive first, or the error that ended the
	// connection (io.ErrUnexpectedEOF if it was cut off).
	TryRead(p []byte) (int, error)
	// TryWrite takes bytes of a, then of b: n > 0, ErrWouldBlock while what was taken
	// before is still on its way, or the error that ended the connection.
	TryWrite(a, b []byte) (int, error)
	// TryFlush sends what TryWrite has taken: nil when nothing is left, else
	// ErrWouldBlock or the error that ended the connection.
	TryFlush() error
	// Unsent reports whether TryFlush has something to do.
	Unsent() bool
	// Quiet reports whether there are no plain bytes, no end of stream and no error,
	// after dealing with what has arrived for the layer alone (session tickets).
	Quiet() bool
	// CloseWrite tells the peer that our side of the stream ends, as far as the socket
	// takes it at once.
	CloseWrite()
	// Close gives back what the layer holds. Properly: the peer is told before.
	Close(properly bool)
}

// SetLayer puts a layer under the connection, nil takes it away. Close takes it away too.
func (c *Conn) SetLayer(l Layer) { c.layer = l }

// Layer returns the connection's layer, nil if its bytes are those of the socket. Only
// without one may the socket be read or written past the connection (splice).
func (c *Conn) Layer() Layer { return c.layer }

// TryFlush sends what the layer has taken and not sent.
func (c *Conn) TryFlush() error {
	if c.layer != nil {
		return c.layer.TryFlush()
	}
	return nil
}

// Unsent reports whether the layer has taken bytes that are not sent.
func (c *Conn) Unsent() bool { return c.layer != nil && c.layer.Unsent() }
