package gateway

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/kerngate/kerngate/userspace/model"
)

// RouteKinds are the kinds of routes that are served.
var RouteKinds = []string{"HTTPRoute"}

// gateway is a Gateway of a class of this controller.
type gateway struct {
	*gatewayv1.Gateway
	ref       model.ObjectRef
	listeners []*listener

	refused     string // why it is not accepted: a reason; "": it is
	unusable    string // why no address is usable: a reason; "": the ingress addresses are
	explanation string // of either
}

// listener is a listener of a Gateway.
type listener struct {
	of       *gateway
	name     string
	hostname string // lower case; "" any, "*.example.com" any number of labels more
	port     uint16
	scheme   string   // "http" or "https"; "": its protocol is not supported
	kinds    []string // of routes that it takes
	from     func(namespace string) bool
	attached int

	certificates []string // ids

	refused    fault // why it is not accepted
	conflict   fault
	unresolved fault
	overlaps   string // other listeners
}

// fault is the reason of a condition with its message; none: the reason is "".
type fault struct{ reason, message string }

func (f fault) any() bool { return f.reason != "" }

// serves reports whether requests are taken.
func (l *listener) serves() bool {
	return l.of.refused == "" && l.of.unusable == "" && !l.refused.any() && (l.scheme == "http" || len(l.certificates) > 0)
}

// readGateways judges the Gateways of accepted classes, the oldest first.
func (t *translation) readGateways() {
	for _, g := range t.objects.Gateways {
		if !t.classes[string(g.Spec.GatewayClassName)] || g.DeletionTimestamp != nil {
			continue
		}
		one := &gateway{Gateway: g, ref: refOf("Gateway", g)}
		t.gateways[types.NamespacedName{Namespace: g.Namespace, Name: g.Name}] = one
		t.sorted = append(t.sorted, one)
		t.out.Created[one.ref] = g.CreationTimestamp.Time
	}
	slices.SortFunc(t.sorted, func(a, b *gateway) int { return byAge(a, b) })
	for _, g := range t.sorted {
		t.readAddresses(g)
		if i := g.Spec.Infrastructure; i != nil && i.ParametersRef != nil {
			g.refused = string(gatewayv1.GatewayReasonInvalidParameters)
			g.explanation = fmt.Sprintf("spec.infrastructure.parametersRef names %s %s: this controller has no parameters, remove it", i.ParametersRef.Kind, i.ParametersRef.Name)
		}
		for i := range g.Spec.Listeners {
			g.listeners = append(g.listeners, t.readListener(g, &g.Spec.Listeners[i]))
		}
		findConflicts(g.listeners)
		findOverlaps(g.listeners)
	}
}

// readAddresses judges the addresses that a Gateway asks for. All Gateways share the ingress
// addresses, so that one that asks for some of them alone would be served at the others, too.
func (t *translation) readAddresses(g *gateway) {
	if len(t.options.Addresses) == 0 {
		g.unusable, g.explanation = string(gatewayv1.GatewayReasonAddressNotAssigned), "the agent has no ingress address: set --ingress-ip"
		return
	}
	wanted := map[netip.Addr]bool{}
	for i, a := range g.Spec.Addresses {
		if a.Type != nil && *a.Type != gatewayv1.IPAddressType {
			g.refused, g.explanation = string(gatewayv1.GatewayReasonUnsupportedAddress), fmt.Sprintf("spec.addresses[%d]: type %s is not supported: use IPAddress", i, *a.Type)
			return
		}
		if a.Value == "" {
			continue // any: those of the ingress
		}
		address, err := netip.ParseAddr(a.Value)
		if err != nil || !slices.Contains(t.options.Addresses, address) {
			g.unusable, g.explanation = string(gatewayv1.GatewayReasonAddressNotUsable), fmt.Sprintf("spec.addresses[%d]: %q is none of the ingress addresses: leave spec.addresses out to get those", i, a.Value)
			continue
		}
		wanted[address] = true
	}
	if g.unusable == "" && len(wanted) > 0 && len(wanted) < len(t.options.Addresses) {
		g.unusable, g.explanation = string(gatewayv1.GatewayReasonAddressNotUsable), "spec.addresses: the ingress addresses are used together: name all of them or none"
	}
}

