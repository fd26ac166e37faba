package gateway

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/route"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// match is one of the alternatives of a rule.
type match struct {
	path      string
	kind      model.PathMatch
	when      model.Conditions
	rank      model.Rank
	prefix    string // that ReplacePrefixMatch replaces
	supported bool
}

// unsupported says what of a route is not served.
func unsupported(format string, a ...any) fault {
	return fault{string(gatewayv1.RouteReasonUnsupportedValue), fmt.Sprintf(format, a...)}
}

// readRules judges the rules of a route and finds their backends. A route of which anything is not
// supported is refused as a whole.
func (t *translation) readRules(r *httpRoute) {
	for i := range r.Spec.Rules {
		spec, field := &r.Spec.Rules[i], fmt.Sprintf("spec.rules[%d]", i)
		r.backends = append(r.backends, t.backendsOf(r, field, spec.BackendRefs))
		r.refuse(field, checkRule(spec))
		for j, m := range r.matches(i) {
			if !m.supported {
				continue // it is told by matchesOf
			}
			if _, wrong := t.policy(r, spec, m, "http", 80); wrong.any() {
				r.refuse(fmt.Sprintf("%s (match %d)", field, j), wrong)
			}
		}
		for _, b := range spec.BackendRefs {
			if _, wrong := withHeaders(&model.Policy{}, b.Filters); wrong.any() {
				r.refuse(field+".backendRefs", wrong)
			}
		}
	}
	for i := range r.Spec.Rules {
		for j := range r.Spec.Rules[i].Matches {
			if _, wrong := readMatch(&r.Spec.Rules[i].Matches[j]); wrong.any() {
				r.refuse(fmt.Sprintf("spec.rules[%d].matches[%d]", i, j), wrong)
			}
		}
	}
}

// refuse notes why nothing of a route is served. Of several reasons the first is told.
func (r *httpRoute) refuse(field string, wrong fault) {
	if wrong.any() && !r.refused.any() {
		r.refused = fault{wrong.reason, field + ": " + wrong.message}
	}
}

// checkRule finds what is not supported of a rule beside its matches and filters' values.
func checkRule(spec *gatewayv1.HTTPRouteRule) fault {
	switch t := spec.Timeouts; {
	case t != nil && (t.Request != nil || t.BackendRequest != nil):
		return unsupported("timeouts are not supported yet")
	case spec.Retry != nil:
		return unsupported("retry is not supported yet")
	case spec.SessionPersistence != nil:
		return unsupported("sessionPersistence is not supported yet")
	}
	seen := map[gatewayv1.HTTPRouteFilterType]bool{}
	for _, f := range spec.Filters {
		if seen[f.Type] && f.Type != gatewayv1.HTTPRouteFilterRequestMirror {
			return fault{string(gatewayv1.RouteReasonIncompatibleFilters), fmt.Sprintf("filter %s is there twice", f.Type)}
		}
		seen[f.Type] = true
	}
	if seen[gatewayv1.HTTPRouteFilterRequestRedirect] && (seen[gatewayv1.HTTPRouteFilterURLRewrite] || len(spec.BackendRefs) > 0) {
		return fault{string(gatewayv1.RouteReasonIncompatibleFilters), "RequestRedirect goes with neither URLRewrite nor backendRefs"}
	}
	return fault{}
}

// matches returns the alternatives of a rule.
func (r *httpRoute) matches(i int) (out []match) {
	order := r.first
	for j := range i {
		order += max(1, len(r.Spec.Rules[j].Matches))
	}
	list := r.Spec.Rules[i].Matches
	if len(list) == 0 {
		list = []gatewayv1.HTTPRouteMatch{{}} // every request
	}
	for j := range list {
		m, _ := readMatch(&list[j])
		m.rank.Order = order + j
		out = append(out, m)
	}
	return out
}

