package config

import (
	"fmt"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
	"github.com/kerngate/kerngate/userspace/route"
)

// locations are parts of routes' paths that rules of their own answer.
type locations struct {
	server, nested *route.Locations[*policy.Policy]
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

func (s *Snapshot) compileLocations(h *feedpb.Host, list []*feedpb.Location) (*route.Locations[*policy.Policy], error) {
	out := make([]route.Location[*policy.Policy], 0, len(list))
	for _, l := range list {
		// A location without rules would be none: what it was to keep out would get in.
		if l.Policy == 0 || int(l.Policy) > len(h.Policies) {
			return nil, fmt.Errorf("location %q: policy %d of %d", l.Path, l.Policy, len(h.Policies))
		}
		p, err := s.policies.take(h.Policies[l.Policy-1], "", false)
		if err != nil {
			return nil, fmt.Errorf("location %q: %w", l.Path, err)
		}
		out = append(out, route.Location[*policy.Policy]{Modifier: route.Modifier(l.Match), Path: l.Path, Value: p})
	}
	return route.NewLocations(out)
}

// At returns what a route leads to at a normalised path: its own target, or a location's,
// which has no service and is the same in clear text. ok is false if it would take too long to
// find out.
func At(r *route.Route[Target], path []byte) (t Target, ok bool) {
	t = r.Value
	if t.locations != nil {
		if t.locations.server.TooCostly(path) || t.locations.nested.TooCostly(path) {
			return Target{}, false
		}
		t = t.at(r, path)
	}
	return t, !t.Policy.TooCostly(len(path))
}

// at returns what the route's locations make of a target.
func (t Target) at(r *route.Route[Target], path []byte) Target {
	l := t.locations.server.Find(path, route.RivalOf(r, path))
	if l == nil {
		l = t.locations.nested.Find(path, route.Rival{})
	}
	if l == nil {
		return t
	}
	t.Policy, t.Service, t.Splits = l.Value, nil, nil
	t.RedirectHTTPS, t.ClearText = false, false
	return t
}
