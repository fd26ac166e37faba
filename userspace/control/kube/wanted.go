package kube

import (
	"slices"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
)

// secretAnnotations are those that name a Secret.
var secretAnnotations = []string{annotationAuthTLSSecret, annotationProxySSLSecret, ingressnginx.Prefix + "auth-secret"}

// wantedBy returns what must be watched before an Ingress can be translated: the Secrets of
// its namespace, and ConfigMaps.
func wantedBy(ingress *networkingv1.Ingress) (wanted []reference) {
	if slices.ContainsFunc(ingress.Spec.TLS, func(e networkingv1.IngressTLS) bool { return e.SecretName != "" }) ||
		slices.ContainsFunc(secretAnnotations, func(key string) bool { return ingress.Annotations[key] != "" }) {
		wanted = append(wanted, reference{"Secret", name{ingress.Namespace, ""}})
	}
	for _, config := range ingressnginx.ConfigMaps(ingress.Namespace, ingress.Annotations) {
		wanted = append(wanted, reference{"ConfigMap", name{ingress.Namespace, config}})
	}
	return wanted
}
