package exchange

import (
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/config"
)

// slowBody is how long the proxy has waited for a request's body, and what came of it: a client
// that sends a byte now and then keeps a connection, a pod and memory for as long as it likes,
// as no single pause of its is too long.
type slowBody struct {
	time    time.Duration
	spliced int64 // bytes that went past ReadBody
}

// waited adds to the time, and reports whether got bytes that were read are too few for it.
func (s *slowBody) waited(d time.Duration, got int64, settings *config.Settings) bool {
	s.time += d
	if s.time < settings.BodyTimeout/2 {
		return false
	}
	return got+s.spliced < int64(float64(settings.MinRequestRate)*s.time.Seconds())
}

// waitedForBody notes that the coroutine has waited since a loop time for the client alone. It
// reports whether too little has come for that, of got bytes that were read. Answered requests
// and calls of gRPC may take their time: both sides talk.
func (x *Exchange) waitedForBody(since, got int64) bool {
	if x.conf.Settings.MinRequestRate == 0 || x.call.on || x.tunnel.on || x.response.begun {
		return false
	}
	return x.body.slow.waited(time.Duration(x.worker.Loop.Now()-since), got, &x.conf.Settings)
}
