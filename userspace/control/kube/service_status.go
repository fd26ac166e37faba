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
// they are published. The class is ours; others may still add to what we write.
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
		want, changed := nextServiceStatus(service.Status.LoadBalancer.Ingress, loadBalancerStatus(published[refOf("Service", service)]),
			writtenBy(service.ManagedFields, managerOf(r.Class)))
		if !changed {
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
		Patch(ctx, service.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: managerOf(r.Class)}, "status")
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

// nextServiceStatus is nextStatus for a Service of our load balancer class: it is always
// ours to publish, but a list of somebody else's that has our addresses stays as it is, and
// entries keep what others have added to them.
func nextServiceStatus(have, ours []corev1.LoadBalancerIngress, author authorship) (want []corev1.LoadBalancerIngress, changed bool) {
	all := true
	for _, entry := range ours {
		i := slices.IndexFunc(have, func(h corev1.LoadBalancerIngress) bool { return h.IP == entry.IP })
		if i < 0 {
			all = false
			want = append(want, entry)
			continue
		}
		there := have[i]
		if there.IPMode == nil || *there.IPMode != *entry.IPMode {
			all = false
			there.IPMode = entry.IPMode
		}
		want = append(want, there)
	}
	foreign := author == byOthers && len(ours) > 0
	return want, !all || len(have) != len(ours) && !foreign
}
