package kube

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kerngate/kerngate/userspace/control/gateway"
)

// Store finds the objects to which Ingresses refer. A nil object is one that is not there, or
// cannot be read: unreadable then says why.
type Store interface {
	Service(types.NamespacedName) *corev1.Service
	Secret(types.NamespacedName) (s *corev1.Secret, unreadable string)
	ConfigMap(types.NamespacedName) (c *corev1.ConfigMap, unreadable string)
	// Unnamed returns the objects that count without being named by an Ingress: Services that
	// are published by themselves (others may be among them), ConfigMaps that options name.
	Unnamed() Objects
	// Gateway returns all objects of Gateway API.
	Gateway() gateway.Objects
	Endpoints(service types.NamespacedName) []*discoveryv1.EndpointSlice
}

// reference is an object that routes, annotations or spec.tls of Ingresses name.
type reference struct {
	kind string
	name name // without a name: all objects of the kind in the namespace
}

// lookup asks a Store and remembers what was asked for, there or not: a change of anything
// else changes no translation.
type lookup struct {
	store Store
	used  map[reference]struct{}
}

func newLookup(s Store) lookup { return lookup{s, map[reference]struct{}{}} }

func (l lookup) service(n name) *corev1.Service {
	l.used[reference{"Service", n}] = struct{}{}
	return l.store.Service(n.namespaced())
}

func (l lookup) endpoints(n name) []*discoveryv1.EndpointSlice {
	return l.store.Endpoints(n.namespaced())
}

func (l lookup) secret(n name) (*corev1.Secret, error) {
	l.used[reference{"Secret", n}] = struct{}{}
	s, unreadable := l.store.Secret(n.namespaced())
	switch {
	case s != nil:
		return s, nil
	case unreadable != "":
		return nil, &secretError{"SecretUnreadable", fmt.Sprintf("Secret %s cannot be read: %s", n, unreadable)}
	}
	return nil, &secretError{"SecretNotFound", fmt.Sprintf("Secret %s does not exist", n)}
}

func (l lookup) configMap(n name) (map[string]string, error) {
	l.used[reference{"ConfigMap", n}] = struct{}{}
	c, unreadable := l.store.ConfigMap(n.namespaced())
	switch {
	case c != nil:
		return c.Data, nil
	case unreadable != "":
		return nil, fmt.Errorf("ConfigMap %s cannot be read: %s", n, unreadable)
	}
	return nil, fmt.Errorf("ConfigMap %s does not exist", n)
}

// index is the Store of a list of objects.
type index struct {
	services   map[name]*corev1.Service
	secrets    map[name]*corev1.Secret
	configMaps map[name]*corev1.ConfigMap
	slices     map[name][]*discoveryv1.EndpointSlice // by Service
	objects    Objects
}

func newIndex(objects Objects) *index {
	i := &index{
		services:   make(map[name]*corev1.Service, len(objects.Services)),
		secrets:    make(map[name]*corev1.Secret, len(objects.Secrets)),
		configMaps: make(map[name]*corev1.ConfigMap, len(objects.ConfigMaps)),
		slices:     make(map[name][]*discoveryv1.EndpointSlice, len(objects.Slices)),
		objects:    objects,
	}
	for _, o := range objects.Slices {
		if service, ok := ServiceOf(o); ok {
			n := nameFrom(service)
			i.slices[n] = append(i.slices[n], o)
		}
	}
	for _, o := range objects.Services {
		i.services[nameOf(o)] = o
	}
	for _, o := range objects.Secrets {
		i.secrets[nameOf(o)] = o
	}
	for _, o := range objects.ConfigMaps {
		i.configMaps[nameOf(o)] = o
	}
	return i
}

// Unnamed is of Store.
func (i *index) Unnamed() Objects { return i.objects }

// Gateway is of Store.
func (i *index) Gateway() gateway.Objects { return i.objects.Gateway }

// Endpoints is of Store.
func (i *index) Endpoints(n types.NamespacedName) []*discoveryv1.EndpointSlice {
	return i.slices[nameFrom(n)]
}

// Service is of Store.
func (i *index) Service(n types.NamespacedName) *corev1.Service { return i.services[nameFrom(n)] }

// Secret is of Store.
func (i *index) Secret(n types.NamespacedName) (*corev1.Secret, string) {
	return i.secrets[nameFrom(n)], i.objects.SecretsUnreadable[n.Namespace]
}

// ConfigMap is of Store.
func (i *index) ConfigMap(n types.NamespacedName) (*corev1.ConfigMap, string) {
	return i.configMaps[nameFrom(n)], i.objects.ConfigMapsUnreadable[n.String()]
}
