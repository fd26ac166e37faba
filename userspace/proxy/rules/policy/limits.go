package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/rules/limit"
	"github.com/kerngate/kerngate/userspace/proxy/rules/prefixset"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

type limits struct {
	rates       []rate
	scope       limit.Scope // of connections
	connections uint32
	exempt      *prefixset.Set
	status      int
}

type rate struct {
	scope limit.Scope
	limit.Rate
}

func compileLimits(l *feedpb.Limits) (*limits, error) {
	if l == nil {
		return nil, nil
	}
	out := &limits{connections: l.Connections, status: int(l.Status), scope: limit.ScopeOf(l.Scope + " connections")}
	switch {
	case l.Scope == "":
		return nil, errors.New("the scope is missing")
	case !rule.ErrorStatus(out.status):
		return nil, fmt.Errorf("status %d is no refusal", out.status)
	}
	var err error
	if out.exempt, err = prefixset.Parse(l.Exempt); err != nil {
		return nil, err
	}
	for _, r := range l.Rates {
		period := time.Duration(r.PeriodMs) * time.Millisecond
		if r.Requests == 0 || r.PeriodMs == 0 || period > 24*time.Hour {
			return nil, fmt.Errorf("%d requests in %d ms is no rate", r.Requests, r.PeriodMs)
		}
		interval := max(int64(period)/int64(r.Requests), 1)
		out.rates = append(out.rates, rate{
			limit.ScopeOf(fmt.Sprintf("%s %d/%s", l.Scope, r.Requests, period)),
			limit.Rate{Interval: interval, Tolerance: interval * int64(min(r.Burst, 1<<20))},
		})
	}
	return out, nil
}

// Admitted is a request that counts among those at once, until Release.
type Admitted struct {
	limiter *limit.Limiter
	scope   limit.Scope
	client  netip.Addr
}

// Release takes the request back. It may be called again.
func (a *Admitted) Release() {
	if a.limiter != nil {
		a.limiter.End(a.scope, a.client)
		a.limiter = nil
	}
}

// LimitStatus returns the status that requests beyond a limit are answered with.
func (p *Policy) LimitStatus() int { return p.limits.status }

// count reports whether the request is within all limits; a notes what is to be released.
func (l *limits) count(q *Request, by *limit.Limiter, a *Admitted) Verdict {
	if l == nil || l.exempt.Contains(q.Client) {
		return Pass
	}
	share := max(q.Proxies, 1)
	for i := range l.rates {
		r := l.rates[i]
		r.Interval *= int64(share) // and the burst with it: Tolerance stays the same time
		if !by.Allow(r.scope, q.Client, r.Rate, q.Now) {
			return TooMany
		}
	}
	if l.connections > 0 {
		if !by.Begin(l.scope, q.Client, (l.connections+share-1)/share) {
			return TooManyAtOnce
		}
		*a = Admitted{by, l.scope, q.Client}
	}
	return Pass
}
