package kube

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// changes gathers what the informers tell until it is translated. Endpoint changes are
// due at once, route changes when they have calmed down.
type changes struct {
	wake chan struct{} // holds one value if there is something to look at

	mu          sync.Mutex
	services    map[name]struct{}      // whose endpoints have changed
	referenced  map[reference]struct{} // that have changed
	first, last time.Time              // of the route changes that wait; zero: none
}

func (c *changes) addService(n name) {
	c.mu.Lock()
	c.services[n] = struct{}{}
	c.mu.Unlock()
	c.signal()
}

// reference is an object that annotations or spec.tls of Ingresses name.
type reference struct {
	kind string
	name name
}

func (c *changes) addReferenced(r reference) {
	c.mu.Lock()
	c.referenced[r] = struct{}{}
	c.mu.Unlock()
	c.signal()
}

func (c *changes) addRoutes() {
	c.mu.Lock()
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

func (c *changes) takeReferenced() map[reference]struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.referenced
	if len(taken) > 0 {
		c.referenced = map[reference]struct{}{}
	}
	return taken
}

// takeRoutes reports whether route changes are due, and else how long to wait. Taking
// comes before reading the lists, so that what changes meanwhile is seen again.
func (c *changes) takeRoutes(now time.Time) (due bool, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first.IsZero() {
		return false, time.Hour
	}
	wait = min(quiet-now.Sub(c.last), maxDelay-now.Sub(c.first))
	if wait > 0 {
		return false, wait
	}
	c.first, c.last = time.Time{}, time.Time{}
	return true, time.Hour
}

// routesDiffer reports whether a change can change routes. Status updates, the agent's
// own among them, cannot.
func routesDiffer(before, after any) bool {
	switch after := after.(type) {
	case *networkingv1.Ingress:
		before, ok := before.(*networkingv1.Ingress)
		return !ok || before.UID != after.UID || !equality.Semantic.DeepEqual(before.Spec, after.Spec) ||
			!equality.Semantic.DeepEqual(before.Annotations, after.Annotations) ||
			(before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil)
	case *corev1.Service:
		before, ok := before.(*corev1.Service)
		return !ok || !equality.Semantic.DeepEqual(before.Spec, after.Spec) || !equality.Semantic.DeepEqual(before.Annotations, after.Annotations)
	case *networkingv1.IngressClass:
		before, ok := before.(*networkingv1.IngressClass)
		return !ok || !equality.Semantic.DeepEqual(before.Spec, after.Spec) || !equality.Semantic.DeepEqual(before.Annotations, after.Annotations)
	case *corev1.ConfigMap:
		before, ok := before.(*corev1.ConfigMap)
		return !ok || !equality.Semantic.DeepEqual(before.Data, after.Data)
	case *discoveryv1.EndpointSlice:
		return false
	}
	_, endpoints := before.(*discoveryv1.EndpointSlice)
	return !endpoints // something was deleted
}

func sameStatus(a, b *networkingv1.Ingress) bool {
	return equality.Semantic.DeepEqual(a.Status, b.Status)
}
