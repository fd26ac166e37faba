package exchange

import "time"

// pacing is the progress of a response whose rate a rule bounds.
type pacing struct {
	sent  uint64        // bytes of its body
	began int64         // loop time of its head
	wait  time.Duration // until more is taken from the pod; 0: now
}

// leastWait keeps a slow rate from waking the loop for a few bytes at a time.
const leastWait = 5 * time.Millisecond

// holdsBack reports whether the response has gone faster than a rule lets it. Then nothing
// is read from the pod for a while, which is all that it takes: what the client is to wait
// for stays in the pod's socket.
func (x *Exchange) holdsBack() bool {
	x.response.pacing.wait = 0
	if x.rules.policy == nil || x.rules.policy.Pace == nil || x.attempt.phase != passBody || x.tunnel.on {
		return false
	}
	p := &x.response.pacing
	if p.wait = x.rules.policy.Pace.Wait(p.sent, time.Duration(x.worker.Loop.Clock()-p.began)); p.wait == 0 {
		return false
	}
	p.wait = max(p.wait, leastWait)
	return true
}

// paced reports whether a rule bounds the response's rate.
func (x *Exchange) paced() bool { return x.rules.policy != nil && x.rules.policy.Pace != nil }
