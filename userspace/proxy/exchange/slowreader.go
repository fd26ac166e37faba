package exchange

import "time"

// slowReader is how long the proxy has waited for the client to take a response since that was
// judged last, and how much the client had taken then. A client that takes a little now and then
// keeps a connection, a pod and memory for as long as it likes, as no single pause of its is too
// long.
type slowReader struct {
	waited time.Duration
	taken  int64 // bytes
}

// waitedForReader notes that the coroutine has waited since a loop time for the client alone.
func (x *Exchange) waitedForReader(since int64) {
	x.response.reader.waited += time.Duration(x.worker.Loop.Now() - since)
}

// takesTooLittle reports whether the client has taken too little of the response for the time that
// it was waited for. It is asked once what the client makes room for has been sent. Who takes
// nothing at all meets ResponseTimeout; calls of gRPC may take their time.
func (x *Exchange) takesTooLittle() bool {
	s, settings := &x.response.reader, &x.conf.Settings
	if settings.MinResponseRate == 0 || x.call.on || x.tunnel.on || s.waited < settings.ResponseTimeout/2 {
		return false
	}
	taken, among := x.down.Taken()
	got := float64(taken-s.taken) * float64(among)
	slow := got < float64(settings.MinResponseRate)*s.waited.Seconds()
	s.waited, s.taken = 0, taken
	return slow
}
