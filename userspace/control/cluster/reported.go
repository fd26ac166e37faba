package cluster

import (
	"errors"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kerngate/kerngate/userspace/model"
)

// Ingresses returns all that are in the cluster, of whichever class.
func (c *Source) Ingresses() ([]*networkingv1.Ingress, error) {
	return c.ingresses.List(labels.Everything())
}

// Services returns all that are in the cluster.
func (c *Source) Services() ([]*corev1.Service, error) { return c.services.List(labels.Everything()) }

// IngressClass returns the class of a name.
func (c *Source) IngressClass(name string) (*networkingv1.IngressClass, error) {
	return c.classes.Get(name)
}

// OnStatus has f called when the status of an object may have changed.
func (c *Source) OnStatus(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onStatus = f
}

var errNotInCluster = errors.New("not an object of the cluster")

// Reference names an object as events need it: with its UID.
func (c *Source) Reference(ref model.ObjectRef) (runtime.Object, error) {
	out := &corev1.ObjectReference{Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}
	var meta metav1.Object
	var err error
	switch ref.Kind {
	case "Ingress":
		out.APIVersion = "networking.k8s.io/v1"
		meta, err = c.ingresses.Ingresses(ref.Namespace).Get(ref.Name)
	case "IngressClass":
		out.APIVersion = "networking.k8s.io/v1"
		meta, err = c.classes.Get(ref.Name)
	case "Service":
		out.APIVersion = "v1"
		meta, err = c.services.Services(ref.Namespace).Get(ref.Name)
	case "Secret":
		out.APIVersion = "v1"
		meta, err = c.secrets.get(name{Namespace: ref.Namespace, Name: ref.Name})
	case "ConfigMap":
		out.APIVersion = "v1"
		meta, err = c.named.get(name{Namespace: ref.Namespace, Name: ref.Name})
		for _, config := range c.listConfigMaps() {
			if nameOf(config) == (name{Namespace: ref.Namespace, Name: ref.Name}) {
				meta, err = config, nil
			}
		}
	case "EndpointSlice":
		out.APIVersion = "discovery.k8s.io/v1"
		o, exists, indexErr := c.slices.GetByKey(ref.Namespace + "/" + ref.Name)
		if err = indexErr; err == nil && !exists {
			err = errNotInCluster
		}
		if err == nil {
			meta = o.(metav1.Object)
		}
	default:
		err = errNotInCluster
	}
	if err != nil {
		return nil, err
	}
	out.UID, out.ResourceVersion = meta.GetUID(), meta.GetResourceVersion()
	return out, nil
}
