package cluster

import (
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kerngate/kerngate/userspace/control/kube"
)

// changes gathers what the informers tell until it is translated. Endpoint changes are
// due at once, route changes when they have calmed down.
type changes struct {
	wake chan struct{} // holds one value if there is something to look at

	mu          sync.Mutex
	services    map[name]struct{} // whose endpoints have changed
	routes      routeChanges
	first, last time.Time // of the route changes that wait; zero: none
}

// routeChanges are those after which routes are translated again.
type routeChanges struct {
	all        bool // whatever there is: handlers may not have been called yet
	ingresses  map[name]struct{}
	referenced map[reference]struct{} // which routes, annotations or spec.tls may name
	classes    bool                   // any IngressClass
	unnamed    bool                   // anything that counts without an Ingress naming it
	members    bool                   // the nodes of the fabric, or those with proxies
}

func newRouteChanges() routeChanges {
	return routeChanges{ingresses: map[name]struct{}{}, referenced: map[reference]struct{}{}}
}

func newChanges() changes {
	return changes{wake: make(chan struct{}, 1), services: map[name]struct{}{}, routes: newRouteChanges()}
}

func (c *changes) addService(n name) {
	c.mu.Lock()
	c.services[n] = struct{}{}
	c.mu.Unlock()
	c.signal()
}

func (c *changes) addReferenced(r reference) {
	c.add(func(to *routeChanges) { to.referenced[r] = struct{}{} })
}

// add notes route changes.
func (c *changes) add(note func(*routeChanges)) {
	c.mu.Lock()
	note(&c.routes)
	c.last = time.Now()
	if c.first.IsZero() {
		c.first = c.last
	}
	c.mu.Unlock()
	c.signal()
}

func (c *changes) signal() {
	select {
	case c.wake <- struct{}{}:
	default: // it will look anyway
	}
}

func (c *changes) takeServices() map[name]struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.services
	if len(taken) > 0 {
		c.services = map[name]struct{}{}
	}
	return taken
}

// takeRoutes reports whether route changes are due, and else how long to wait. Taking
// comes before reading the lists, so that what changes meanwhile is seen again.
func (c *changes) takeRoutes(now time.Time) (taken routeChanges, due bool, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first.IsZero() {
		return taken, false, time.Hour
	}
	wait = min(quiet-now.Sub(c.last), maxDelay-now.Sub(c.first))
	if wait > 0 {
		return taken, false, wait
	}
	c.first, c.last = time.Time{}, time.Time{}
	taken, c.routes = c.routes, newRouteChanges()
	return taken, true, time.Hour
}

// routesDiffer reports whether a change can change routes. Status updates, the agent's
// own among them, cannot.
func routesDiffer(before, after any) bool {
	switch after := after.(type) {
	case *networkingv1.Ingress:
		before, ok := before.(*networkingv1.Ingress)
		return !ok || metaDiffers(before, after) || !equality.Semantic.DeepEqual(before.Spec, after.Spec)
	case *corev1.Service:
		before, ok := before.(*corev1.Service)
		return !ok || metaDiffers(before, after) || !equality.Semantic.DeepEqual(before.Spec, after.Spec)
	case *networkingv1.IngressClass:
		before, ok := before.(*networkingv1.IngressClass)
		return !ok || metaDiffers(before, after) || !equality.Semantic.DeepEqual(before.Spec, after.Spec)
	case *corev1.ConfigMap:
		before, ok := before.(*corev1.ConfigMap)
		return !ok || !equality.Semantic.DeepEqual(before.Data, after.Data)
	case *corev1.Namespace:
		before, ok := before.(*corev1.Namespace)
		return !ok || !maps.Equal(before.Labels, after.Labels)
	case *discoveryv1.EndpointSlice:
		return false
	}
	_, endpoints := before.(*discoveryv1.EndpointSlice)
	return !endpoints // something was deleted
}

// metaDiffers reports whether translation could tell two versions of an object apart by what is
// not their spec: by annotations, by age (another object of the name has another UID), or since
// one is about to be deleted.
func metaDiffers(before, after metav1.Object) bool {
	return before.GetUID() != after.GetUID() || !maps.Equal(before.GetAnnotations(), after.GetAnnotations()) ||
		(before.GetDeletionTimestamp() == nil) != (after.GetDeletionTimestamp() == nil)
}

// publishes reports whether an object is a Service that is published by itself, without
// being named by anything else.
func publishes(o any) bool {
	service, ok := o.(*corev1.Service)
	return ok && kube.IsLoadBalancer(service)
}

func sameStatus(a, b *networkingv1.Ingress) bool {
	return equality.Semantic.DeepEqual(a.Status, b.Status)
}
