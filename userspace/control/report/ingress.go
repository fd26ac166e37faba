package report

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/control/owner"
)

// ingresses is the kind Ingress: those that are served have the ingress addresses, and those that are
// served no more lose them, as far as an agent of this class wrote them.
func (r *Reporter) ingresses() kind[*networkingv1.Ingress] {
	return kind[*networkingv1.Ingress]{
		name: "Ingress",
		list: r.cluster.Ingresses,
		next: func(ingress *networkingv1.Ingress, said said) (any, bool) {
			author := owner.Of(ingress.ManagedFields, owner.Manager(r.Class))
			want, changed := nextStatus(ingress.Status.LoadBalancer.Ingress, statusOf(said.addressesOr(r.Addresses)), author,
				said.published, r.ofAnotherKerngate(ingress))
			return map[string]any{"loadBalancer": map[string]any{"ingress": want}}, changed
		},
		patch: func(ctx context.Context, ingress *networkingv1.Ingress, patch []byte, o metav1.PatchOptions) error {
			_, err := r.client.NetworkingV1().Ingresses(ingress.Namespace).Patch(ctx, ingress.Name, types.MergePatchType, patch, o, "status")
			return err
		},
	}
}

// ofAnotherKerngate reports whether the Ingress asks for a class that another installation
// of Kerngate serves.
func (r *Reporter) ofAnotherKerngate(ingress *networkingv1.Ingress) bool {
	wanted := ingress.Annotations[kube.AnnotationClass]
	if ingress.Spec.IngressClassName != nil {
		wanted = *ingress.Spec.IngressClassName
	}
	if wanted == "" || wanted == r.Class {
		return false
	}
	class, err := r.cluster.IngressClass(wanted)
	return err == nil && class.Spec.Controller == kube.Controller
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

// nextStatus returns the addresses that an Ingress's status is to have, and whether that
// is another than it has.
//
// A served Ingress has ours. Where somebody else wrote the list and ours are in it, the list
// stays as it is; where it is replaced, an entry of our address keeps what others have added
// to it (hostname, ports). An Ingress that is not served loses only what we wrote: the
// same address may be another controller's, behind one load balancer or after a move.
func nextStatus(have, ours []networkingv1.IngressLoadBalancerIngress, author owner.Author, served, othersClass bool) (want []networkingv1.IngressLoadBalancerIngress, changed bool) {
	if !served {
		mine := author == owner.Us || author == owner.Legacy && !othersClass && len(ours) > 0 && sameIPs(have, ours)
		if mine && len(have) > 0 {
			return nil, true
		}
		return have, false
	}
	byIP := make(map[string]networkingv1.IngressLoadBalancerIngress, len(have))
	for _, entry := range have {
		byIP[entry.IP] = entry
	}
	all := true
	for _, entry := range ours {
		there, ok := byIP[entry.IP]
		if !ok {
			all = false
			there = entry
		}
		want = append(want, there)
	}
	if all && (len(have) == len(ours) || author == owner.Others) {
		return have, false
	}
	return want, true
}

// sameIPs reports whether both lists hold the same IPs in the same order, and the first
// nothing else.
func sameIPs(have, ours []networkingv1.IngressLoadBalancerIngress) bool {
	if len(have) != len(ours) {
		return false
	}
	for i := range have {
		if have[i].IP != ours[i].IP || have[i].Hostname != "" {
			return false
		}
	}
	return true
}
