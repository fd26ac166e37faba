package kube

import (
	"fmt"
	"slices"

	"github.com/kerngate/kerngate/userspace/model"
)

// base is what Ingresses say of a host themselves. Once made it is not changed.
type base struct {
	routes map[routeKey]published // nil: spec.tls alone names the host
	tls    *hostTLS               // nil: nothing is said

	ownedBy model.ObjectRef // zero: no rule names the host
	guests  []string        // namespaces that its owner lets in
}

// bases returns what the translated Ingresses say of each of their hosts.
func (t *translation) bases() map[string]*base {
	out := make(map[string]*base, len(t.hosts))
	for host, routes := range t.hosts {
		out[host] = &base{routes, t.tls[host], t.owners[host], t.guests[host]}
	}
	for host, tls := range t.tls {
		if out[host] == nil {
			out[host] = &base{tls: tls, ownedBy: t.owners[host]}
		}
	}
	return out
}

// finishHost returns a host as it is published. It depends on what is said of the host
// itself, of the wildcard above it, and of any host (""), and on nothing else.
func finishHost(host string, all map[string]*base) (f finished) {
	own := all[host]
	if !isPublished(host, all) {
		less, _ := above(host, all)
		f.found.add(own.owner(), model.Refused, "HostOwned", fmt.Sprintf("spec.tls: host %q has no rule, and what would serve it, host %q, belongs to another namespace: it is served as if it were not named", host, less))
		return f
	}
	routes, tls := shared(host, all, &f.found)
	// A host without a certificate for it has that of the wildcard above it, if both are one
	// namespace's.
	wildcard := all[wildcardOf(host)]
	if wildcard != nil && wildcard.tls != nil && isPublished(wildcardOf(host), all) && wildcard.owner().Namespace == own.owner().Namespace {
		offers := covering(wildcard.tls.certificates)
		if len(offers) > 0 && (tls == nil || len(tls.certificates) == 0 || offers[0].covers && !slices.ContainsFunc(tls.certificates, func(o offered) bool { return o.covers })) {
			if tls == nil {
				tls = &hostTLS{source: wildcard.tls.source}
			}
			tls.certificates = offers
		}
	}
	out := model.Host{Name: host, TLS: tls.model(), Routes: slices.Grow([]model.Route(nil), len(routes))}
	for _, p := range routes {
		route := p.Route
		if tls != nil && tls.client != nil {
			// In clear text nobody can show a certificate, and authorities that look for the
			// answer to a challenge have none.
			route.ClearText = isChallenge(&route)
			route.RedirectHTTPS = !route.ClearText
		}
		out.Routes = append(out.Routes, route)
	}
	slices.SortFunc(out.Routes, comparePrecedence)
	f.host, f.published = out, true
	return f
}

// shared returns the routes of a host and its own copy of what is said of its TLS. A host
// named in spec.tls but in no rule inherits the routes of the less specific host (wildcard,
// then any) that would otherwise have served it, with what that host asks of clients: another
// name for the same pods must not be an easier way to them.
func shared(host string, all map[string]*base, found *problems) (map[routeKey]published, *hostTLS) {
	own := all[host]
	var tls *hostTLS
	if own.tls != nil {
		copied := *own.tls
		tls = &copied
	}
	if own.routes != nil {
		return own.routes, tls
	}
	name, less := above(host, all)
	if less == nil {
		return nil, tls
	}
	routes, lessTLS := shared(name, all, new(problems))
	if lessTLS == nil {
		return routes, tls
	}
	tls.passthrough = lessTLS.passthrough
	if lessTLS.suites != nil {
		tls.suites, tls.suitesSource = lessTLS.suites, lessTLS.suitesSource
	}
	if lessTLS.client != nil {
		if tls.client != nil && *tls.client != *lessTLS.client {
			found.add(tls.clientSource, model.Warning, "ClientAuthConflict", fmt.Sprintf("annotation %s: host %q has no rule of its own: the client-certificate policy of host %q applies", annotationAuthTLSSecret, host, name))
		}
		tls.client, tls.clientSource = lessTLS.client, lessTLS.clientSource
	}
	return routes, tls
}
