package kube

import (
	"bytes"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
)

// watchedSecrets are watched by namespace. Of each Secret only what usedKeys names is kept,
// and Secrets that cannot hold what is looked for, and of which there can be many and large
// ones, are never sent to the agent.
var watchedSecrets = watchedKind{
	kind: "Secret", plural: "Secrets", role: "kerngate-secrets",
	selector: "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token,type!=kubernetes.io/dockerconfigjson,type!=bootstrap.kubernetes.io/token",
	informer: func(f informers.SharedInformerFactory) cache.SharedIndexInformer {
		return f.Core().V1().Secrets().Informer()
	},
	same: func(before, after metav1.Object) bool {
		a, b := before.(*corev1.Secret), after.(*corev1.Secret)
		return a.UID == b.UID && maps.EqualFunc(a.Data, b.Data, bytes.Equal)
	},
}

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
