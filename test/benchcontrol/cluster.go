//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kerngate/kerngate/test/controlplane"
	"github.com/kerngate/kerngate/test/lab"
)

// cluster is a real API server, on the node's loopback.
type cluster struct {
	k      *lab.Kerngate
	plane  *controlplane.Plane
	client kubernetes.Interface
	dir    string
}

func newCluster(l *lab.Lab, k *lab.Kerngate) (source, error) {
	if err := controlplane.Missing(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(l.Dir, "plane-")
	if err != nil {
		return nil, err
	}
	c := &cluster{k: k, dir: dir}
	c.plane, err = controlplane.StartIn(dir, controlplane.Place{
		Dial: k.Node.Dial,
		Run: func(name, path string, args ...string) (controlplane.Running, error) {
			return k.Node.Start(lab.Command{Name: name, Path: path, Args: args})
		},
	})
	if err != nil {
		return nil, err
	}
	k.Kubeconfig = c.plane.Kubeconfig()
	c.client, err = kubernetes.NewForConfig(c.plane.Config)
	return c, err
}

func (c *cluster) name() string   { return "API server" }
func (c *cluster) args() []string { return []string{"--run-proxy"} }
func (c *cluster) stop()          { c.plane.Stop() }

func (c *cluster) fill(ctx context.Context, n int) error {
	class := as[networkingv1.IngressClass](lab.IngressClass())
	if _, err := c.client.NetworkingV1().IngressClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil {
		return err
	}
	pod := c.k.Node.Pods[0].Endpoint(false)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(32)
	group.Go(func() error { return c.publish(ctx, "stable", stableHost) })
	for i := range n {
		group.Go(func() error {
			service := fmt.Sprintf("web-%d", i/perService)
			if i%perService == 0 {
				s := as[corev1.Service](lab.Service(service))
				s.Spec.ClusterIP, s.Spec.Selector = "None", nil // nobody but the slice below says what its endpoints are
				if _, err := c.client.CoreV1().Services("default").Create(ctx, s, metav1.CreateOptions{}); err != nil {
					return err
				}
				slice := as[discoveryv1.EndpointSlice](lab.EndpointSlice(service, pod))
				if _, err := c.client.DiscoveryV1().EndpointSlices("default").Create(ctx, slice, metav1.CreateOptions{}); err != nil {
					return err
				}
			}
			return c.create(ctx, lab.Ingress(fmt.Sprintf("host-%d", i), lab.Path{Host: hostOf(i), Service: service}))
		})
	}
	return group.Wait()
}

func (c *cluster) publish(ctx context.Context, name, host string) error {
	return c.create(ctx, lab.Ingress(name, lab.Path{Host: host, Service: "web-0"}))
}

func (c *cluster) create(ctx context.Context, ingress lab.Object) error {
	_, err := c.client.NetworkingV1().Ingresses("default").Create(ctx, as[networkingv1.Ingress](ingress), metav1.CreateOptions{})
	return err
}

// as returns an object of the lab as one of the API's types.
func as[T any](object lab.Object) *T {
	raw, err := json.Marshal(object)
	out := new(T)
	if err == nil {
		err = json.Unmarshal(raw, out)
	}
	if err != nil {
		panic(err) // the lab makes valid objects
	}
	return out
}
