package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kerngate/kerngate/userspace/model"
)

// A Cluster is the store of its Translator.

func (c *Cluster) service(n name) *corev1.Service {
	s, err := c.services.Services(n.namespace).Get(n.name)
	if err != nil {
		return nil
	}
	return s
}

func (c *Cluster) secret(n name) (*corev1.Secret, string) {
	found, unreadable := c.secrets.find(n)
	s, _ := found.(*corev1.Secret)
	return s, unreadable
}

func (c *Cluster) configMap(n name) (*corev1.ConfigMap, string) {
	for _, lister := range c.configs {
		if found, err := lister.ConfigMaps(n.namespace).Get(n.name); err == nil {
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

func (c *Cluster) unnamed() Objects {
	services, err := c.services.List(labels.Everything())
	if err != nil {
		c.log.Error().Err(err).Msg("reading the list of Services") // of memory: cannot happen
	}
	return Objects{Services: services, ConfigMaps: c.listConfigMaps()}
}

func (c *Cluster) endpoints(n name) []*discoveryv1.EndpointSlice {
	found, err := c.slices.ByIndex(byService, n.String())
	if err != nil {
		c.log.Error().Err(err).Msg("reading the index of EndpointSlices") // made in NewCluster
	}
	endpoints := make([]*discoveryv1.EndpointSlice, 0, len(found))
	for _, o := range found {
		endpoints = append(endpoints, o.(*discoveryv1.EndpointSlice))
	}
	return endpoints
}

// translateRoutes translates what changes concern, and sends what is different by it.
func (c *Cluster) translateRoutes(ctx context.Context, r routeChanges) bool {
	c.note(r)
	if !c.watch(ctx) {
		return true // asked again when what Ingresses name has been listed
	}
	u, any := c.translator.Update()
	if !any {
		return true
	}
	return c.send(ctx, u)
}

// translateServices translates the services whose endpoints have changed.
func (c *Cluster) translateServices(ctx context.Context, changed map[name]struct{}) bool {
	u, any := c.translator.endpointsChanged(changed)
	return !any || c.send(ctx, u)
}

func (c *Cluster) send(ctx context.Context, u model.Update) bool {
	select {
	case c.updates <- u:
		return true
	case <-ctx.Done():
		return false
	}
}

// note tells the translator what has changed.
func (c *Cluster) note(r routeChanges) {
	t := c.translator
	if r.classes {
		classes, err := c.classes.List(labels.Everything())
		if err != nil {
			c.log.Error().Err(err).Msg("reading the list of IngressClasses") // of memory: cannot happen
		}
		t.routes.setClasses(classes)
	}
	if r.all {
		all, err := c.ingresses.List(labels.Everything())
		if err != nil {
			c.log.Error().Err(err).Msg("reading the list of Ingresses") // of memory: cannot happen
		}
		t.routes.replaceIngresses(all)
	}
	for n := range r.ingresses {
		if ingress, err := c.ingresses.Ingresses(n.namespace).Get(n.name); err != nil {
			t.routes.remove(n) // deleted
		} else {
			t.routes.set(ingress)
		}
	}
	for ref := range r.referenced {
		t.touch(ref)
	}
	if r.unnamed {
		t.routes.dissolve(t.routes.unnamed)
	}
	t.staleMembers = t.staleMembers || r.members
}

// watch watches what Ingresses name. It reports whether all of that has been listed.
func (c *Cluster) watch(ctx context.Context) bool {
	namespaces, configMaps := map[name]bool{}, map[name]bool{}
	if n, ok := cutName(c.options.DefaultCertificate); ok {
		namespaces[name{n.namespace, ""}] = true
	}
	for r := range c.translator.routes.wants {
		switch {
		case r.kind == "Secret":
			namespaces[r.name] = true
		case c.named.watching(r.name):
			configMaps[r.name] = true
		}
	}
	for r := range c.translator.routes.wants {
		if r.kind == "ConfigMap" && len(configMaps) < maxConfigMaps {
			configMaps[r.name] = true
		}
	}
	secrets := c.secrets.want(ctx, namespaces)
	return c.named.want(ctx, configMaps) && secrets
}
