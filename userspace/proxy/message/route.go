package message

// ForRoute shows a request to package route, whose Request it is.
type ForRoute struct {
	Head *Request
	TLS  bool // the connection has it
}

// Secure reports whether the connection has TLS.
func (f ForRoute) Secure() bool { return f.TLS }

// Method returns the method as it was sent.
func (f ForRoute) Method() []byte { return f.Head.Method }

// Query returns the query without its question mark.
func (f ForRoute) Query() []byte { return f.Head.Query }

// Header returns the value of a header; several are joined by commas, which allocates.
func (f ForRoute) Header(lower string) []byte { return f.Head.joined(lower) }
