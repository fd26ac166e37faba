package gateway

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/kerngate/kerngate/userspace/model"
)

// httpRoute is an HTTPRoute that asks for a Gateway of this controller.
type httpRoute struct {
	*gatewayv1.HTTPRoute
	ref       model.ObjectRef
	hostnames []string // lower case; none: those of its listeners
	first     int      // place of its first match among those of all routes, by age
	listeners []*listener

	refused    fault       // why nothing of it is served
	unresolved fault       // of its backends
	backends   [][]backend // of each rule
}

// readRoutes judges routes, the oldest first, and attaches them to listeners.
func (t *translation) readRoutes() {
	place := 1 // routes of Ingress have place 0
	for _, r := range t.objects.Routes {
		if r.DeletionTimestamp != nil || !slices.ContainsFunc(r.Spec.ParentRefs, func(p gatewayv1.ParentReference) bool { return t.parent(r, p) != nil }) {
			continue
		}
		t.routes = append(t.routes, &httpRoute{HTTPRoute: r, ref: refOf("HTTPRoute", r)})
	}
	slices.SortFunc(t.routes, func(a, b *httpRoute) int { return byAge(a, b) })
	for _, r := range t.routes {
		r.first = place
		for i := range r.Spec.Rules {
			place += max(1, len(r.Spec.Rules[i].Matches))
		}
		for _, h := range r.Spec.Hostnames {
			r.hostnames = append(r.hostnames, strings.ToLower(string(h)))
		}
		t.out.Created[r.ref] = r.CreationTimestamp.Time
		t.readRules(r)
		for _, p := range r.Spec.ParentRefs {
			t.attach(r, p)
		}
		if r.refused.any() {
			t.problem(r.ref, model.Refused, r.refused.reason, r.refused.message+"; its requests are answered with 500")
		}
		if r.unresolved.any() {
			t.problem(r.ref, model.Warning, r.unresolved.reason, r.unresolved.message)
		}
	}
}

// parent returns the Gateway that a route asks for, nil if that is none of this controller.
func (t *translation) parent(r *gatewayv1.HTTPRoute, p gatewayv1.ParentReference) *gateway {
	if p.Group != nil && *p.Group != gatewayv1.GroupName || p.Kind != nil && *p.Kind != "Gateway" {
		return nil
	}
	return t.gateways[types.NamespacedName{Namespace: namespaceOr(p.Namespace, r.Namespace), Name: string(p.Name)}]
}

// attach attaches a route to the listeners that one of its references is for, and says so.
func (t *translation) attach(r *httpRoute, p gatewayv1.ParentReference) {
	g := t.parent(r.HTTPRoute, p)
	if g == nil {
		return
	}
	listeners, refused := r.listenersOf(g, p)
	if refused.any() {
		t.problem(r.ref, model.Refused, refused.reason, fmt.Sprintf("Gateway %s: %s", g.ref.FullName(), refused.message))
	} else if refused = r.refused; !refused.any() {
		for _, l := range listeners {
			if !slices.Contains(r.listeners, l) {
				l.attached++
			}
		}
	}
	for _, l := range listeners {
		if !slices.Contains(r.listeners, l) {
			r.listeners = append(r.listeners, l)
		}
	}
	find := func(condition gatewayv1.RouteConditionType, good gatewayv1.RouteConditionReason, bad fault, fine string) {
		f := model.Finding{Object: r.ref, Parent: g.ref, Generation: r.Generation, Condition: string(condition), True: !bad.any(), Reason: string(good), Message: fine}
		if p.SectionName != nil {
			f.Section = string(*p.SectionName)
		}
		if p.Port != nil {
			f.Port = uint16(*p.Port)
		}
		if bad.any() {
			f.Reason, f.Message = bad.reason, bad.message
		}
		t.out.Findings = append(t.out.Findings, f)
	}
	find(gatewayv1.RouteConditionAccepted, gatewayv1.RouteReasonAccepted, refused, "the route is accepted")
	find(gatewayv1.RouteConditionResolvedRefs, gatewayv1.RouteReasonResolvedRefs, r.unresolved, "everything that it names was found")
}

// listenersOf returns the listeners of a Gateway that take a route, or why none does.
func (r *httpRoute) listenersOf(g *gateway, p gatewayv1.ParentReference) (out []*listener, refused fault) {
	refused = fault{string(gatewayv1.RouteReasonNoMatchingParent), "no listener has the name and the port that parentRefs says"}
	for _, l := range g.listeners {
		if p.SectionName != nil && string(*p.SectionName) != l.name || p.Port != nil && uint16(*p.Port) != l.port {
			continue
		}
		if !slices.Contains(l.kinds, "HTTPRoute") || !l.from(r.Namespace) {
			if refused.reason == string(gatewayv1.RouteReasonNoMatchingParent) {
				refused = fault{string(gatewayv1.RouteReasonNotAllowedByListeners), "allowedRoutes of its listeners lets no HTTPRoute of this namespace attach"}
			}
			continue
		}
		if len(r.namesAt(l)) == 0 {
			refused = fault{string(gatewayv1.RouteReasonNoMatchingListenerHostname), "no hostname of the route is one of its listeners"}
			continue
		}
		out = append(out, l)
	}
	if len(out) > 0 {
		return out, fault{}
	}
	return nil, refused
}

// namesAt returns the hostnames that a route has at a listener.
func (r *httpRoute) namesAt(l *listener) (out []string) {
	if len(r.hostnames) == 0 {
		return []string{l.hostname}
	}
	for _, h := range r.hostnames {
		if name, ok := intersect(l.hostname, h); ok && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}
