package exchange

import "github.com/kerngate/kerngate/userspace/proxy/message"

// Nameless prepares for a connection in which no request can be seen, only the host that it
// is for, so that it is logged like any other.
func (x *Exchange) Nameless(w *Worker, c *Connection, host string) *message.Request {
	r := &message.Request{Authority: []byte(host)}
	x.Init(w, nil, r, c)
	return r
}
