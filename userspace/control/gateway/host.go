package gateway

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"

	"github.com/kerngate/kerngate/userspace/model"
)

// A host of the model is served at all listeners, while those of Gateways have hostnames and
// schemes of their own. So hosts are made for each scheme first, as its listeners have them, and
// then put together: a route of one scheme has a condition that says so.

// side is what the listeners of one scheme serve.
type side struct {
	scheme    string
	hostnames map[string]bool // of listeners
	hosts     map[string][]model.Route
}

// publishHosts makes hosts of the routes that listeners serve.
func (t *translation) publishHosts() {
	sides := []*side{t.side("http"), t.side("https")}
	names := map[string]bool{}
	for _, s := range sides {
		for name := range s.hosts {
			names[name] = true
		}
	}
	hosts := map[string]model.Host{}
	for name := range names {
		h := model.Host{Name: modelName(name), TLS: t.tls(name)}
		h.Routes = join(sides[0].routesOf(name), sides[1].routesOf(name))
		hosts[name] = h
	}
	for name, h := range hosts {
		// One without routes is there only to keep requests from a less specific one.
		keeps := len(h.Routes) > 0
		for other, less := range hosts {
			keeps = keeps || other != name && covers(other, name) && len(less.Routes) > 0
		}
		if keeps {
			t.out.Hosts[h.Name] = h
		}
	}
}

// side makes the hosts of one scheme. Of several listeners that cover a name the most specific one
// alone serves it.
func (t *translation) side(scheme string) *side {
	s := &side{scheme, map[string]bool{}, map[string][]model.Route{}}
	for _, g := range t.sorted {
		for _, l := range g.listeners {
			if l.scheme == scheme && l.serves() {
				s.hostnames[l.hostname] = true
				s.hosts[l.hostname] = nil
			}
		}
	}
	for _, r := range t.routes {
		done := map[string]bool{} // Gateways share addresses, and so what their listeners serve
		for _, l := range r.listeners {
			if l.scheme != scheme || !l.serves() {
				continue
			}
			for _, name := range r.namesAt(l) {
				if best, _ := closest(s.hostnames, name); best != l.hostname || done[name] {
					continue
				}
				done[name] = true
				for i := range r.Spec.Rules {
					for _, m := range r.matches(i) {
						if m.supported {
							s.hosts[name] = append(s.hosts[name], t.serve(r, i, m, scheme, l.port))
						}
					}
				}
			}
		}
	}
	for name, routes := range s.hosts {
		s.hosts[name] = t.reachable(name, routes)
	}
	return s
}

// reachable sorts the routes of a host by precedence and leaves out those of which another takes
// every request.
func (t *translation) reachable(host string, routes []model.Route) (out []model.Route) {
	slices.SortStableFunc(routes, Compare)
	type place struct {
		path  string
		match model.PathMatch
		when  string
	}
	taken := map[place]model.ObjectRef{}
	for _, r := range routes {
		at := place{path: r.Path, match: r.Match}
		winner, is := taken[at]
		if r.When != nil {
			at.when = r.When.String()
			if other, same := taken[at]; !is && same {
				winner, is = other, true
			}
		}
		if is {
			if winner != r.Source {
				owner := "an HTTPRoute of another namespace"
				if winner.Namespace == r.Source.Namespace {
					owner = winner.String()
				}
				t.problem(r.Source, model.Warning, "RouteConflict", fmt.Sprintf("%s %q of host %q is already served by %s, which is older", r.Match, r.Path, host, owner))
			}
			continue
		}
		taken[at] = r.Source
		out = append(out, r)
	}
	return out
}

// precedence of routes with the same path.
var precedence = [...]int{model.Exact: 0, model.Regexp: 1, model.Prefix: 2}

// Compare orders the routes of a host as model.Host has them.
func Compare(a, b model.Route) int {
	return cmp.Or(cmp.Compare(len(b.Path), len(a.Path)), cmp.Compare(a.Path, b.Path),
		cmp.Compare(precedence[a.Match], precedence[b.Match]), a.Rank.Compare(b.Rank))
}

// routesOf returns the routes of a name: its own, or else those of the host to which its requests go
// at these listeners.
func (s *side) routesOf(name string) (out []model.Route) {
	routes, own := s.hosts[name]
	if !own {
		all := map[string]bool{}
		for n := range s.hosts {
			all[n] = true
		}
		less, ok := closest(all, name)
		if !ok {
			return nil
		}
		routes = s.hosts[less]
	}
	for _, r := range routes {
		var when model.Conditions
		if r.When != nil {
			when = *r.When
		}
		when.Scheme = s.scheme
		r.When = &when
		out = append(out, r)
	}
	return out
}

// join puts the routes of two schemes together. One that both have alike needs no condition.
func join(a, b []model.Route) []model.Route {
	out := slices.Concat(a, b)
	slices.SortStableFunc(out, Compare)
	for i := 0; i+1 < len(out); i++ {
		one, other := out[i], out[i+1]
		first, second := *one.When, *other.When
		first.Scheme, second.Scheme = "", ""
		one.When, other.When = &first, &second
		if one.When.String() == other.When.String() && reflect.DeepEqual(one, other) {
			if one.When.String() == "" {
				one.When = nil
			}
			out[i] = one
			out = slices.Delete(out, i+1, i+2)
		}
	}
	return out
}

// tls returns how connections for a name are taken: with the certificates of the most specific
// listener that serves it.
func (t *translation) tls(name string) *model.TLS {
	hostnames := map[string]bool{}
	for _, g := range t.sorted {
		for _, l := range g.listeners {
			if l.scheme == "https" && l.serves() {
				hostnames[l.hostname] = true
			}
		}
	}
	best, ok := closest(hostnames, name)
	if !ok {
		return nil
	}
	var out *model.TLS
	for _, g := range t.sorted {
		for _, l := range g.listeners {
			if l.scheme != "https" || !l.serves() || l.hostname != best {
				continue
			}
			if out == nil {
				out = &model.TLS{Source: g.ref}
			}
			for _, id := range l.certificates {
				if !slices.Contains(out.Certificates, id) {
					out.Certificates = append(out.Certificates, id)
				}
			}
		}
	}
	return out
}
