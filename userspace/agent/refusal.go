package agent

import (
	"fmt"
	"hash/fnv"

	"github.com/kerngate/kerngate/userspace/compile"
	"github.com/kerngate/kerngate/userspace/model"
)

// refusal is an Ingress that a proxy could not take. It is left out for all proxies
// until its routes, TLS or certificates change.
type refusal struct {
	reason string
	routes uint64 // fingerprint of the routes and TLS that were refused
}

// refuse leaves an Ingress out. It reports false if nothing of that name is published.
func (a *Agent) refuse(source, reason string) bool {
	routes, published := a.fingerprint(source)
	if !published {
		return false
	}
	a.refused[source] = refusal{reason: reason, routes: routes}
	a.reportRefusals()
	return true
}

// forgetRefusals gives Ingresses whose routes have changed another chance.
func (a *Agent) forgetRefusals() {
	before := len(a.refused)
	for source, r := range a.refused {
		if routes, published := a.fingerprint(source); !published || routes != r.routes {
			delete(a.refused, source)
		}
	}
	if len(a.refused) != before {
		a.reportRefusals()
	}
}

func (a *Agent) isRefused(source model.ObjectRef) bool {
	if len(a.refused) == 0 {
		return false
	}
	_, refused := a.refused[compile.Source(source)]
	return refused
}

func (a *Agent) reportRefusals() {
	var problems []model.Problem
	seen := map[string]bool{}
	add := func(object model.ObjectRef) {
		source := compile.Source(object)
		refusal, refused := a.refused[source]
		if !refused || seen[source] {
			return
		}
		seen[source] = true
		problems = append(problems, model.Problem{
			Object:   object,
			Severity: model.Refused,
			Reason:   "ProxyRefused",
			Message:  "the proxy cannot serve this Ingress, which is left out until its rules change: " + refusal.reason,
		})
	}
	for _, h := range a.model.Hosts {
		if h.TLS != nil {
			add(h.TLS.Source)
		}
		for _, r := range h.Routes {
			add(r.Source)
		}
	}
	a.problems.set(fromProxy, problems)
}

// fingerprint of what an Ingress publishes.
func (a *Agent) fingerprint(source string) (sum uint64, published bool) {
	hash := fnv.New64a()
	for _, h := range a.model.Hosts {
		if h.TLS != nil && compile.Source(h.TLS.Source) == source {
			published = true
			fmt.Fprintf(hash, "%q %s\n", h.Name, h.TLS)
			for _, id := range h.TLS.Certificates {
				fmt.Fprintln(hash, a.describeCertificate(id))
			}
		}
		for _, r := range h.Routes {
			if compile.Source(r.Source) == source {
				published = true
				fmt.Fprintf(hash, "%q %q %d %q %t %s\n", h.Name, r.Path, r.Match, r.Service, r.RedirectHTTPS, r.Upstream)
			}
		}
	}
	return hash.Sum64(), published
}