// readListener judges one listener of a Gateway.
func (t *translation) readListener(g *gateway, spec *gatewayv1.Listener) *listener {
	l := &listener{of: g, name: string(spec.Name), port: uint16(spec.Port)}
	if spec.Hostname != nil {
		l.hostname = strings.ToLower(string(*spec.Hostname))
	}
	switch spec.Protocol {
	case gatewayv1.HTTPProtocolType:
		l.scheme = "http"
	case gatewayv1.HTTPSProtocolType:
		l.scheme = "https"
	default:
		l.refused = fault{string(gatewayv1.ListenerReasonUnsupportedProtocol), fmt.Sprintf("protocol %s is not supported yet: use HTTP or HTTPS", spec.Protocol)}
	}
	if l.scheme != "" && !slices.ContainsFunc(t.options.Listeners, func(m model.Listener) bool { return m.Port == l.port && m.TLS == (l.scheme == "https") }) {
		l.refused = fault{string(gatewayv1.ListenerReasonPortUnavailable), fmt.Sprintf("port %d is not one at which the ingress takes %s: use %s", l.port, spec.Protocol, t.ports(l.scheme == "https"))}
	}
	t.readAllowed(l, spec.AllowedRoutes)
	if l.scheme == "https" {
		t.readTLS(l, spec.TLS)
	}
	return l
}

