package exchange

import (
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// A client that has ended its side of the connection may be gone, or may still wait for the
// answer to a request that it has sent whole: TCP says the same of both. Who is gone answers
// further bytes with a reset, so a while later an interim response asks (RFC 9110 section 15.2.1
// lets one come at any time, and clients drop it). Then the pod need not work for nobody, and what
// the request holds is free.

// probeAfter is how long after the client's end the question is asked.
const probeAfter = time.Second

// mayAsk reports whether an interim response may ask if the client is there; ended, whether there
// is a reason to.
func (x *Exchange) mayAsk() (may, ended bool) {
	if x.response.asked || x.attempt.phase != awaitHead || !x.attempt.sent || x.tunnel.on || x.Request.Minor == 0 {
		return false, false
	}
	d, ok := x.down.(interface{ PeerEnded() bool })
	return ok, ok && d.PeerEnded()
}

// askClient has the client's system say if nobody is there.
func (x *Exchange) askClient() {
	x.response.asked = true
	x.down.Inform(&message.Response{Status: 100})
	x.down.Flush() // what fails shows in Broken
}
