package exchange

import (
	"container/list"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/pod/affinity"
	"github.com/kerngate/kerngate/userspace/proxy/pod/balance"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// choice is how the pods of an exchange are chosen: what a service and the rules of a
// route want of it, and what the client's cookie says.
type choice struct {
	service  *config.Service
	wish     balance.Wish
	affinity *policy.Affinity // nil: none
	home     home
	known    bool          // the client has come with a cookie of this service
	retry    *policy.Retry // nil: as the proxy does by itself
	begun    int64         // loop time
	limit    int           // pods that may be asked
	counted  bool          // in the retry budget
	retrying bool          // as a retry
	next     balance.Pick  // chosen already, if ahead
	ahead    bool
	early    balance.Pick // given up before its time, if hasEarly
	hasEarly bool

	tried  [maxTries]state.BackendID
	tries  int
	place  *list.Element // in the line of those that wait for a pod; nil: it does not
	hashed []byte        // room for what a hash is taken of
}

// home is where a client's cookie leads.
type home struct {
	pod  balance.Member // of a cookie that names a pod; else only its ID
	hash uint64         // of a cookie that names a seat
}

// beginChoice prepares for the pods of a service.
func (x *Exchange) beginChoice(s *config.Service) {
	x.endChoice()
	s = x.conf.Current(s)
	c := &x.choice
	*c = choice{service: s, wish: balance.Wish{SlowStart: s.SlowStart, Most: s.MaxConnections}, limit: balance.MaxTries, hashed: c.hashed}
	p := x.rules.policy
	if p == nil {
		return
	}
	x.beginRetries(p.Retry)
	b := p.Balance
	if b == nil || x.rules.fellBack {
		return
	}
	c.wish.Algorithm, c.wish.Subset = b.Algorithm, b.Subset
	c.wish.Hash, c.wish.Hashed, x.choice.hashed = b.Hash(x.choice.hashed, &x.rules.request)
	if b.Affinity != nil {
		c.affinity = b.Affinity
		c.home, c.known = x.homeAt(b.Affinity, s)
	}
}

// endChoice takes back what beginChoice has counted.
func (x *Exchange) endChoice() {
	x.endRetries()
	x.choice.affinity = nil
}

// homeAt returns where the client's cookie leads, if it is one of this service's. One that
// is not fits nobody, and is replaced.
func (x *Exchange) homeAt(a *policy.Affinity, s *config.Service) (h home, ok bool) {
	text := a.Value(&x.rules.request)
	if text == nil {
		return h, false
	}
	v, ok := affinity.Parse(text)
	group := x.worker.Balancer.Groups().Now(s.ID)
	if !ok || group == nil {
		return h, false
	}
	of := affinity.Service{ID: s.ID, Name: s.Name}
	if !a.Balanced {
		h.pod, ok = x.worker.affinity.Pod(x.conf.AffinityKey, of, group, v)
		return h, ok
	}
	seat, ok := x.worker.affinity.Seat(x.conf.AffinityKey, of, v)
	h.hash = affinity.SeatHash(seat)
	h.pod.ID = group.Leads(h.hash)
	return h, ok
}

// home returns which part of the requests the client's cookie was given out for: a split, or nil for
// the route's own service. ok is false if there is no such cookie, or it decides nothing.
func (x *Exchange) home(t *config.Target) (s *config.Split, ok bool) {
	if t.Policy == nil || t.Policy.Balance == nil {
		return nil, false
	}
	a := t.Policy.Balance.Affinity
	if a == nil || !a.Canary {
		return nil, false
	}
	if t.Service != nil {
		if _, ok := x.homeAt(a, t.Service); ok {
			return nil, true
		}
	}
	for i := range t.Splits {
		if s := t.Splits[i].Service; s != nil {
			if _, ok := x.homeAt(a, s); ok {
				return &t.Splits[i], true
			}
		}
	}
	return nil, false
}

// choose picks the pod that is asked next, one that was not asked yet.
func (x *Exchange) choose() (balance.Pick, bool) {
	c, b := &x.choice, x.worker.Balancer
	if c.ahead {
		c.ahead = false
		return c.next, true
	}
	tried := x.choice.tried[:x.choice.tries]
	switch {
	case !c.known:
	case c.affinity.Balanced:
		return b.Choose(c.service.ID, balance.Wish{Hash: c.home.hash, Hashed: true, Most: c.wish.Most}, tried)
	default:
		if p, ok := b.Stick(c.home.pod, c.wish.Most, tried); ok {
			return p, true
		}
	}
	return b.Choose(c.service.ID, c.wish, tried)
}

// keep gives the client a cookie that leads to the pod that has answered, if it has none, or
// its own leads to one that could not.
func (x *Exchange) keep(r *message.Response) {
	c := &x.choice
	if c.affinity == nil || c.known && (x.attempt.pick.ID == c.home.pod.ID || !c.affinity.ChangeOnFailure) {
		return
	}
	group := x.worker.Balancer.Groups().Now(c.service.ID)
	if group == nil {
		return
	}
	var v affinity.Value
	of := affinity.Service{ID: c.service.ID, Name: c.service.Name}
	if !c.affinity.Balanced {
		var ok bool
		if v, ok = x.worker.affinity.ForPod(x.conf.AffinityKey, of, group, x.attempt.pick.ID); !ok {
			return // the pod is leaving
		}
	} else {
		seat, ok := affinity.FindSeat(group, x.attempt.pick.ID, uint16(x.worker.Rand.Uint64()))
		if !ok {
			return
		}
		v = x.worker.affinity.ForSeat(x.conf.AffinityKey, of, seat)
	}
	var text [32]byte
	at := len(x.values)
	x.values = c.affinity.AppendCookie(x.values, &x.rules.request, v.Append(text[:0]))
	r.Add("Set-Cookie", x.values[at:len(x.values):len(x.values)])
}
