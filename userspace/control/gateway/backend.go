package gateway

import (
	"cmp"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/kerngate/kerngate/userspace/model"
)

// backend is one of several services of a rule.
type backend struct {
	service  model.ServiceKey
	upstream model.Upstream
	weight   uint32
	filters  []gatewayv1.HTTPRouteFilter
	invalid  bool // its share is answered with 500
}

// backendsOf finds the services of a rule. One that cannot be had keeps its share of the requests.
func (t *translation) backendsOf(r *httpRoute, field string, refs []gatewayv1.HTTPBackendRef) (out []backend) {
	for i := range refs {
		b := backend{weight: 1, filters: refs[i].Filters}
		if w := refs[i].Weight; w != nil {
			b.weight = uint32(max(0, *w))
		}
		var wrong fault
		if b.service, b.upstream, wrong = t.backend(r, &refs[i].BackendObjectReference); wrong.any() {
			b.invalid = true
			r.doubt(fmt.Sprintf("%s.backendRefs[%d]", field, i), wrong, "its share of the requests is answered with 500")
		}
		out = append(out, b)
	}
	return out
}

// doubt notes why something that the route names cannot be had. Of several the first is told.
func (r *httpRoute) doubt(field string, wrong fault, consequence string) {
	if !r.unresolved.any() {
		r.unresolved = fault{wrong.reason, field + ": " + wrong.message + "; " + consequence}
	}
}

// backend resolves a reference to a port of a Service.
func (t *translation) backend(r *httpRoute, ref *gatewayv1.BackendObjectReference) (key model.ServiceKey, u model.Upstream, wrong fault) {
	n := types.NamespacedName{Namespace: namespaceOr(ref.Namespace, r.Namespace), Name: string(ref.Name)}
	fail := func(reason gatewayv1.RouteConditionReason, format string, a ...any) (model.ServiceKey, model.Upstream, fault) {
		return model.ServiceKey{}, model.Upstream{}, fault{string(reason), fmt.Sprintf(format, a...)}
	}
	if !isCore(ref.Group, ref.Kind, "Service") {
		return fail(gatewayv1.RouteReasonInvalidKind, "only Services are supported as backends")
	}
	if !t.granted("HTTPRoute", r.Namespace, "Service", n) { // before it is looked for: whether it is there is not everybody's to know
		return fail(gatewayv1.RouteReasonRefNotPermitted, "no ReferenceGrant in namespace %s lets HTTPRoutes of namespace %s name Service %s", n.Namespace, r.Namespace, n.Name)
	}
	service := t.cluster.Service(n)
	switch {
	case service == nil:
		return fail(gatewayv1.RouteReasonBackendNotFound, "Service %s does not exist", n)
	case service.Spec.Type == corev1.ServiceTypeExternalName:
		return fail(gatewayv1.RouteReasonInvalidKind, "Service %s is of type ExternalName, which routes may not name: anybody could name any host by it", n)
	case ref.Port == nil:
		return fail(gatewayv1.RouteReasonBackendNotFound, "port is missing: set a port of Service %s", n)
	}
	for _, port := range service.Spec.Ports {
		if port.Port != int32(*ref.Port) || cmp.Or(port.Protocol, corev1.ProtocolTCP) != corev1.ProtocolTCP {
			continue
		}
		switch protocol := valueOf(port.AppProtocol); protocol {
		case "kubernetes.io/h2c":
			u.Protocol = model.HTTP2
		case "https", "kubernetes.io/wss":
			return fail(gatewayv1.RouteReasonUnsupportedProtocol, "port %d of Service %s has appProtocol %s: TLS to backends is not supported yet", *ref.Port, n, protocol)
		}
		key = model.ServiceKey{Namespace: n.Namespace, Name: n.Name, Port: cmp.Or(port.Name, strconv.Itoa(int(port.Port)))}
		t.out.Services[key] = struct{}{}
		return key, u, fault{}
	}
	return fail(gatewayv1.RouteReasonBackendNotFound, "Service %s has no TCP port %d", n, *ref.Port)
}

func valueOf[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
