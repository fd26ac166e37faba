package kube

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/kerngate/kerngate/userspace/model"
)

// LoadBalancerClass is spec.loadBalancerClass of the Services that are published on
// ingress addresses as they are, below HTTP.
const LoadBalancerClass = "kerngate.dev/kerngate"

// published listeners and who has them: of two objects that want the same one the older
// gets it.
type l4Listeners map[l4Listener]model.ObjectRef

type l4Listener struct {
	address  netip.AddrPort
	protocol model.Transport
}

// proxyItself stands for the proxy among those who have a listener.
var proxyItself = model.ObjectRef{Kind: "the proxy"}

// l4 returns the L4 services without their backends: those of Services of the load
// balancer class, oldest first, and then those of the ConfigMaps.
func (t *translation) l4() []model.L4Service {
	taken := l4Listeners{}
	for _, l := range t.options.Listeners {
		at := netip.AddrPortFrom(l.Address, l.Port)
		taken[l4Listener{at, model.TCP}] = proxyItself
		if l.HTTP3 {
			taken[l4Listener{at, model.UDP}] = proxyItself
		}
	}
	var out []model.L4Service
	services := slices.DeleteFunc(slices.Clone(t.objects.Services), func(s *corev1.Service) bool {
		return !IsLoadBalancer(s) || s.DeletionTimestamp != nil || t.objects.published != nil && !t.objects.published(s)
	})
	slices.SortFunc(services, byAge)
	for _, service := range services {
		out = append(out, t.l4OfService(service, taken)...)
	}
	out = append(out, t.l4OfConfigMap(t.options.TCPServices, model.TCP, taken)...)
	out = append(out, t.l4OfConfigMap(t.options.UDPServices, model.UDP, taken)...)
	slices.SortFunc(out, func(a, b model.L4Service) int { return model.CompareL4(a.L4Key, b.L4Key) })
	return out
}

// IsLoadBalancer reports whether a Service is published by us below HTTP.
func IsLoadBalancer(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.LoadBalancerClass != nil && *s.Spec.LoadBalancerClass == LoadBalancerClass
}

// take gives a service the listeners that nobody has, and reports the others.
func (t *translation) take(s *model.L4Service, want []netip.AddrPort, taken l4Listeners) {
	for _, address := range want {
		l := l4Listener{address, s.Protocol}
		switch owner, ok := taken[l]; {
		case !ok:
			taken[l] = s.Source
			s.Listeners = append(s.Listeners, address)
		case owner == proxyItself:
			t.found.add(s.Source, model.Refused, "ListenerConflict",
				fmt.Sprintf("%s/%s is the proxy's own: choose another port, or --http-port and --https-port", address, s.Protocol))
		default:
			t.found.add(s.Source, model.Refused, "ListenerConflict",
				fmt.Sprintf("%s/%s is already taken by %s: choose another port or address", address, s.Protocol, owner))
		}
	}
	slices.SortFunc(s.Listeners, netip.AddrPort.Compare)
}

func (t *translation) l4OfService(service *corev1.Service, taken l4Listeners) (out []model.L4Service) {
	ref := refOf("Service", service)
	addresses := t.l4Addresses(service)
	sources := t.sourceRanges(service)
	for _, port := range service.Spec.Ports {
		protocol, ok := l4Protocol(port.Protocol)
		if !ok {
			t.found.add(ref, model.Refused, "ProtocolUnsupported",
				fmt.Sprintf("port %d is %s: only TCP and UDP are forwarded", port.Port, port.Protocol))
			continue
		}
		s := model.L4Service{
			L4Key:     model.L4Key{Service: keyOfPort(service, port), Protocol: protocol, Source: ref},
			LocalOnly: service.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
			Affinity:  service.Spec.SessionAffinity == corev1.ServiceAffinityClientIP,
			Sources:   sources,
		}
		var want []netip.AddrPort
		for _, a := range addresses {
			want = append(want, netip.AddrPortFrom(a, uint16(port.Port)))
		}
		if t.take(&s, want, taken); len(s.Listeners) > 0 {
			out = append(out, s)
		}
	}
	return out
}

func l4Protocol(p corev1.Protocol) (model.Transport, bool) {
	switch cmp.Or(p, corev1.ProtocolTCP) {
	case corev1.ProtocolTCP:
		return model.TCP, true
	case corev1.ProtocolUDP:
		return model.UDP, true
	}
	return 0, false
}

func keyOfPort(service *corev1.Service, port corev1.ServicePort) model.ServiceKey {
	return model.ServiceKey{Namespace: service.Namespace, Name: service.Name, Port: portKey(port)}
}

