package kube

import (
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
	"github.com/kerngate/kerngate/userspace/model"
)

// addLocations gives routes the locations of snippets: those of configuration-snippet
// within each path of their Ingress, and those of server-snippet beside all paths of the
// host, the oldest Ingress's first.
//
// In ingress-nginx all Ingresses of a host share one server. Here an Ingress does not get
// at paths of another namespace, unless the oldest Ingress of the host is of its own namespace:
// otherwise whoever may add an Ingress could take the requests of others by it.
func (t *translation) addLocations(served []*networkingv1.Ingress) {
	servers := map[string][]hostLocations{}
	nested := map[model.ObjectRef][]model.Location{}
	hosts := map[string]bool{}
	for _, ingress := range served {
		p := t.policyOf(ingress)
		if len(p.rules.ServerLocations)+len(p.rules.Locations) == 0 || p.rules.Canary != nil || t.refusedBy(p) != "" {
			continue
		}
		if len(p.rules.Locations) > 0 {
			nested[refOf("Ingress", ingress)] = p.rules.Locations
		}
		for _, host := range t.publishedHosts(ingress) {
			if t.standing(ingress, host) == shutOut {
				continue
			}
			hosts[host] = true
			if len(p.rules.ServerLocations) > 0 {
				servers[host] = append(servers[host], t.serverLocations(ingress, host))
			}
		}
	}
	for host := range hosts {
		shareLocations(t.hosts[host], servers[host], nested)
	}
}

// publishedHosts returns the hosts of an Ingress, "" among them if it has no rules.
func (t *translation) publishedHosts(ingress *networkingv1.Ingress) []string {
	if len(ingress.Spec.Rules) == 0 {
		return []string{""}
	}
	return ruleHosts(ingress)
}

// shareLocations gives the routes of a host their locations.
func shareLocations(routes map[routeKey]published, servers []hostLocations, nested map[model.ObjectRef][]model.Location) {
	shared := map[sharer]*model.Locations{}
	for key, r := range routes {
		by := sharer{namespace: r.Source.Namespace}
		if len(nested[r.Source]) > 0 {
			by.of = r.Source
		}
		l, made := shared[by]
		if !made {
			l = &model.Locations{Nested: nested[r.Source]}
			for _, s := range servers {
				if s.namespace == by.namespace || s.owner {
					l.Server = append(l.Server, s.locations...)
				}
			}
			if len(l.Server)+len(l.Nested) == 0 {
				l = nil
			}
			shared[by] = l
		}
		r.Locations = l
		routes[key] = r
	}
}

// sharer is what Locations of a host's routes may differ by.
type sharer struct {
	namespace string
	of        model.ObjectRef // zero: it has none of its own
}

// hostLocations are the server locations that one Ingress adds to a host.
type hostLocations struct {
	namespace string
	owner     bool
	locations []model.Location
}

// serverLocations returns the locations that an Ingress adds to a host, and sees to it that
// each path has a route, so that they are found.
func (t *translation) serverLocations(ingress *networkingv1.Ingress, host string) hostLocations {
	ref := refOf("Ingress", ingress)
	oldest, owned := t.owners[host]
	owner := !owned || oldest.Namespace == ingress.Namespace
	if !owner {
		t.found.add(ref, model.Warning, "HostShared", fmt.Sprintf("annotation %sserver-snippet: host %q belongs to %s, which is older: locations hold for paths of namespace %s alone",
			ingressnginx.Prefix, host, naming(ref, oldest), ingress.Namespace))
	}
	root := routeKey{"/", model.Prefix}
	if routes := t.claim(host); owner {
		if _, there := routes[root]; !there {
			routes[root] = t.nothing(ref)
		}
	}
	return hostLocations{ingress.Namespace, owner, t.policyOf(ingress).rules.ServerLocations}
}

// nothing is the route of paths that no Ingress has: they are answered as if there were
// none, but for what locations say.
func (t *translation) nothing(ref model.ObjectRef) published {
	r := model.Route{Path: "/", Source: ref, Service: t.classDefault()}
	if r.Service == (model.ServiceKey{}) {
		r.Policy = &model.Policy{Redirects: []model.Redirect{{Status: 404, By: "no Ingress publishes the path"}}}
	}
	return published{Route: r, fallback: true}
}
