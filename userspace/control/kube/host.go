package kube

import (
	"slices"

	"github.com/kerngate/kerngate/userspace/model"
)

// base is what Ingresses say of a host themselves. Once made it is not changed.
type base struct {
	routes map[routeKey]published // nil: spec.tls alone names the host
	tls    *hostTLS               // nil: nothing is said
}

// bases returns what the translated Ingresses say of each of their hosts.
func (t *translation) bases() map[string]*base {
	out := make(map[string]*base, len(t.hosts))
	for host, routes := range t.hosts {
		out[host] = &base{routes, t.tls[host]}
	}
	for host, tls := range t.tls {
		if out[host] == nil {
			out[host] = &base{tls: tls}
		}
	}
	return out
}

// finishHost returns a host as it is published. It depends on what is said of the host
// itself, of the wildcard above it, and of any host (""), and on nothing else.
func finishHost(host string, all map[string]*base) model.Host {
	routes, tls := shared(host, all)
	// A host without a certificate of its own has that of the wildcard above it.
	if above := all[wildcardOf(host)]; above != nil && above.tls != nil && len(above.tls.certificates) > 0 && (tls == nil || len(tls.certificates) == 0) {
		if tls == nil {
			tls = &hostTLS{source: above.tls.source}
		}
		tls.certificates = above.tls.certificates
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
	return out
}

// shared returns the routes of a host and its own copy of what is said of its TLS. A host
// named in spec.tls but in no rule inherits the routes and the client-certificate policy of
// the less specific host (wildcard, then any) that would otherwise have served it.
func shared(host string, all map[string]*base) (map[routeKey]published, *hostTLS) {
	own := all[host]
	var tls *hostTLS
	if own.tls != nil {
		copied := *own.tls
		tls = &copied
	}
	if own.routes != nil {
		return own.routes, tls
	}
	for _, less := range []string{wildcardOf(host), ""} {
		if all[less] == nil {
			continue
		}
		routes, above := shared(less, all)
		if above != nil {
			tls.passthrough = above.passthrough
			if tls.suites == nil {
				tls.suites, tls.suitesSource = above.suites, above.suitesSource
			}
			if tls.client == nil && above.client != nil {
				tls.client, tls.clientSource = above.client, above.clientSource
			}
		}
		return routes, tls
	}
	return nil, tls
}
