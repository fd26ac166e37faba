package kube

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// resolvePort finds the port of a Service that an Ingress refers to by name or number,
// and returns the key under which the service is published: with the port's name, or its
// number if it has none, so that both ways to refer to one port give one service.
func resolvePort(service *corev1.Service, ref networkingv1.ServiceBackendPort) (model.ServiceKey, error) {
	var other corev1.Protocol
	for _, port := range service.Spec.Ports {
		if ref.Name != "" && port.Name != ref.Name || ref.Name == "" && port.Port != ref.Number {
			continue
		}
		if protocol := cmp.Or(port.Protocol, corev1.ProtocolTCP); protocol != corev1.ProtocolTCP {
			other = protocol
			continue
		}
		return model.ServiceKey{Namespace: service.Namespace, Name: service.Name, Port: portKey(port)}, nil
	}
	want := cmp.Or(ref.Name, strconv.Itoa(int(ref.Number)))
	if other != "" {
		return model.ServiceKey{}, fmt.Errorf("port %s of Service %s is %s, HTTP needs TCP", want, nameOf(service), other)
	}
	return model.ServiceKey{}, fmt.Errorf("port %s is not one of Service %s, which has %s", want, nameOf(service), portsOf(service))
}

// portKey returns how a port is named in a ServiceKey.
func portKey(port corev1.ServicePort) string {
	return cmp.Or(port.Name, strconv.Itoa(int(port.Port)))
}

func portsOf(service *corev1.Service) string {
	if len(service.Spec.Ports) == 0 {
		return "none"
	}
	var text []byte
	for i, port := range service.Spec.Ports {
		if i > 0 {
			text = append(text, ", "...)
		}
		text = strconv.AppendInt(text, int64(port.Port), 10)
		if port.Name != "" {
			text = fmt.Appendf(text, " (%s)", port.Name)
		}
	}
	return string(text)
}

// TranslateService finds the backends of one service port. It is all that needs to run
// when endpoints change. The slices are those of the Service, of every address family.
//
// An endpoint is used as kube-proxy does: those that are ready, and if there is none,
// those that are terminating but still serving, marked Draining. Of a pod with addresses
// of both families the one of the Service's first family is used, so that it is counted
// once. Topology hints are ignored.
func TranslateService(key model.ServiceKey, service *corev1.Service, endpoints []*discoveryv1.EndpointSlice, o Options) (model.Service, []model.Problem) {
	var found problems
	result := model.Service{Key: key, Algorithm: o.Algorithm, PreferLocal: o.PreferLocal}
	if service == nil {
		return result, nil
	}
	readAnnotations(service, &result, &found)
	readPolicy(service, &result, &found)
	if service.Spec.Type == corev1.ServiceTypeExternalName {
		if b, ok := externalBackend(key, service, o); ok && o.AllowExternalName {
			result.Backends = []model.Backend{b}
		}
		return result, found.sorted()
	}

	chosen := choose(candidates(key, corev1.ProtocolTCP, endpoints, o, &found), firstFamily(service))
	ready := slices.ContainsFunc(chosen, func(c candidate) bool { return c.ready })
	for _, c := range chosen {
		if c.ready == ready {
			c.backend.Draining = !ready
			result.Backends = append(result.Backends, c.backend)
		}
	}
	return result, found.sorted()
}

// candidate is an endpoint that could be used: it is ready, or it serves while it terminates.
type candidate struct {
	backend model.Backend
	ready   bool
}

// candidates reads the slices. The same address may stand in two of them while the
// controller moves it from one to the other.
func candidates(key model.ServiceKey, protocol corev1.Protocol, endpoints []*discoveryv1.EndpointSlice, o Options, found *problems) []candidate {
	portName := key.Port
	if _, err := strconv.Atoi(portName); err == nil {
		portName = "" // the port has no name; a name always has a letter
	}
	var all []candidate
	for _, slice := range endpoints {
		if slice.AddressType == discoveryv1.AddressTypeFQDN {
			found.add(refOf("EndpointSlice", slice), model.Warning, "AddressTypeUnsupported",
				"addressType FQDN is not used: give IPv4 or IPv6 addresses")
			continue
		}
		port, ok := slicePort(slice, portName, protocol)
		if !ok {
			continue
		}
		for i, endpoint := range slice.Endpoints {
			ready, draining := conditions(endpoint.Conditions)
			if !ready && !draining || len(endpoint.Addresses) == 0 {
				continue
			}
			address, err := netip.ParseAddr(endpoint.Addresses[0])
			if err == nil && (address.Zone() != "" || address.IsUnspecified() || address.IsMulticast()) {
				err = fmt.Errorf("%s is not the address of a pod", address)
			}
			if err == nil {
				err = rule.Destination(address, o.Addresses, o.Allowed)
			}
			if err != nil {
				found.add(refOf("EndpointSlice", slice), model.Refused, "EndpointInvalid", fmt.Sprintf("endpoints[%d].addresses[0]: %v", i, err))
				continue
			}
			c := candidate{ready: ready, backend: model.Backend{Address: netip.AddrPortFrom(address.Unmap(), port)}}
			if endpoint.NodeName != nil {
				c.backend.Node = *endpoint.NodeName
				c.backend.Local = o.Node != "" && o.Node == *endpoint.NodeName
			}
			if ref := endpoint.TargetRef; ref != nil && ref.Kind == "Pod" {
				c.backend.Pod = cmp.Or(ref.Namespace, slice.Namespace) + "/" + ref.Name
			}
			all = append(all, c)
		}
	}
	return all
}

