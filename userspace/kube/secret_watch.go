package kube

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/kerngate/kerngate/userspace/ingressnginx"
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

// secretNamespaces returns where the Secrets are that a translation will look for.
func secretNamespaces(served []*networkingv1.Ingress, o Options) map[name]bool {
	namespaces := map[name]bool{}
	if namespace, _, ok := strings.Cut(o.DefaultCertificate, "/"); ok {
		namespaces[name{namespace, ""}] = true
	}
	for _, ingress := range served {
		if slices.ContainsFunc(ingress.Spec.TLS, func(e networkingv1.IngressTLS) bool { return e.SecretName != "" }) ||
			slices.ContainsFunc(secretAnnotations, func(key string) bool { return ingress.Annotations[key] != "" }) {
			namespaces[name{ingress.Namespace, ""}] = true
		}
	}
	return namespaces
}

// listSecrets returns the Secrets, and why those of namespaces cannot be had.
func listSecrets(w *watches) (all []*corev1.Secret, unreadable map[string]string) {
	unreadable = map[string]string{}
	for n, why := range w.list(func(o any) { all = append(all, o.(*corev1.Secret)) }) {
		unreadable[n.namespace] = why
	}
	return all, unreadable
}
