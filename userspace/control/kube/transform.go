package kube

import (
	"bytes"
	"slices"
	"strings"

	"github.com/kerngate/kerngate/userspace/control/owner"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Slim keeps of an object what translation, events and status use. The rest, managed
// fields above all, is most of the memory that a large cluster's objects take; of those
// only who wrote the addresses in a status is kept.
func Slim(object any) (any, error) {
	switch o := object.(type) {
	case *networkingv1.Ingress:
		meta := slimMeta(&o.ObjectMeta, AnnotationClass, vocabularyNginx, vocabularyOwn)
		meta.ManagedFields = owner.Writers(o.ManagedFields)
		return &networkingv1.Ingress{
			ObjectMeta: meta,
			Spec: networkingv1.IngressSpec{
				IngressClassName: o.Spec.IngressClassName,
				DefaultBackend:   o.Spec.DefaultBackend,
				Rules:            o.Spec.Rules,
				TLS:              o.Spec.TLS,
			},
			Status: o.Status,
		}, nil
	case *networkingv1.IngressClass:
		return &networkingv1.IngressClass{
			ObjectMeta: slimMeta(&o.ObjectMeta, annotationDefaultClass, annotationCompat),
			Spec:       networkingv1.IngressClassSpec{Controller: o.Spec.Controller},
		}, nil
	case *corev1.Service:
		meta := slimMeta(&o.ObjectMeta, vocabularyOwn)
		if IsLoadBalancer(o) {
			meta.ManagedFields = owner.Writers(o.ManagedFields)
		}
		return &corev1.Service{
			ObjectMeta: meta,
			Spec: corev1.ServiceSpec{
				Type: o.Spec.Type, ExternalName: o.Spec.ExternalName,
				Ports: o.Spec.Ports, IPFamilies: o.Spec.IPFamilies,
				LoadBalancerClass: o.Spec.LoadBalancerClass, LoadBalancerIP: o.Spec.LoadBalancerIP,
				LoadBalancerSourceRanges: o.Spec.LoadBalancerSourceRanges,
				SessionAffinity:          o.Spec.SessionAffinity, ExternalTrafficPolicy: o.Spec.ExternalTrafficPolicy,
			},
			Status: o.Status,
		}, nil
	case *discoveryv1.EndpointSlice:
		s := &discoveryv1.EndpointSlice{
			ObjectMeta:  slimMeta(&o.ObjectMeta),
			AddressType: o.AddressType,
			Ports:       o.Ports,
			Endpoints:   make([]discoveryv1.Endpoint, len(o.Endpoints)),
		}
		if service, ok := o.Labels[discoveryv1.LabelServiceName]; ok {
			s.Labels = map[string]string{discoveryv1.LabelServiceName: service}
		}
		for i, e := range o.Endpoints {
			s.Endpoints[i] = discoveryv1.Endpoint{Addresses: e.Addresses, Conditions: e.Conditions, NodeName: e.NodeName, TargetRef: e.TargetRef}
		}
		return s, nil
	case *corev1.Namespace:
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion, Labels: o.Labels}}, nil
	case *corev1.ConfigMap:
		return &corev1.ConfigMap{ObjectMeta: slimMeta(&o.ObjectMeta), Data: o.Data}, nil
	case *corev1.Secret:
		s := &corev1.Secret{ObjectMeta: slimMeta(&o.ObjectMeta)}
		for key, v := range o.Data {
			if slices.Contains(usedKeys, key) || isPasswordHash(v) {
				if s.Data == nil {
					s.Data = map[string][]byte{}
				}
				s.Data[key] = v
			}
		}
		return s, nil
	}
	return object, nil // cache.DeletedFinalStateUnknown: its object is Slim already
}

// slimMeta keeps of the annotations those that are named, and those that begin with a name
// that ends in "/".
func slimMeta(m *metav1.ObjectMeta, annotations ...string) metav1.ObjectMeta {
	out := metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
	}
	for key, v := range m.Annotations {
		if !slices.ContainsFunc(annotations, func(a string) bool {
			return key == a || strings.HasSuffix(a, "/") && strings.HasPrefix(key, a)
		}) {
			continue
		}
		if out.Annotations == nil {
			out.Annotations = map[string]string{}
		}
		out.Annotations[key] = v
	}
	return out
}

// isPasswordHash reports whether a Secret's value looks like one: with auth-secret-type
// auth-map, a Secret's keys are names of users.
func isPasswordHash(v []byte) bool {
	return len(v) <= 256 && (bytes.HasPrefix(v, []byte("$")) || bytes.HasPrefix(v, []byte("{")))
}
