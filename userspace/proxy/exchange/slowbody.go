package exchange

import "time"

// slowBody is how long the proxy has waited for a request's body, and what came of it: a client
// that sends a byte now and then keeps a connection, a pod and memory for as long as it likes,
// as no single pause of its is too long.
type slowBody struct {
	waited  time.Duration
	spliced int64 // bytes that went past ReadBody
}

// waitedForBody notes that the coroutine has waited since a loop time for the client alone. It
// reports whether too little has come for that, of got bytes that were read. Answered requests
// and calls of gRPC may take their time: both sides talk.
func (x *Exchange) waitedForBody(since, got int64) bool {
	rate := x.conf.Settings.MinRequestRate
	if rate == 0 || x.call.on || x.tunnel.on || x.response.begun {
		return false
	}
	s := &x.body.slow
	s.waited += time.Duration(x.worker.Loop.Now() - since)
	if s.waited < x.conf.Settings.BodyTimeout/2 {
		return false
	}
	return got+s.spliced < int64(float64(rate)*s.waited.Seconds())
}
