package kube

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// nameLabel is what the API server sets on each namespace to its name.
const nameLabel = "kubernetes.io/metadata.name"

// Chooses reports whether objects of a namespace with these labels are served.
func (o *Options) Chooses(namespace string, of map[string]string) bool {
	if o.NamespaceSelector == nil {
		return true
	}
	if _, set := of[nameLabel]; !set { // in a folder of manifests
		of = maps.Clone(of)
		if of == nil {
			of = map[string]string{}
		}
		of[nameLabel] = namespace
	}
	return o.NamespaceSelector.Matches(labels.Set(of))
}

// Choose leaves out Ingresses and objects of Gateway API in namespaces that are not served, and has
// the Services of type LoadBalancer there not published. What others name is still found.
func (o *Options) Choose(all Objects) Objects {
	if o.NamespaceSelector == nil {
		return all
	}
	of := make(map[string]map[string]string, len(all.Gateway.Namespaces))
	for _, n := range all.Gateway.Namespaces {
		of[n.Name] = n.Labels
	}
	served := func(namespace string) bool { return o.Chooses(namespace, of[namespace]) }
	all.published = func(s *corev1.Service) bool { return served(s.Namespace) }
	all.Ingresses = slices.DeleteFunc(slices.Clone(all.Ingresses), func(i *networkingv1.Ingress) bool { return !served(i.Namespace) })
	all.Gateway.Gateways = slices.DeleteFunc(slices.Clone(all.Gateway.Gateways), func(g *gatewayv1.Gateway) bool { return !served(g.Namespace) })
	all.Gateway.Routes = slices.DeleteFunc(slices.Clone(all.Gateway.Routes), func(r *gatewayv1.HTTPRoute) bool { return !served(r.Namespace) })
	return all
}
