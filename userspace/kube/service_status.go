package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// writeServiceStatus gives Services of the load balancer class the addresses under which
// they are published. The class is ours, so nobody else writes their status.
func (r *Reporter) writeServiceStatus(ctx context.Context) error {
	r.cluster.mu.Lock()
	published := r.cluster.l4Status
	r.cluster.mu.Unlock()
	all, err := r.cluster.services.List(labels.Everything())
	if err != nil {
		return err
	}
	var errs []error
	for _, service := range all {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !isLoadBalancer(service) || service.DeletionTimestamp != nil {
			continue
		}
		want := loadBalancerStatus(published[refOf("Service", service)])
		if slices.EqualFunc(service.Status.LoadBalancer.Ingress, want, sameLoadBalancer) {
			continue
		}
		err := r.patchServiceStatus(ctx, service, want)
		switch {
		case apierrors.IsNotFound(err): // deleted meanwhile
		case apierrors.IsConflict(err): // changed meanwhile: the informer will tell
			r.signal()
		case err != nil:
			errs = append(errs, fmt.Errorf("status of Service %s: %w", nameOf(service), err))
			if len(errs) == 10 { // the API server is not well: the rest can wait
				return errors.Join(errs...)
			}
		}
	}
	return errors.Join(errs...)
}

func (r *Reporter) patchServiceStatus(ctx context.Context, service *corev1.Service, want []corev1.LoadBalancerIngress) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": service.ResourceVersion},
		"status":   map[string]any{"loadBalancer": map[string]any{"ingress": want}},
	})
	if err != nil {
		return err
	}
	_, err = r.client.CoreV1().Services(service.Namespace).
		Patch(ctx, service.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "kerngate"}, "status")
	if err == nil {
		r.Log.Info().Str("service", nameOf(service).String()).Int("addresses", len(want)).Msg("status written")
	}
	return err
}

// loadBalancerStatus returns addresses as a Service's status holds them. Mode Proxy keeps
// kube-proxy from taking packets to the address itself.
func loadBalancerStatus(addresses []netip.Addr) (out []corev1.LoadBalancerIngress) {
	mode := corev1.LoadBalancerIPModeProxy
	for _, a := range addresses {
		out = append(out, corev1.LoadBalancerIngress{IP: a.String(), IPMode: &mode})
	}
	return out
}

func sameLoadBalancer(a, b corev1.LoadBalancerIngress) bool {
	mode := func(i corev1.LoadBalancerIngress) corev1.LoadBalancerIPMode {
		if i.IPMode == nil {
			return ""
		}
		return *i.IPMode
	}
	return a.IP == b.IP && a.Hostname == b.Hostname && mode(a) == mode(b)
}
