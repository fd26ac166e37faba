package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kerngate/kerngate/userspace/model"
)

// writeStatus gives the served Ingresses the ingress addresses, and takes them from those
// that are served no more, as far as an agent of this class wrote them.
func (r *Reporter) writeStatus(ctx context.Context, served []model.ObjectRef) error {
	ours := statusOf(r.Addresses)
	isServed := make(map[model.ObjectRef]bool, len(served))
	for _, ref := range served {
		isServed[ref] = true
	}
	all, err := r.cluster.ingresses.List(labels.Everything())
	if err != nil {
		return err
	}
	var errs []error
	for _, ingress := range all {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		author := writtenBy(ingress.ManagedFields, managerOf(r.Class))
		want, changed := nextStatus(ingress.Status.LoadBalancer.Ingress, ours, author,
			isServed[refOf("Ingress", ingress)], r.ofAnotherKerngate(ingress))
		if !changed {
			continue
		}
		err := r.patchStatus(ctx, ingress, want)
		switch {
		case apierrors.IsNotFound(err): // deleted meanwhile
		case apierrors.IsConflict(err): // changed meanwhile: the informer will tell
			r.signal()
		case err != nil:
			errs = append(errs, fmt.Errorf("status of %s: %w", nameOf(ingress), err))
			if len(errs) == 10 { // the API server is not well: the rest can wait
				return errors.Join(errs...)
			}
		}
	}
	return errors.Join(errs...)
}

// ofAnotherKerngate reports whether the Ingress asks for a class that another installation
// of Kerngate serves.
func (r *Reporter) ofAnotherKerngate(ingress *networkingv1.Ingress) bool {
	wanted := ingress.Annotations[annotationClass]
	if ingress.Spec.IngressClassName != nil {
		wanted = *ingress.Spec.IngressClassName
	}
	if wanted == "" || wanted == r.Class {
		return false
	}
	class, err := r.cluster.classes.Get(wanted)
	return err == nil && class.Spec.Controller == Controller
}

func (r *Reporter) patchStatus(ctx context.Context, ingress *networkingv1.Ingress, want []networkingv1.IngressLoadBalancerIngress) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": ingress.ResourceVersion},
		"status":   map[string]any{"loadBalancer": map[string]any{"ingress": want}},
	})
	if err != nil {
		return err
	}
	_, err = r.client.NetworkingV1().Ingresses(ingress.Namespace).
		Patch(ctx, ingress.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: managerOf(r.Class)}, "status")
	if err == nil {
		r.Log.Info().Str("ingress", nameOf(ingress).String()).Int("addresses", len(want)).Msg("status written")
	}
	return err
}

// statusOf returns addresses as a status holds them, in a stable order.
func statusOf(addresses []netip.Addr) []networkingv1.IngressLoadBalancerIngress {
	var out []networkingv1.IngressLoadBalancerIngress
	for _, a := range addresses {
		out = append(out, networkingv1.IngressLoadBalancerIngress{IP: a.String()})
	}
	slices.SortFunc(out, func(a, b networkingv1.IngressLoadBalancerIngress) int { return strings.Compare(a.IP, b.IP) })
	return slices.CompactFunc(out, sameAddress)
}

func sameAddress(a, b networkingv1.IngressLoadBalancerIngress) bool {
	return a.IP == b.IP && a.Hostname == b.Hostname
}
