package kube

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// variant is what the policy of an Ingress may differ by among its routes. Equal variants
// share a Policy.
type variant struct {
	of            *networkingv1.Ingress
	kept          bool   // the path equals rewrite-target and is left alone
	challenge     bool   // of ACME, or left out of authentication like it
	elsewhere     string // the path whose groups stand in a redirect; "": there is none
	host          string
	service, port string
}

// routePolicy returns the policy of one route: the Ingress's, with the values of templates
// that depend on the route alone. path is what the Ingress has written.
func (t *translation) routePolicy(ingress *networkingv1.Ingress, host, path string, backend networkingv1.IngressBackend, challenge bool) *model.Policy {
	rules := t.policyOf(ingress).rules
	all := rules.Policy
	if all == nil && rules.Elsewhere != nil {
		all = &model.Policy{}
	}
	if all == nil {
		return nil
	}
	key := variant{of: ingress, host: host, challenge: challenge && all.Access != nil}
	key.kept = all.Rewrite != nil && all.Rewrite.Target == cmp.Or(path, "/")
	if rules.Elsewhere != nil {
		key.elsewhere = cmp.Or(path, "/")
	}
	if s := backend.Service; s != nil {
		key.service, key.port = s.Name, s.Port.Name
		if s.Port.Number != 0 {
			key.port = strconv.Itoa(int(s.Port.Number))
		}
	}
	if len(key.service) > ingressnginx.MaxService || len(key.port) > ingressnginx.MaxPort {
		key.service, key.port = "", "" // there is no such Service
	}
	if p := t.variants[key]; p != nil {
		return p
	}
	p := all.Fix(map[string]string{
		"service_name": key.service, "service_port": key.port, "namespace": ingress.Namespace, "ingress_name": ingress.Name,
		"server_name": cmp.Or(host, "_"),
	})
	if p == all { // the same for all hosts and services
		plain := variant{of: ingress, kept: key.kept, challenge: key.challenge, elsewhere: key.elsewhere}
		if p = t.variants[plain]; p == nil {
			p = specialize(all, key, rules.Elsewhere)
			t.variants[plain] = p
		}
	} else {
		p = specialize(p, key, rules.Elsewhere)
	}
	t.variants[key] = p
	return p
}

// specialize returns the policy without what does not hold for the route.
func specialize(p *model.Policy, v variant, elsewhere *model.Redirect) *model.Policy {
	if v.elsewhere != "" {
		copied := *p
		copied.Redirects = append(slices.Clone(p.Redirects), redirectOf(v.elsewhere, *elsewhere))
		p = &copied
	}
	if v.kept {
		copied := *p
		copied.Rewrite = nil
		p = &copied
	}
	if v.challenge {
		p = withoutPasswords(p)
	}
	return p
}

// A path between these two is the Pattern of a redirect.
const elsewhereBegin, elsewhereEnd = "(?i)^(?:", ")"

// redirectOf completes a redirect whose target names groups of the route's path. A group
// that the path does not have is empty, as in nginx.
func redirectOf(path string, d model.Redirect) model.Redirect {
	d.Pattern = elsewhereBegin + path + elsewhereEnd
	groups := 0
	if re, err := rule.Expression(d.Pattern); err == nil {
		groups = re.NumSubexp()
	} else { // the path is a literal one, every request of which is redirected, or is refused
		d.Pattern = ""
	}
	for n := 9; n > groups; n-- {
		d.Target = strings.ReplaceAll(d.Target, "$"+strconv.Itoa(n), "")
	}
	return d
}

// challengePath is where certificate authorities look for the answers to their challenges
// (RFC 8555 section 8.3). They can neither sign in nor follow a redirect to a certificate
// that is not there yet: ingress-nginx leaves its locations out of both by default
// (no-auth-locations, no-tls-redirect-locations).
const challengePath = "/.well-known/acme-challenge"

// isChallenge reports whether no path but those of challenges has the route.
func isChallenge(r *model.Route) bool {
	if r.Path != challengePath && !strings.HasPrefix(r.Path, challengePath+"/") {
		return false
	}
	if r.Match != model.Regexp {
		return true
	}
	return isLiteral(r.Path)
}

// isLiteral reports whether an expression is one path. Where another Ingress makes expressions
// of the host's paths, a literal one still is, but for the case of letters and what stands for
// its dots.
func isLiteral(path string) bool {
	return !strings.ContainsFunc(path, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("/._-", c))
	})
}

// withoutPasswords returns the policy without what only a signed-in client could show.
// Sources are still judged. What the external auth service would say of the client is
// nobody else's to say: such headers are removed.
func withoutPasswords(p *model.Policy) *model.Policy {
	if p.Access == nil || p.Access.Basic == nil && p.Access.External == nil {
		return p
	}
	out, access := *p, *p.Access
	if e := access.External; e != nil {
		out.RequestHeaders = nil
		for _, name := range e.Response {
			out.RequestHeaders = append(out.RequestHeaders, model.HeaderRule{Op: model.SetHeader, Name: name, By: ingressnginx.Prefix + "auth-response-headers"})
		}
		out.RequestHeaders = append(out.RequestHeaders, p.RequestHeaders...)
	}
	access.Basic, access.External = nil, nil
	out.Access = &access
	return &out
}
