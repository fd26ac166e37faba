package report

import (
	"context"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/control/owner"
)

// services is the kind Service: those of the load balancer class have the addresses under which they
// are published, and a condition that says whether all of their ports are.
func (r *Reporter) services() kind[*corev1.Service] {
	return kind[*corev1.Service]{
		name: "Service",
		list: r.cluster.Services,
		next: func(service *corev1.Service, said said) (any, bool) {
			status := map[string]any{}
			if kube.IsLoadBalancer(service) && service.DeletionTimestamp == nil {
				want, changed := nextServiceStatus(service.Status.LoadBalancer.Ingress, loadBalancerStatus(said.addresses),
					owner.Of(service.ManagedFields, owner.Manager(r.Class)))
				if changed {
					status["loadBalancer"] = map[string]any{"ingress": want}
				}
			}
			if want, changed := nextConditions(service.Status.Conditions, said.findings, service.Generation, r.now()); changed {
				status["conditions"] = want
			}
			return status, len(status) > 0
		},
		patch: func(ctx context.Context, service *corev1.Service, patch []byte, o metav1.PatchOptions) error {
			_, err := r.client.CoreV1().Services(service.Namespace).Patch(ctx, service.Name, types.MergePatchType, patch, o, "status")
			return err
		},
	}
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
func nextServiceStatus(have, ours []corev1.LoadBalancerIngress, author owner.Author) (want []corev1.LoadBalancerIngress, changed bool) {
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
	foreign := author == owner.Others && len(ours) > 0
	return want, !all || len(have) != len(ours) && !foreign
}
