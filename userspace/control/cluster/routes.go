package cluster

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kerngate/kerngate/userspace/control/gateway"
	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/model"
)

// A Cluster is the store of its Translator.

func (c *Source) Service(n name) *corev1.Service {
	s, err := c.services.Services(n.Namespace).Get(n.Name)
	if err != nil {
		return nil
	}
	return s
}

func (c *Source) Secret(n name) (*corev1.Secret, string) {
	found, unreadable := c.secrets.find(n)
	s, _ := found.(*corev1.Secret)
	return s, unreadable
}

func (c *Source) ConfigMap(n name) (*corev1.ConfigMap, string) {
	for _, lister := range c.configs {
		if found, err := lister.ConfigMaps(n.Namespace).Get(n.Name); err == nil {
			return found, ""
		}
	}
	found, unreadable := c.named.find(n)
	m, _ := found.(*corev1.ConfigMap)
	if m == nil && unreadable == "" && !c.named.watching(n) {
		unreadable = fmt.Sprintf("Ingresses name more than %d", maxConfigMaps)
	}
	return m, unreadable
}

func (c *Source) Unnamed() kube.Objects {
	services, err := c.services.List(labels.Everything())
	if err != nil {
		c.log.Error().Err(err).Msg("reading the list of Services") // of memory: cannot happen
	}
	unnamed := kube.Objects{Services: services, ConfigMaps: c.listConfigMaps()}
	unnamed.Gateway.Namespaces = c.namespaces()
	return c.options.Choose(unnamed)
}

// namespaces returns those that are known; none: objects of all are served.
func (c *Source) namespaces() []*corev1.Namespace {
	if c.spaces == nil {
		return nil
	}
	all, err := c.spaces.List(labels.Everything())
	if err != nil {
		c.log.Error().Err(err).Msg("reading the list of Namespaces") // of memory: cannot happen
	}
	return all
}

// chosen reports whether objects of a namespace are served.
func (c *Source) chosen(namespace string) bool {
	if c.spaces == nil {
		return true
	}
	n, err := c.spaces.Get(namespace)
	return err == nil && c.options.Chooses(namespace, n.Labels)
}

// Gateway returns nothing: in a cluster objects of Gateway API are not watched yet.
func (c *Source) Gateway() gateway.Objects { return gateway.Objects{} }

func (c *Source) Endpoints(n name) []*discoveryv1.EndpointSlice {
	found, err := c.slices.ByIndex(byService, n.String())
	if err != nil {
		c.log.Error().Err(err).Msg("reading the index of EndpointSlices") // made in New
	}
	endpoints := make([]*discoveryv1.EndpointSlice, 0, len(found))
	for _, o := range found {
		endpoints = append(endpoints, o.(*discoveryv1.EndpointSlice))
	}
	return endpoints
}

// translateRoutes translates what changes concern, and sends what is different by it.
func (c *Source) translateRoutes(ctx context.Context, r routeChanges) bool {
	c.note(r)
	if !c.watch(ctx) {
		return true // asked again when what Ingresses name has been listed
	}
	u, any := c.translator.Update()
	if !any {
		return true
	}
	defer c.current(ctx)
	return c.sendNews(ctx, u)
}

// translateServices translates the services whose endpoints have changed.
func (c *Source) translateServices(ctx context.Context, changed map[name]struct{}) bool {
	u, any := c.translator.EndpointsChanged(changed)
	return !any || c.sendNews(ctx, u)
}

// sendNews sends an update, and has the objects that it was made of kept.
func (c *Source) sendNews(ctx context.Context, u model.Update) bool {
	c.kept.changed()
	return c.send(ctx, u)
}

func (c *Source) send(ctx context.Context, u model.Update) bool {
	select {
	case c.updates <- u:
		return true
	case <-ctx.Done():
		return false
	}
}

// note tells the translator what has changed.
func (c *Source) note(r routeChanges) {
	t := c.translator
	if r.classes {
		classes, err := c.classes.List(labels.Everything())
		if err != nil {
			c.log.Error().Err(err).Msg("reading the list of IngressClasses") // of memory: cannot happen
		}
		t.SetClasses(classes)
	}
	if r.all {
		all, err := c.ingresses.List(labels.Everything())
		if err != nil {
			c.log.Error().Err(err).Msg("reading the list of Ingresses") // of memory: cannot happen
		}
		t.ReplaceIngresses(slices.DeleteFunc(all, func(i *networkingv1.Ingress) bool { return !c.chosen(i.Namespace) }))
	}
	for n := range r.ingresses {
		if ingress, err := c.ingresses.Ingresses(n.Namespace).Get(n.Name); err != nil || !c.chosen(n.Namespace) {
			t.RemoveIngress(n)
		} else {
			t.SetIngress(ingress)
		}
	}
	for ref := range r.referenced {
		t.Touch(ref.kind, ref.name)
	}
	if r.unnamed {
		t.TouchUnnamed()
	}
	if r.members {
		t.TouchMembers()
	}
}

// watch watches what Ingresses name. It reports whether all of it has been listed.
func (c *Source) watch(ctx context.Context) bool {
	secretsOf, configMaps := c.translator.Wants()
	namespaces, chosen := map[name]bool{}, map[name]bool{}
	for namespace := range secretsOf {
		namespaces[name{Namespace: namespace}] = true
	}
	// Those that are watched already go on being watched where there are too many.
	for n := range configMaps {
		if c.named.watching(n) {
			chosen[n] = true
		}
	}
	for n := range configMaps {
		if len(chosen) < maxConfigMaps {
			chosen[n] = true
		}
	}
	secrets := c.secrets.want(ctx, namespaces)
	return c.named.want(ctx, chosen) && secrets
}
