package cluster

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"

	"github.com/kerngate/kerngate/userspace/control/kube"
)

// watchConfigMaps adds informers for the ConfigMaps that the options name. Each watches
// that one object: the agent needs no right to read others.
func (c *Source) watchConfigMaps(client kubernetes.Interface) {
	names := []string{c.options.TCPServices, c.options.UDPServices, c.options.Defence, c.options.IngressNginx}
	slices.Sort(names)
	for _, n := range slices.Compact(names) {
		namespace, config, ok := strings.Cut(n, "/")
		if !ok {
			continue
		}
		factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(kube.Slim), informers.WithNamespace(namespace),
			informers.WithTweakListOptions(func(o *metav1.ListOptions) {
				o.FieldSelector = fields.OneTermEqualSelector("metadata.name", config).String()
			}))
		maps := factory.Core().V1().ConfigMaps()
		c.configs = append(c.configs, maps.Lister())
		c.informers = append(c.informers, watched{"configmaps " + n, maps.Informer(), factory})
	}
}

func (c *Source) listConfigMaps() (out []*corev1.ConfigMap) {
	for _, lister := range c.configs {
		found, err := lister.List(labels.Everything())
		if err != nil {
			c.log.Error().Err(err).Msg("reading the list of ConfigMaps") // of memory: cannot happen
		}
		out = append(out, found...)
	}
	return out
}
