package config

import (
	"fmt"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
	"github.com/kerngate/kerngate/userspace/route"
)

// locations are parts of routes' paths that rules of their own answer.
type locations struct {
	server, nested *route.Locations[place]
}

// place is what a location leads to, and the locations within it.
type place struct {
	policy *policy.Policy
	inner  *route.Locations[place] // nil: none
}

// find returns the location of a path, the innermost one; nil if there is none.
func find(l *route.Locations[place], path []byte, rival route.Rival) *place {
	found := l.Find(path, rival)
	if found == nil {
		return nil
	}
	if found.Value.inner != nil {
		if inner := find(found.Value.inner, path, route.Rival{}); inner != nil {
			return inner
		}
	}
	return &found.Value
}

// tooCostly reports whether find would take too long.
func tooCostly(l *route.Locations[place], path []byte) bool {
	if l == nil {
		return false
	}
	return l.TooCostly(path) || l.Any(func(p *place) bool { return tooCostly(p.inner, path) })
}

// locations returns the locations of a route. Those that several routes name are compiled
// once, and kept in shared.
func (s *Snapshot) locations(h *feedpb.Host, r *feedpb.Route, shared []*locations) (*locations, error) {
	if r.Locations == 0 {
		return nil, nil
	}
	i := int(r.Locations) - 1
	if i >= len(shared) {
		return nil, fmt.Errorf("locations %d of %d", r.Locations, len(shared))
	}
	if shared[i] != nil {
		return shared[i], nil
	}
	l := &locations{}
	var err error
	if l.server, err = s.compileLocations(h, h.Locations[i].Server); err != nil {
		return nil, err
	}
	if l.nested, err = s.compileLocations(h, h.Locations[i].Nested); err != nil {
		return nil, err
	}
	shared[i] = l
	return l, nil
}

func (s *Snapshot) compileLocations(h *feedpb.Host, list []*feedpb.Location) (*route.Locations[place], error) {
	out := make([]route.Location[place], 0, len(list))
	for _, l := range list {
		// A location without rules would be none: what it was to keep out would get in.
		if l.Policy == 0 || int(l.Policy) > len(h.Policies) {
			return nil, fmt.Errorf("location %q: policy %d of %d", l.Path, l.Policy, len(h.Policies))
		}
		p, err := s.policies.take(h.Policies[l.Policy-1], "", false)
		if err != nil {
			return nil, fmt.Errorf("location %q: %w", l.Path, err)
		}
		at := place{policy: p}
		if len(l.Inner) > 0 {
			if at.inner, err = s.compileLocations(h, l.Inner); err != nil {
				return nil, err
			}
		}
		out = append(out, route.Location[place]{Modifier: route.Modifier(l.Match), Path: l.Path, Value: at})
	}
	return route.NewLocations(out)
}

// At returns what a route leads to at a normalised path: its own target, or a location's,
// which has no service and is the same in clear text. ok is false if it would take too long to
// find out.
func At(r *route.Route[Target], path []byte) (t Target, ok bool) {
	t = r.Value
	if t.locations != nil {
		if tooCostly(t.locations.server, path) || tooCostly(t.locations.nested, path) {
			return Target{}, false
		}
		t = t.at(r, path)
	}
	return t, !t.Policy.TooCostly(len(path))
}

// at returns what the route's locations make of a target.
func (t Target) at(r *route.Route[Target], path []byte) Target {
	at := find(t.locations.server, path, route.RivalOf(r, path))
	if at == nil {
		at = find(t.locations.nested, path, route.Rival{})
	}
	if at == nil {
		return t
	}
	t.Policy, t.Service, t.Splits = at.policy, nil, nil
	t.RedirectHTTPS, t.ClearText = false, false
	return t
}
