package exchange

import (
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
	"github.com/kerngate/kerngate/userspace/route"
)

// maxTurns is how often a request may be routed again, as in nginx.
const maxTurns = 10

// route finds what answers the request. Steps of the rules that it meets may send it to
// another path, whose rules then hold.
func (x *Exchange) route() (config.Target, Reason) {
	path, err := x.path.normalise(x.Request)
	if err != nil {
		x.Outcome.Detail = message.Token(err)
		return config.Target{}, BadPath
	}
	for turn := 0; ; turn++ {
		r, ok := x.conf.Routes.Match(x.Request.Host, path, x.forRoute())
		if !ok && turn > 0 { // the default service is for what clients ask for themselves
			x.rules.policy = nil
			return config.Target{}, NoRoute
		}
		if !ok {
			break
		}
		x.Outcome.Source, x.Outcome.Usage = r.Value.Source, r.Value.Usage
		target, ok := config.At(r, path)
		if !ok {
			x.rules.policy, x.Outcome.Detail = nil, message.Token(message.ErrPathCost)
			return config.Target{}, BadPath
		}
		x.beginRules(&target, path, turn > 0)
		if target.Policy.HasSteps() {
			switch q := &x.rules.request; target.Policy.Steps(q, turn == 0) {
			case policy.RouteAgain:
				if turn == maxTurns {
					x.rules.policy = nil
					return config.Target{}, RewriteLoop
				}
				path = q.Normal
				continue
			case policy.Refused:
				x.rules.policy, x.Outcome.Detail = nil, "rewrite"
				return config.Target{}, BadPath
			}
		}
		if x.split(&target); target.Service == nil {
			return config.Target{}, NoService
		}
		x.Outcome.Service = target.Service
		return target, Forwarded
	}
	if x.conf.Routes.TooCostly(x.Request.Host, path) {
		x.Outcome.Detail = message.Token(message.ErrPathCost)
		return config.Target{}, BadPath
	}
	if x.conf.Default == nil {
		return config.Target{}, NoRoute
	}
	x.Outcome.Service, x.Outcome.Usage = x.conf.Default, x.conf.DefaultUsage
	return config.Target{Service: x.conf.Default, Upstream: config.ClearText.Upstream}, Forwarded
}

// forRoute shows the request to the table of routes. What it points to is a part of the exchange,
// since a value of two words in an interface would be allocated for each request.
func (x *Exchange) forRoute() *message.ForRoute {
	x.routed = message.ForRoute{Head: x.Request, TLS: x.Connection.TLS != nil}
	return &x.routed
}

// requestPath is the request's path where it is not in its plain form already.
type requestPath struct {
	received []byte // as the client has sent it; nil: as it stands in the request
	matched  []byte // room for the form that routes are matched with
	resolved []byte // room for the form that is forwarded
}

// normalise returns the path that routes are matched with. It has everybody, pods, rules and
// services that decide, read the same one, resolved as far as readers agree.
func (p *requestPath) normalise(r *message.Request) ([]byte, error) {
	if !r.PathNeedsNormalise {
		return r.Path, nil
	}
	matched, err := route.NormalisePath(p.matched[:0], r.Path)
	if err != nil {
		return nil, err
	}
	p.matched = matched[:0]
	p.received = r.Path
	forwarded := route.ResolvePath(p.resolved[:0], p.received)
	if len(forwarded) < len(p.received) {
		p.resolved = append(p.resolved[:0], forwarded...) // most often in its place already
		forwarded = p.resolved
	}
	r.Path = forwarded
	return matched, nil
}

// restore puts back what the client has sent, for the log.
func (p *requestPath) restore(r *message.Request) {
	if p.received != nil {
		r.Path, p.received = p.received, nil
	}
}