// ports lists the ports of the ingress for a message.
func (t *translation) ports(tls bool) string {
	var out []string
	for _, l := range t.options.Listeners {
		if text := fmt.Sprint(l.Port); l.TLS == tls && !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	if len(out) == 0 {
		return "another protocol, as the agent has no such port"
	}
	return strings.Join(out, " or ")
}

// readAllowed reads which routes may attach.
func (t *translation) readAllowed(l *listener, allowed *gatewayv1.AllowedRoutes) {
	own := l.of.Namespace
	l.from = func(namespace string) bool { return namespace == own }
	if l.scheme != "" {
		l.kinds = RouteKinds
	}
	if allowed == nil {
		return
	}
	if len(allowed.Kinds) > 0 {
		l.kinds = nil
		for _, k := range allowed.Kinds {
			known := l.scheme != "" && (k.Group == nil || *k.Group == gatewayv1.GroupName) && slices.Contains(RouteKinds, string(k.Kind))
			switch {
			case !known:
				l.unresolved = fault{string(gatewayv1.ListenerReasonInvalidRouteKinds), fmt.Sprintf("allowedRoutes.kinds: %s is not supported by this listener", k.Kind)}
			case !slices.Contains(l.kinds, string(k.Kind)):
				l.kinds = append(l.kinds, string(k.Kind))
			}
		}
	}
	if allowed.Namespaces == nil || allowed.Namespaces.From == nil {
		return
	}
	switch from := *allowed.Namespaces.From; from {
	case gatewayv1.NamespacesFromSame:
	case gatewayv1.NamespacesFromAll:
		l.from = func(string) bool { return true }
	case gatewayv1.NamespacesFromSelector:
		selector, err := metav1.LabelSelectorAsSelector(allowed.Namespaces.Selector)
		if err != nil {
			l.refused = fault{string(gatewayv1.ListenerReasonUnsupportedValue), fmt.Sprintf("allowedRoutes.namespaces.selector: %v", err)}
			selector = labels.Nothing()
		}
		l.from = func(namespace string) bool {
			set := labels.Set{"kubernetes.io/metadata.name": namespace} // the API server's own, which manifests lack
			for k, v := range t.labels[namespace] {
				set[k] = v
			}
			return selector.Matches(set)
		}
	case "None":
		l.from = func(string) bool { return false }
	default:
		l.refused = fault{string(gatewayv1.ListenerReasonUnsupportedValue), fmt.Sprintf("allowedRoutes.namespaces.from: %q is none of Same, All, Selector and None", from)}
		l.from = func(string) bool { return false }
	}
}

// readTLS finds the certificates of an HTTPS listener.
func (t *translation) readTLS(l *listener, tls *gatewayv1.ListenerTLSConfig) {
	if g := l.of.Spec.TLS; g != nil && g.Frontend != nil {
		// Served all the same, clients would get in that have no certificate.
		l.refused = fault{string(gatewayv1.ListenerReasonUnsupportedValue), "spec.tls.frontend of the Gateway: client certificates are not supported yet"}
	}
	if tls != nil && tls.Mode != nil && *tls.Mode != gatewayv1.TLSModeTerminate {
		l.refused = fault{string(gatewayv1.ListenerReasonUnsupportedValue), fmt.Sprintf("tls.mode %s is not one of an HTTPS listener: use Terminate", *tls.Mode)}
		return
	}
	invalid := func(reason gatewayv1.ListenerConditionReason, format string, a ...any) {
		l.unresolved = fault{string(reason), fmt.Sprintf(format, a...)}
	}
	if tls == nil || len(tls.CertificateRefs) == 0 {
		invalid(gatewayv1.ListenerReasonInvalidCertificateRef, "tls.certificateRefs names no Secret")
		return
	}
	for i, ref := range tls.CertificateRefs {
		n := types.NamespacedName{Namespace: namespaceOr(ref.Namespace, l.of.Namespace), Name: string(ref.Name)}
		if !isCore(ref.Group, ref.Kind, "Secret") {
			invalid(gatewayv1.ListenerReasonInvalidCertificateRef, "tls.certificateRefs[%d] is no Secret", i)
			continue
		}
		if !t.granted("Gateway", l.of.Namespace, "Secret", n) { // before it is looked for: whether it is there is not everybody's to know
			invalid(gatewayv1.ListenerReasonRefNotPermitted, "tls.certificateRefs[%d]: no ReferenceGrant in namespace %s lets Gateways of namespace %s name Secret %s", i, n.Namespace, l.of.Namespace, n.Name)
			continue
		}
		c, err := t.cluster.Certificate(n)
		if err != nil {
			invalid(gatewayv1.ListenerReasonInvalidCertificateRef, "tls.certificateRefs[%d]: %v", i, err)
			continue
		}
		if !slices.Contains(l.certificates, c.ID) {
			l.certificates = append(l.certificates, c.ID)
		}
		t.out.Certificates[c.ID] = c
	}
}

// findConflicts compares the listeners of one Gateway. None of those in conflict is served.
func findConflicts(all []*listener) {
	for i, a := range all {
		for _, b := range all[:i] {
			if a.scheme == "" || b.scheme == "" || a.port != b.port {
				continue
			}
			reason := gatewayv1.ListenerReasonProtocolConflict
			if a.scheme == b.scheme {
				if reason = gatewayv1.ListenerReasonHostnameConflict; a.hostname != b.hostname {
					continue
				}
			}
			for _, l := range []*listener{a, b} {
				other := a
				if l == a {
					other = b
				}
				l.conflict = fault{string(reason), fmt.Sprintf("listener %s of this Gateway has the same port", other.name)}
				l.refused = l.conflict
			}
		}
	}
}

// findOverlaps notes the HTTPS listeners of a Gateway between which clients may share a connection.
func findOverlaps(all []*listener) {
	for _, a := range all {
		for _, b := range all {
			if a != b && a.scheme == "https" && b.scheme == "https" && a.port == b.port && (covers(a.hostname, b.hostname) || covers(b.hostname, a.hostname)) {
				a.overlaps = b.name
			}
		}
	}
}

// reportGateways says what became of Gateways and their listeners, once routes are attached.
func (t *translation) reportGateways() {
	for _, g := range t.sorted {
		valid, programmed := 0, 0
		for _, l := range g.listeners {
			if !l.refused.any() {
				valid++
			}
			if l.serves() {
				programmed++
			}
			t.reportListener(l)
		}
		find := func(condition gatewayv1.GatewayConditionType, ok bool, reason, message string) {
			t.out.Findings = append(t.out.Findings, model.Finding{Object: g.ref, Generation: g.Generation, Condition: string(condition), True: ok, Reason: reason, Message: message})
			if !ok {
				t.problem(g.ref, model.Refused, reason, message)
			}
		}
		switch {
		case g.refused != "":
			find(gatewayv1.GatewayConditionAccepted, false, g.refused, g.explanation)
		case valid == 0:
			find(gatewayv1.GatewayConditionAccepted, false, string(gatewayv1.GatewayReasonListenersNotValid), "no listener is accepted")
		case valid < len(g.listeners):
			find(gatewayv1.GatewayConditionAccepted, true, string(gatewayv1.GatewayReasonListenersNotValid), "some listeners are not accepted")
		default:
			find(gatewayv1.GatewayConditionAccepted, true, string(gatewayv1.GatewayReasonAccepted), "the Gateway is accepted")
		}
		switch {
		case g.refused != "":
			find(gatewayv1.GatewayConditionProgrammed, false, string(gatewayv1.GatewayReasonInvalid), g.explanation)
		case g.unusable != "":
			find(gatewayv1.GatewayConditionProgrammed, false, g.unusable, g.explanation)
		case programmed == 0:
			find(gatewayv1.GatewayConditionProgrammed, false, string(gatewayv1.GatewayReasonInvalid), "no listener is served")
		default:
			find(gatewayv1.GatewayConditionProgrammed, true, string(gatewayv1.GatewayReasonProgrammed), "the Gateway is served at the ingress addresses")
		}
		if g.refused == "" && g.unusable == "" {
			t.out.Published = append(t.out.Published, model.Published{Object: g.ref, Addresses: t.options.Addresses})
		}
	}
}

// reportListener says what became of one listener.
func (t *translation) reportListener(l *listener) {
	find := func(condition gatewayv1.ListenerConditionType, ok bool, good gatewayv1.ListenerConditionReason, bad fault, fine string) {
		f := model.Finding{Object: l.of.ref, Section: l.name, Generation: l.of.Generation, Condition: string(condition), True: ok, Reason: string(good), Message: fine}
		if bad.any() {
			f.Reason, f.Message = bad.reason, bad.message
		}
		t.out.Findings = append(t.out.Findings, f)
	}
	for _, wrong := range []fault{l.refused, l.unresolved} {
		if wrong.any() {
			t.problem(l.of.ref, model.Refused, wrong.reason, fmt.Sprintf("listener %s: %s", l.name, wrong.message))
		}
	}
	find(gatewayv1.ListenerConditionAccepted, !l.refused.any(), gatewayv1.ListenerReasonAccepted, l.refused, "the listener is accepted")
	find(gatewayv1.ListenerConditionResolvedRefs, !l.unresolved.any(), gatewayv1.ListenerReasonResolvedRefs, l.unresolved, "everything that it names was found")
	find(gatewayv1.ListenerConditionConflicted, l.conflict.any(), gatewayv1.ListenerReasonNoConflicts, l.conflict, "no other listener is in its way")
	if l.serves() {
		find(gatewayv1.ListenerConditionProgrammed, true, gatewayv1.ListenerReasonProgrammed, fault{}, "requests are taken")
	} else {
		find(gatewayv1.ListenerConditionProgrammed, false, "", fault{string(gatewayv1.ListenerReasonInvalid), "no request is taken: the other conditions, and those of the Gateway, say why"}, "")
	}
	if l.overlaps != "" {
		find(gatewayv1.ListenerConditionOverlappingTLSConfig, true, gatewayv1.ListenerReasonOverlappingHostnames, fault{}, fmt.Sprintf("its hostname overlaps that of listener %s", l.overlaps))
	}
	t.out.Attached = append(t.out.Attached, model.Attached{Gateway: l.of.ref, Listener: l.name, Kinds: l.kinds, Routes: l.attached})
}
