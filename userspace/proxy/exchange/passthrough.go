package exchange

import "github.com/kerngate/kerngate/userspace/proxy/http1"

// Nameless prepares for a connection in which no request can be seen, only the host that it
// is for, so that it is logged like any other.
func (x *Exchange) Nameless(w *Worker, c *Connection, host string) *http1.Request {
	r := &http1.Request{Authority: []byte(host)}
	x.Init(w, nil, r, c)
	return r
}