// l4Addresses returns the addresses that a Service is published on: spec.loadBalancerIP,
// else those of the annotation, else the first ingress address of each of its families.
// Only ingress addresses and those of the pool can be named: else whoever may write a
// Service could have this node take packets to any address.
func (t *translation) l4Addresses(service *corev1.Service) (out []netip.Addr) {
	ref := refOf("Service", service)
	field, text := "spec.loadBalancerIP", service.Spec.LoadBalancerIP
	if text == "" {
		field, text = "annotation "+annotationAddress, service.Annotations[annotationAddress]
	}
	if strings.TrimSpace(text) == "" {
		return t.firstAddresses(service)
	}
	for _, part := range strings.Split(text, ",") {
		address, err := netip.ParseAddr(strings.TrimSpace(part))
		address = address.Unmap()
		switch {
		case err != nil || address.Zone() != "":
			t.found.add(ref, model.Refused, "AddressInvalid", fmt.Sprintf("%s: %q is not an address", field, part))
		case !t.mayPublish(address):
			t.found.add(ref, model.Refused, "AddressNotAllowed",
				fmt.Sprintf("%s: %s is neither an ingress address nor in the pool: add it to the agent's --address-pool", field, address))
		case !slices.Contains(out, address):
			out = append(out, address)
		}
	}
	return out
}

func (t *translation) mayPublish(address netip.Addr) bool {
	return slices.Contains(t.options.Addresses, address) ||
		slices.ContainsFunc(t.options.AddressPool, func(p netip.Prefix) bool { return p.Contains(address) })
}

// firstAddresses returns the first ingress address of each family that a Service has.
func (t *translation) firstAddresses(service *corev1.Service) (out []netip.Addr) {
	families := []family{firstFamily(service)}
	for _, f := range service.Spec.IPFamilies {
		if !slices.Contains(families, family(f)) {
			families = append(families, family(f))
		}
	}
	for _, f := range families {
		i := slices.IndexFunc(t.options.Addresses, func(a netip.Addr) bool { return familyOf(a) == f })
		if i >= 0 {
			out = append(out, t.options.Addresses[i])
		}
	}
	if len(out) == 0 {
		t.found.add(refOf("Service", service), model.Refused, "AddressMissing",
			fmt.Sprintf("there is no ingress address of family %s: start the agent with one, or set spec.ipFamilies", families[0]))
	}
	return out
}

// sourceRanges returns spec.loadBalancerSourceRanges, nil if it is empty. A range that
// cannot be read lets nobody in.
func (t *translation) sourceRanges(service *corev1.Service) []netip.Prefix {
	if len(service.Spec.LoadBalancerSourceRanges) == 0 {
		return nil
	}
	out := []netip.Prefix{}
	for i, text := range service.Spec.LoadBalancerSourceRanges {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			t.found.add(refOf("Service", service), model.Warning, "SourceRangeInvalid",
				fmt.Sprintf("spec.loadBalancerSourceRanges[%d]: %q is not a prefix like 198.51.100.0/24; it lets nobody in", i, text))
			continue
		}
		out = append(out, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()).Masked())
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// l4OfConfigMap reads a ConfigMap as ingress-nginx had them for --tcp-services-configmap:
// "PORT": "NAMESPACE/SERVICE:PORT[:PROXY[:PROXY]]", published on every ingress address.
func (t *translation) l4OfConfigMap(which string, protocol model.Transport, taken l4Listeners) []model.L4Service {
	i := slices.IndexFunc(t.objects.ConfigMaps, func(c *corev1.ConfigMap) bool { return nameOf(c).String() == which })
	if which == "" || i < 0 {
		return nil // not there (yet): ingress-nginx said nothing either
	}
	config := t.objects.ConfigMaps[i]
	ref := refOf("ConfigMap", config)
	byKey := map[model.L4Key]*model.L4Service{}
	for _, text := range slices.Sorted(maps.Keys(config.Data)) {
		report := func(severity model.Severity, reason, format string, args ...any) {
			t.found.add(ref, severity, reason, fmt.Sprintf("data[%q]: ", text)+fmt.Sprintf(format, args...))
		}
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil || port == 0 {
			report(model.Refused, "PortInvalid", "the key must be a port, 1 to 65535")
			continue
		}
		key, options, err := parseL4Target(config.Data[text])
		if err != nil {
			report(model.Refused, "TargetInvalid", "%v", err)
			continue
		}
		if options != "" {
			report(model.Refused, "ProxyProtocolUnsupported", "PROXY headers are not written: the pod sees the client's own address, so remove %q, and the setting in the pod that expects the header", options)
			continue
		}
		service := t.lookup.service(name{key.Namespace, key.Name})
		if service == nil {
			report(model.Refused, "ServiceNotFound", "Service %s/%s does not exist", key.Namespace, key.Name)
			continue
		}
		if key, err = resolveL4Port(service, key.Port, protocol); err != nil {
			report(model.Refused, "ServicePortNotFound", "%v", err)
			continue
		}
		id := model.L4Key{Service: key, Protocol: protocol, Source: ref}
		if byKey[id] == nil {
			byKey[id] = &model.L4Service{L4Key: id}
		}
		var want []netip.AddrPort
		for _, a := range t.options.Addresses {
			want = append(want, netip.AddrPortFrom(a, uint16(port)))
		}
		t.take(byKey[id], want, taken)
	}
	var out []model.L4Service
	for _, s := range byKey {
		if len(s.Listeners) > 0 {
			out = append(out, *s)
		}
	}
	return out
}

