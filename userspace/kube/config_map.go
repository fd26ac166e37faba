package kube

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/kerngate/kerngate/userspace/ingressnginx"
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

// configMapNames returns the ConfigMaps that annotations of Ingresses name.
func configMapNames(served []*networkingv1.Ingress) map[name]bool {
	names := map[name]bool{}
	for _, ingress := range served {
		for _, config := range ingressnginx.ConfigMaps(ingress.Namespace, ingress.Annotations) {
			if len(names) < maxConfigMaps {
				names[name{ingress.Namespace, config}] = true
			}
		}
	}
	return names
}

// configMaps looks up ConfigMaps.
type configMaps struct {
	all        map[name]*corev1.ConfigMap
	unreadable map[string]string // why they cannot be read, by "namespace/name"
	used       map[name]struct{}
}

func newConfigMaps(objects Objects) configMaps {
	c := configMaps{
		all:        make(map[name]*corev1.ConfigMap, len(objects.ConfigMaps)),
		unreadable: objects.ConfigMapsUnreadable,
		used:       map[name]struct{}{},
	}
	for _, config := range objects.ConfigMaps {
		c.all[nameOf(config)] = config
	}
	return c
}

// ConfigMap returns the data of a ConfigMap in the Ingress's namespace.
func (r references) ConfigMap(config string) (map[string]string, error) {
	n := name{r.namespace, config}
	r.configMaps.used[n] = struct{}{}
	if found := r.configMaps.all[n]; found != nil {
		return found.Data, nil
	}
	if why := r.configMaps.unreadable[n.String()]; why != "" {
		return nil, fmt.Errorf("ConfigMap %s cannot be read: %s", n, why)
	}
	if len(r.configMaps.used) > maxConfigMaps {
		return nil, fmt.Errorf("ConfigMap %s is not read: Ingresses name more than %d", n, maxConfigMaps)
	}
	return nil, fmt.Errorf("ConfigMap %s does not exist", n)
}

// withReferenced adds the ConfigMaps that annotations name to those that options do.
func withReferenced(w *watches, known []*corev1.ConfigMap) (all []*corev1.ConfigMap, unreadable map[string]string) {
	all, unreadable = slices.Clone(known), map[string]string{}
	for n, why := range w.list(func(o any) {
		config := o.(*corev1.ConfigMap)
		if !slices.ContainsFunc(known, func(c *corev1.ConfigMap) bool { return nameOf(c) == nameOf(config) }) {
			all = append(all, config)
		}
	}) {
		unreadable[n.String()] = why
	}
	return all, unreadable
}
