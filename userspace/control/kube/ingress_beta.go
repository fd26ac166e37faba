package kube

import (
	networkingv1 "k8s.io/api/networking/v1"
	networkingv1beta1 "k8s.io/api/networking/v1beta1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// isIngressBeta reports whether an apiVersion is one that Ingress had before v1. Both have the
// same fields.
func isIngressBeta(apiVersion string) bool {
	return apiVersion == "networking.k8s.io/v1beta1" || apiVersion == "extensions/v1beta1"
}

// ingressOfBeta converts an Ingress of v1beta1 as the API server did until Kubernetes 1.22: an
// Ingress that was written so is still in the cluster, and is read there as v1.
func ingressOfBeta(b *networkingv1beta1.Ingress) *networkingv1.Ingress {
	out := &networkingv1.Ingress{ObjectMeta: b.ObjectMeta}
	out.Spec.IngressClassName = b.Spec.IngressClassName
	if b.Spec.Backend != nil {
		backend := backendOfBeta(*b.Spec.Backend)
		out.Spec.DefaultBackend = &backend
	}
	for _, tls := range b.Spec.TLS {
		out.Spec.TLS = append(out.Spec.TLS, networkingv1.IngressTLS(tls))
	}
	for _, rule := range b.Spec.Rules {
		to := networkingv1.IngressRule{Host: rule.Host}
		if rule.HTTP != nil {
			to.HTTP = &networkingv1.HTTPIngressRuleValue{}
			for _, path := range rule.HTTP.Paths {
				pathType := networkingv1.PathTypeImplementationSpecific // v1beta1's default; v1 has none
				if path.PathType != nil {
					pathType = networkingv1.PathType(*path.PathType)
				}
				to.HTTP.Paths = append(to.HTTP.Paths, networkingv1.HTTPIngressPath{Path: path.Path, PathType: &pathType, Backend: backendOfBeta(path.Backend)})
			}
		}
		out.Spec.Rules = append(out.Spec.Rules, to)
	}
	return out
}

func backendOfBeta(b networkingv1beta1.IngressBackend) (out networkingv1.IngressBackend) {
	out.Resource = b.Resource
	if b.ServiceName == "" && b.ServicePort == (intstr.IntOrString{}) {
		return out
	}
	out.Service = &networkingv1.IngressServiceBackend{Name: b.ServiceName}
	if b.ServicePort.Type == intstr.String {
		out.Service.Port.Name = b.ServicePort.StrVal
	} else {
		out.Service.Port.Number = b.ServicePort.IntVal
	}
	return out
}