// parseL4Target reads NAMESPACE/SERVICE:PORT, and what stands behind it.
func parseL4Target(text string) (key model.ServiceKey, options string, err error) {
	namespace, rest, ok := strings.Cut(strings.TrimSpace(text), "/")
	parts := strings.SplitN(rest, ":", 3)
	if !ok || namespace == "" || len(parts) < 2 || parts[0] == "" || parts[1] == "" {
		return key, "", fmt.Errorf("%q is not of the form NAMESPACE/SERVICE:PORT", text)
	}
	if len(parts) == 3 {
		options = strings.Trim(parts[2], ":")
	}
	return model.ServiceKey{Namespace: namespace, Name: parts[0], Port: parts[1]}, options, nil
}

// resolveL4Port is resolvePort for any protocol.
func resolveL4Port(service *corev1.Service, port string, protocol model.Transport) (model.ServiceKey, error) {
	want := networkingv1.ServiceBackendPort{Name: port}
	if number, err := strconv.ParseInt(port, 10, 32); err == nil {
		want = networkingv1.ServiceBackendPort{Number: int32(number)}
	}
	for _, p := range service.Spec.Ports {
		if has, ok := l4Protocol(p.Protocol); !ok || has != protocol {
			continue
		}
		if want.Name != "" && p.Name == want.Name || want.Name == "" && p.Port == want.Number {
			return keyOfPort(service, p), nil
		}
	}
	return model.ServiceKey{}, fmt.Errorf("%s port %s is not one of Service %s, which has %s",
		strings.ToUpper(protocol.String()), port, nameOf(service), portsOf(service))
}

// completeL4 adds the backends, as TranslateService finds them but of both families: each
// listener uses those of its own.
func completeL4(s model.L4Service, service *corev1.Service, endpoints []*discoveryv1.EndpointSlice, o Options) (model.L4Service, []model.Problem) {
	var found problems
	s.Backends, s.Health = nil, nil
	if service == nil {
		return s, nil
	}
	s.Health = readHealthCheck(service, &found)
	protocol := corev1.ProtocolTCP
	if s.Protocol == model.UDP {
		protocol = corev1.ProtocolUDP
	}
	for _, f := range []family{ipv4, ipv6} {
		all := slices.DeleteFunc(candidates(s.Service, protocol, endpoints, o, &found), func(c candidate) bool {
			return familyOf(c.backend.Address.Addr()) != f
		})
		chosen := choose(all, f)
		ready := slices.ContainsFunc(chosen, func(c candidate) bool { return c.ready })
		for _, c := range chosen {
			if c.ready == ready {
				c.backend.Draining = !ready
				s.Backends = append(s.Backends, c.backend)
			}
		}
	}
	return s, found.sorted()
}

// l4Statuses returns what the status of each Service of the load balancer class is to say: its
// addresses, and whether all that it asks for is published. found are the problems of these Services.
func l4Statuses(services []model.L4Service, found []model.Problem) (published []model.Published, findings []model.Finding) {
	addresses := map[model.ObjectRef][]netip.Addr{}
	for _, s := range services {
		if s.Source.Kind != "Service" {
			continue
		}
		for _, l := range s.Listeners {
			if !slices.Contains(addresses[s.Source], l.Addr()) {
				addresses[s.Source] = append(addresses[s.Source], l.Addr())
			}
		}
	}
	refused := map[model.ObjectRef]model.Problem{} // the first of each
	for _, p := range found {
		if _, there := refused[p.Object]; !there && p.Object.Kind == "Service" && p.Severity == model.Refused {
			refused[p.Object] = p
		}
	}
	for ref, list := range addresses {
		slices.SortFunc(list, netip.Addr.Compare)
		published = append(published, model.Published{Object: ref, Addresses: list})
		if _, also := refused[ref]; !also {
			findings = append(findings, model.Finding{Object: ref, Condition: model.ConditionPublished, True: true,
				Reason: model.ReasonPublished, Message: "every port is published"})
		}
	}
	for ref, p := range refused {
		findings = append(findings, model.Finding{Object: ref, Condition: model.ConditionPublished, Reason: p.Reason, Message: p.Message})
	}
	slices.SortFunc(published, func(a, b model.Published) int { return a.Object.Compare(b.Object) })
	slices.SortFunc(findings, model.Finding.Compare)
	return published, findings
}
