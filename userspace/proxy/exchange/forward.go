package exchange

import (
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/pod/balance"
)

// forward offers the request to pods of the service until one takes it.
func (x *Exchange) forward(s *config.Service) {
	if x.bounds().tooLarge(x.Request.ContentLength) {
		x.refuse(BodyTooLarge, "")
		return
	}
	if !x.gather() {
		return
	}
	o := &x.outgoing
	o.Secure, o.Upgrade, o.Limits = x.transport.TLS, upgrades(x.Request), x.bounds().response()
	x.beginChoice(s)
	last, stale := NoEndpoint, false
	var pick balance.Pick
	c := &x.choice
	for x.choice.tries < c.limit {
		next, reason := x.choosePod()
		// The last try is by a new connection: any pooled one may have gone stale.
		fresh := x.choice.tries > 0 && x.choice.tries == c.limit-1
		switch {
		case reason == Forwarded:
			pick = next
		case reason != NoEndpoint:
			x.finish(reason)
			return
		case stale:
			// The only pod's connection had gone stale: once more, by a new one.
			fresh, stale = true, false
		case c.hasEarly:
			// No other pod was better: the one that was given up early gets its whole time.
			pick, fresh, c.hasEarly = c.early, true, false
		case last == NoEndpoint && x.fallback():
			return
		default:
			x.refuse(last, x.Outcome.Detail)
			return
		}
		x.choice.tried[x.choice.tries] = pick.ID
		x.choice.tries++
		x.Outcome.Tries = x.choice.tries
		x.Outcome.Upstream, x.Outcome.Detail = pick.Address, ""
		x.attempt.repeat = repeatNone

		var again bool
		reason, again = x.try(pick, fresh)
		if !again || !x.tryAgain(reason) {
			x.finish(reason)
			return
		}
		last, stale = reason, reason == UpstreamClosed || reason == UpstreamRefused
		x.worker.Metrics.Retries.Add(1)
	}
	x.refuse(last, x.Outcome.Detail)
}
