package exchange

import "github.com/kerngate/kerngate/userspace/proxy/io/reactor"

// turns is what the directions of an exchange have had of the loop's turn. Each has a share of its
// own: a request that never pauses would leave nothing to its response.
type turns struct{ request, response reactor.Share }

// restsRequest reports whether the request has had its share of this turn. It goes on in the next.
func (x *Exchange) restsRequest() bool { return x.turns.request.Spent(x.worker.Loop, x.alarm.wake) }

// restsResponse is the same for the response.
func (x *Exchange) restsResponse() bool { return x.turns.response.Spent(x.worker.Loop, x.alarm.wake) }