// choose returns each address once and each pod once, by address.
func choose(all []candidate, first family) []candidate {
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(
			a.backend.Address.Compare(b.backend.Address),
			compareBool(b.ready, a.ready), // what says "ready" counts
			cmp.Compare(a.backend.Pod, b.backend.Pod),
			cmp.Compare(a.backend.Node, b.backend.Node),
		)
	})
	all = slices.CompactFunc(all, func(a, b candidate) bool { return a.backend.Address == b.backend.Address })

	inFirst := map[string]bool{} // pods that have an address of the first family
	for _, c := range all {
		if c.backend.Pod != "" && familyOf(c.backend.Address.Addr()) == first {
			inFirst[c.backend.Pod] = true
		}
	}
	return slices.DeleteFunc(all, func(c candidate) bool {
		return inFirst[c.backend.Pod] && familyOf(c.backend.Address.Addr()) != first
	})
}

// conditions reads an endpoint's conditions; what is not set is as the API says: ready,
// serving as ready, not terminating.
func conditions(c discoveryv1.EndpointConditions) (ready, draining bool) {
	ready = c.Ready == nil || *c.Ready
	serving := ready
	if c.Serving != nil {
		serving = *c.Serving
	}
	return ready, serving && c.Terminating != nil && *c.Terminating
}

// slicePort returns the number of a slice's port of that name and protocol. Pods whose named
// target port differs stand in slices of their own.
func slicePort(slice *discoveryv1.EndpointSlice, portName string, protocol corev1.Protocol) (uint16, bool) {
	for _, p := range slice.Ports {
		if p.Name != nil && *p.Name != portName || p.Name == nil && portName != "" {
			continue
		}
		if p.Port == nil || *p.Port < 1 || *p.Port > 65535 || cmp.Or(deref(p.Protocol), corev1.ProtocolTCP) != protocol {
			continue
		}
		return uint16(*p.Port), true
	}
	return 0, false
}

func deref(p *corev1.Protocol) corev1.Protocol {
	if p == nil {
		return ""
	}
	return *p
}

type family string

const (
	ipv4 family = "IPv4"
	ipv6 family = "IPv6"
)

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return ipv4
	}
	return ipv6
}

// firstFamily is the family of the Service's own choice; IPv4 if it has made none.
func firstFamily(service *corev1.Service) family {
	if f := service.Spec.IPFamilies; len(f) > 0 && f[0] == corev1.IPv6Protocol {
		return ipv6
	}
	return ipv4
}

// externalBackend returns the backend of an ExternalName that is an address. Names are
// not resolved: that would need a resolver in the privileged agent, and anybody who may
// create a Service could point it anywhere. The addresses of the node itself and of its
// link, where metadata services live, are never used.
func externalBackend(key model.ServiceKey, service *corev1.Service, o Options) (model.Backend, bool) {
	address, err := netip.ParseAddr(service.Spec.ExternalName)
	if err != nil || address.Zone() != "" || rule.Destination(address, o.Addresses, o.Allowed) != nil {
		return model.Backend{}, false
	}
	for _, port := range service.Spec.Ports {
		if portKey(port) == key.Port {
			number := port.Port
			if port.TargetPort.IntVal != 0 {
				number = port.TargetPort.IntVal
			}
			return model.Backend{Address: netip.AddrPortFrom(address.Unmap(), uint16(number))}, true
		}
	}
	return model.Backend{}, false
}

// checkExternalName says why a Service of type ExternalName is not served, if it is not.
func checkExternalName(service *corev1.Service, key model.ServiceKey, o Options) (reason, message string) {
	if !o.AllowExternalName {
		return "ExternalNameRefused", fmt.Sprintf("Service %s is of type ExternalName, which would let its author reach any host from the node: start the agent with --allow-external-name to permit it", nameOf(service))
	}
	if _, ok := externalBackend(key, service, o); !ok {
		return "ExternalNameUnsupported", fmt.Sprintf("Service %s names the external host %q: only an address outside of the node and its link is supported, names are not resolved; use a Service without selector and an EndpointSlice", nameOf(service), service.Spec.ExternalName)
	}
	return "", ""
}

// maxSlowStart is the longest time in which new pods start slowly.
const maxSlowStart = time.Hour

func readAnnotations(service *corev1.Service, result *model.Service, found *problems) {
	if v, set := service.Annotations[annotationLoadBalancing]; set {
		algorithm, err := model.ParseAlgorithm(v)
		if err != nil {
			found.add(refOf("Service", service), model.Warning, "AnnotationInvalid",
				fmt.Sprintf("annotation %s: %v; it is ignored", annotationLoadBalancing, err))
		} else {
			result.Algorithm = algorithm
		}
	}
	if v, set := service.Annotations[annotationSlowStart]; set {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 || d > maxSlowStart {
			found.add(refOf("Service", service), model.Warning, "AnnotationInvalid",
				fmt.Sprintf("annotation %s: %q is not a duration from 0 to %v, such as 30s; it is ignored", annotationSlowStart, v, maxSlowStart))
		} else {
			result.SlowStart = d
		}
	}
	for _, b := range []struct {
		key string
		to  func(bool)
	}{
		{annotationPreferLocal, func(yes bool) { result.PreferLocal = yes }},
		{annotationSkMsg, func(yes bool) { result.NoSkMsg = !yes }},
	} {
		v, set := service.Annotations[b.key]
		if !set {
			continue
		}
		yes, err := strconv.ParseBool(v)
		if err != nil {
			found.add(refOf("Service", service), model.Warning, "AnnotationInvalid",
				fmt.Sprintf("annotation %s: %q is neither true nor false; it is ignored", b.key, v))
			continue
		}
		b.to(yes)
	}
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