// readMatch reads one alternative.
func readMatch(spec *gatewayv1.HTTPRouteMatch) (m match, wrong fault) {
	m = match{path: "/", kind: model.Prefix}
	if p := spec.Path; p != nil {
		path, err := rule.Path(cmp.Or(valueOf(p.Value), "/"))
		if err != nil {
			return m, unsupported("path: %v", err)
		}
		switch kind := cmp.Or(valueOf(p.Type), gatewayv1.PathMatchPathPrefix); kind {
		case gatewayv1.PathMatchExact:
			m.path, m.kind = path, model.Exact
		case gatewayv1.PathMatchPathPrefix:
			m.path = cmp.Or(strings.TrimRight(path, "/"), "/")
		default:
			return m, unsupported("path.type %s is not supported yet: use PathPrefix or Exact", kind)
		}
	}
	m.prefix = strings.TrimSuffix(m.path, "/")
	m.when.Method = string(valueOf(spec.Method))
	for _, h := range spec.Headers {
		kind := cmp.Or(valueOf(h.Type), gatewayv1.HeaderMatchExact)
		if kind != gatewayv1.HeaderMatchExact && kind != gatewayv1.HeaderMatchRegularExpression {
			return m, unsupported("headers: type %s is not supported", kind)
		}
		if !slices.ContainsFunc(m.when.Headers, func(c model.Comparison) bool { return strings.EqualFold(c.Name, string(h.Name)) }) { // of one name the first counts
			m.when.Headers = append(m.when.Headers, model.Comparison{Name: string(h.Name), Value: h.Value, Regexp: kind == gatewayv1.HeaderMatchRegularExpression})
		}
	}
	for _, q := range spec.QueryParams {
		kind := cmp.Or(valueOf(q.Type), gatewayv1.QueryParamMatchExact)
		if kind != gatewayv1.QueryParamMatchExact && kind != gatewayv1.QueryParamMatchRegularExpression {
			return m, unsupported("queryParams: type %s is not supported", kind)
		}
		if !slices.ContainsFunc(m.when.Query, func(c model.Comparison) bool { return c.Name == string(q.Name) }) {
			m.when.Query = append(m.when.Query, model.Comparison{Name: string(q.Name), Value: q.Value, Regexp: kind == gatewayv1.QueryParamMatchRegularExpression})
		}
	}
	byName := func(a, b model.Comparison) int { return cmp.Compare(a.Name, b.Name) }
	slices.SortFunc(m.when.Headers, byName)
	slices.SortFunc(m.when.Query, byName)
	if _, err := route.NewConditions(m.when); err != nil {
		return m, unsupported("%v", err)
	}
	m.rank = model.Rank{Method: m.when.Method != "", Headers: len(m.when.Headers), Query: len(m.when.Query)}
	m.supported = true
	return m, fault{}
}

// failing returns the policy of requests that are answered with 500: what their rule asks for cannot
// be had.
func failing(why string) *model.Policy {
	return &model.Policy{Redirects: []model.Redirect{{Status: 500, By: why}}}
}

// serve fills in what answers a match at a listener.
func (t *translation) serve(r *httpRoute, i int, m match, scheme string, port uint16) (out model.Route) {
	spec := &r.Spec.Rules[i]
	out = model.Route{Path: m.path, Match: m.kind, Rank: m.rank, Source: r.ref}
	if when := m.when; when.Method != "" || len(when.Headers)+len(when.Query) > 0 {
		out.When = &when
	}
	if r.refused.any() {
		out.Policy = failing("a route that is not accepted")
		return out
	}
	p, _ := t.policy(r, spec, m, scheme, port) // what is wrong with it has refused the route
	if len(spec.BackendRefs) == 0 {
		if out.Policy = p; p == nil || len(p.Redirects) == 0 {
			out.Policy = failing("a rule without backends")
		}
		return out
	}
	var services []model.Weighted
	special := false // services have policies of their own
	for _, b := range r.backends[i] {
		w := model.Weighted{Service: b.service, Weight: b.weight, Upstream: &b.upstream, Policy: p}
		if w.Policy == nil {
			w.Policy = &model.Policy{}
		}
		switch {
		case b.invalid:
			special, w.Policy = true, withFailure(w.Policy)
		case len(b.filters) > 0:
			special = true
			w.Policy, _ = withHeaders(w.Policy, b.filters)
		}
		services = append(services, w)
	}
	main, splits, ok := model.Distribute(services, r.ref)
	if !ok {
		out.Policy = failing("a rule whose backends all have weight 0")
		return out
	}
	out.Service, out.Upstream, out.Policy, out.Splits = main.Service, *main.Upstream, main.Policy, splits
	if !special {
		out.Policy = p
	}
	for j := range out.Splits {
		s := &out.Splits[j]
		if *s.Upstream == out.Upstream {
			s.Upstream = nil
		}
		if !special {
			s.Policy = nil
		}
	}
	return out
}

// withFailure returns a policy that answers with 500. Its steps stay: they run before a backend is
// chosen.
func withFailure(p *model.Policy) *model.Policy {
	out := failing("a backend that cannot be had")
	out.Steps = p.Steps
	return out
}
