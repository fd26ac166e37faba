package kube

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"

	"github.com/kerngate/kerngate/userspace/model"
)

// watchConfigMaps adds informers for the ConfigMaps that the options name. Each watches
// that one object: the agent needs no right to read others.
func (c *Cluster) watchConfigMaps(client kubernetes.Interface) {
	names := []string{c.options.TCPServices, c.options.UDPServices, c.options.Defence}
	slices.Sort(names)
	for _, n := range slices.Compact(names) {
		namespace, config, ok := strings.Cut(n, "/")
		if !ok {
			continue
		}
		factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(slim), informers.WithNamespace(namespace),
			informers.WithTweakListOptions(func(o *metav1.ListOptions) {
				o.FieldSelector = fields.OneTermEqualSelector("metadata.name", config).String()
			}))
		maps := factory.Core().V1().ConfigMaps()
		c.configs = append(c.configs, maps.Lister())
		c.informers = append(c.informers, watched{"configmaps " + n, maps.Informer(), factory})
	}
}

func (c *Cluster) listConfigMaps() (out []*corev1.ConfigMap) {
	for _, lister := range c.configs {
		found, err := lister.List(labels.Everything())
		if err != nil {
			c.log.Error().Err(err).Msg("reading the list of ConfigMaps") // of memory: cannot happen
		}
		out = append(out, found...)
	}
	return out
}

// translateAllL4 translates the L4 services and notes which Services they lead to.
func (c *Cluster) translateAllL4(t *translation) (out []model.L4Service) {
	c.l4 = map[name][]model.L4Service{}
	clear(c.l4Problems)
	for _, s := range t.l4() {
		n := name{s.Service.Namespace, s.Service.Name}
		c.l4[n] = append(c.l4[n], s)
		out = append(out, c.completeL4(s, t.services[n]))
	}
	addresses := l4Status(out)
	c.mu.Lock()
	c.l4Status = addresses
	c.mu.Unlock()
	return out
}

func (c *Cluster) completeL4(s model.L4Service, service *corev1.Service) model.L4Service {
	translated, wrong := completeL4(s, service, c.endpointsOf(name{s.Service.Namespace, s.Service.Name}), c.options)
	if delete(c.l4Problems, s.L4Key); len(wrong) > 0 {
		c.l4Problems[s.L4Key] = wrong
	}
	return translated
}
