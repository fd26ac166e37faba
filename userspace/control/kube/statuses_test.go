package kube

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kerngate/kerngate/userspace/model"
)

// TestStatuses: each object is told where it is published, and a Service whether all of it is.
func TestStatuses(t *testing.T) {
	address := netip.MustParseAddr("192.0.2.10")
	addresses := []netip.Addr{address}
	class := LoadBalancerClass
	service := func(name string, age int64, ports ...int32) *corev1.Service {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, CreationTimestamp: metav1.Unix(1000-age, 0)},
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &class}}
		for _, p := range ports {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: p, Protocol: corev1.ProtocolTCP})
		}
		return s
	}
	ingress := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "app"}, Spec: networkingv1.IngressSpec{IngressClassName: new("kerngate")}}
	foreign := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "foreign"}, Spec: networkingv1.IngressSpec{IngressClassName: new("other")}}
	objects := Objects{
		Ingresses: []*networkingv1.Ingress{ingress, foreign},
		Services:  []*corev1.Service{service("whole", 3, 5432), service("partly", 2, 5432, 5433), service("none", 1, 80), {ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "plain"}}},
	}
	options := Options{Class: "kerngate", ClassOptional: true, Addresses: addresses, Listeners: model.IngressListeners(addresses, 80, 0, false)}
	translator := NewTranslator(options)
	translator.Replace(objects)
	u, _ := translator.Update()
	ref := func(kind, name string) model.ObjectRef {
		return model.ObjectRef{Kind: kind, Namespace: "ns", Name: name}
	}
	conflict := func(name, message string) model.Finding {
		return model.Finding{Object: ref("Service", name), Condition: model.ConditionPublished, Reason: "ListenerConflict", Message: message}
	}
	want := model.Statuses{
		Published: []model.Published{{Object: ref("Ingress", "app"), Addresses: addresses}, {Object: ref("Service", "partly"), Addresses: addresses}, {Object: ref("Service", "whole"), Addresses: addresses}},
		Findings: []model.Finding{
			conflict("none", "192.0.2.10:80/tcp is the proxy's own: choose another port, or --http-port and --https-port"),
			conflict("partly", "192.0.2.10:5432/tcp is already taken by Service ns/whole: choose another port or address"),
			{Object: ref("Service", "whole"), Condition: model.ConditionPublished, True: true, Reason: "Published", Message: "every port is published"},
		},
	}
	compare := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if diff := cmp.Diff(want, u.Statuses, compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// What goes away takes its status along, whatever else there is.
	objects.Services, objects.Ingresses = objects.Services[1:2], nil
	translator.Replace(objects)
	u, _ = translator.Update()
	want = model.Statuses{
		Published: []model.Published{{Object: ref("Service", "partly"), Addresses: addresses}},
		Findings:  []model.Finding{{Object: ref("Service", "partly"), Condition: model.ConditionPublished, True: true, Reason: "Published", Message: "every port is published"}},
	}
	if diff := cmp.Diff(want, u.Statuses, compare); diff != "" {
		t.Errorf("afterwards (-want +got):\n%s", diff)
	}
}
