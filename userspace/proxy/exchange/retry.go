package exchange

import (
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// maxTries is how many pods a request may be offered to, whatever a rule says.
const maxTries = 10

// leastRetries is how many retries of a service may be in flight at a worker even if that
// is more than the budget's part of its requests.
const leastRetries = 3

// retryBudget counts, for one worker, the requests in flight of each service whose route
// has a rule for retries. Only a part of them may be retries: a service that fails is not
// asked several times as much as one that works.
type retryBudget map[state.ServiceID]*inFlight

type inFlight struct{ requests, retries int }

// enter counts a request of a service.
func (b retryBudget) enter(id state.ServiceID) {
	if b[id] == nil {
		b[id] = new(inFlight)
	}
	b[id].requests++
}

// leave takes a request out.
func (b retryBudget) leave(id state.ServiceID, retrying bool) {
	of := b[id]
	if retrying {
		of.retries--
	}
	if of.requests--; of.requests == 0 {
		delete(b, id) // ids are given to other services
	}
}

// hasRoom reports whether percent of the service's requests are more than what are retries.
func (b retryBudget) hasRoom(id state.ServiceID, percent int) bool {
	of := b[id]
	return of.retries < max(leastRetries, of.requests*percent/100)
}

func (x *Exchange) beginRetries(r *policy.Retry) {
	if r == nil {
		return
	}
	c := &x.choice
	c.retry, c.begun, c.limit, c.counted = r, x.worker.Loop.Now(), maxTries, true
	if r.Tries > 0 {
		c.limit = min(r.Tries, maxTries)
	}
	if x.worker.retries == nil {
		x.worker.retries = retryBudget{}
	}
	x.worker.retries.enter(c.service.ID)
}

// endRetries takes the exchange out of the budget.
func (x *Exchange) endRetries() {
	c := &x.choice
	if !c.counted {
		return
	}
	x.worker.retries.leave(c.service.ID, c.retrying)
	c.counted, c.retrying, c.retry = false, false, nil
}

// affords reports whether the budget has room for a retry of this exchange.
func (x *Exchange) affords() bool {
	c := &x.choice
	if c.retrying || x.worker.retries.hasRoom(c.service.ID, x.conf.Settings.RetryPercent) {
		return true
	}
	x.worker.Metrics.RetriesRefused.Add(1)
	return false
}

func (x *Exchange) spend() {
	if c := &x.choice; !c.retrying {
		c.retrying = true
		x.worker.retries[c.service.ID].retries++
	}
}

// conditions returns what a rule for retries calls the failure of an attempt, 0 if no other
// pod could do better.
func conditions(reason Reason) model.RetryOn {
	switch reason {
	case ConnectFailed, UpstreamClosed, UpstreamAborted, UpstreamReset, UpstreamRefused, UpstreamProtocol,
		UpstreamTLS, UpstreamUntrusted, Overloaded:
		return model.RetryError
	case ConnectTimeout, UpstreamTimeout:
		return model.RetryTimeout
	case UpstreamInvalid:
		return model.RetryInvalidHeader
	}
	return 0
}

// mayRepeat reports whether a request that was sent to a pod, at least in part, may be sent
// to another: nothing of a response has gone to the client, all of the body is still at
// hand, and either it did not get anywhere, or a rule allows it.
func (x *Exchange) mayRepeat(reason Reason) bool {
	idempotent := x.Request.MethodID.Idempotent()
	switch {
	case x.response.begun:
		return false
	case x.attempt.repeat == repeatChosen:
		return true // and the body is rewound
	case x.attempt.repeat == repeatAll, x.attempt.repeat == repeatIdempotent && idempotent:
	default:
		r := x.choice.retry
		if r == nil || !r.On(conditions(reason)) || !idempotent && !r.NonIdempotent {
			return false
		}
	}
	return x.rewindBody()
}

// tryAgain reports whether the next pod is asked, after an attempt that may be followed by
// another one.
func (x *Exchange) tryAgain(reason Reason) bool {
	c := &x.choice
	switch {
	case c.retry == nil:
		return true
	case x.attempt.repeat == repeatChosen:
		return true // everything was asked already
	case x.attempt.repeat != repeatNone:
		// It was the connection's fault, which had been idle: no pod has had its try.
		c.limit = min(c.limit+1, maxTries)
		return true
	case !c.retry.On(conditions(reason)) || x.choice.tries >= c.limit || c.tooLate(x.worker.Loop.Clock()) || !x.affords():
		return false
	}
	x.spend()
	return true
}

// tooLate reports whether no retry may begin at a loop time.
func (c *choice) tooLate(now int64) bool {
	return c.retry.Within > 0 && now-c.begun >= int64(c.retry.Within)
}

// retriesStatus decides whether a response is dropped and another pod asked instead: only
// if there is one, so that the client gets this response rather than none.
func (x *Exchange) retriesStatus(status int) bool {
	c := &x.choice
	r := c.retry
	if r == nil || !r.OnStatus(status) || !x.Request.MethodID.Idempotent() && !r.NonIdempotent ||
		x.choice.tries >= c.limit || c.tooLate(x.worker.Loop.Clock()) {
		return false
	}
	var ok bool
	if c.next, ok = x.choose(); !ok || !x.affords() || !x.rewindBody() {
		return false
	}
	c.ahead = true
	x.spend()
	return true
}

// errRetriedStatus ends an attempt whose response is dropped. The pod is judged by its status.
var errRetriedStatus = &fault{reason: Forwarded, repeat: repeatChosen}
