package cluster

import (
	"bytes"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// watchedSecrets are watched by namespace. Of each Secret only what translation reads is kept,
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
