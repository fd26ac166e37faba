package model

// Split takes a part of a route's requests to another service: a canary, or one of several
// weighted services. Of several the first that wants a request gets it, and what none wants goes
// to the route's own service.
type Split struct {
	Service ServiceKey // zero: the part gets 503
	Source  ObjectRef
	// Upstream and Policy take the place of the route's; nil: those hold.
	Upstream *Upstream
	Policy   *Policy

	// Header decides, if the request has it: by Value if that is set, else by Pattern
	// (RE2, on the whole value), else "always" and "never". What it does not decide is
	// up to Cookie ("always" and "never"), and then to Weight.
	Header, Value, Pattern string
	Cookie                 string
	Weight, Total          uint32 // Weight of Total requests, at random
}

// Weighted is a service with its share of a route's requests.
type Weighted struct {
	Service  ServiceKey
	Weight   uint32 // relative to the others'
	Upstream *Upstream
	Policy   *Policy
}

// Distribute gives a route's requests to services by their weights. It returns the service that
// becomes the route's own, and the splits before it: each takes its weight of what those before
// it have left, so that the shares are exact. Services of weight 0 get nothing; ok is false if
// that is all of them.
func Distribute(services []Weighted, source ObjectRef) (main Weighted, splits []Split, ok bool) {
	var left uint64
	last := -1
	for i := range services {
		left += uint64(services[i].Weight)
		if services[i].Weight > 0 {
			last = i
		}
	}
	if last < 0 {
		return Weighted{}, nil, false
	}
	for _, s := range services[:last] {
		if s.Weight == 0 {
			continue
		}
		weight, total := s.Weight, left
		for total > 1<<32-1 { // only of weights near the largest there can be
			weight, total = weight>>1, total>>1
		}
		splits = append(splits, Split{Service: s.Service, Source: source, Upstream: s.Upstream, Policy: s.Policy, Weight: weight, Total: uint32(total)})
		left -= uint64(s.Weight)
	}
	return services[last], splits, true
}
