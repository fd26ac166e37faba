package cluster

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// maxConfigMaps bounds how many ConfigMaps are watched for annotations: each takes a watch
// of its own, so that no other is read.
const maxConfigMaps = 1000

// watchedConfigMaps are watched one by one.
var watchedConfigMaps = watchedKind{
	kind: "ConfigMap", plural: "ConfigMaps", role: "kerngate-configmaps",
	informer: func(f informers.SharedInformerFactory) cache.SharedIndexInformer {
		return f.Core().V1().ConfigMaps().Informer()
	},
	same: func(before, after metav1.Object) bool {
		a, b := before.(*corev1.ConfigMap), after.(*corev1.ConfigMap)
		return a.UID == b.UID && maps.Equal(a.Data, b.Data)
	},
}
