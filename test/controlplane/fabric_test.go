package controlplane

import (
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestFabric: the nodes of the fabric follow the endpoints of its Service, without an Ingress
// or a Service that would have anything else translated.
func TestFabric(t *testing.T) {
	s := newScene(t, "fabric")
	f := s.follow(plane.Config, "one")
	yes, no := true, false
	one, two := "node-1", "node-2"
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "fabric-4", Namespace: s.namespace, Labels: map[string]string{discoveryv1.LabelServiceName: "fabric"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"192.0.2.11"}, NodeName: &one, Conditions: discoveryv1.EndpointConditions{Ready: &yes}},
			{Addresses: []string{"192.0.2.12"}, NodeName: &two, Conditions: discoveryv1.EndpointConditions{Ready: &yes}},
		},
	}
	slices := s.client.DiscoveryV1().EndpointSlices(s.namespace)
	slice, err := slices.Create(t.Context(), slice, metav1.CreateOptions{})
	must(t, err)
	f.until(t, "both nodes", "node node-1 [192.0.2.11] serving\nnode node-2 [192.0.2.12] serving\n")
	slice.Endpoints[1].Conditions = discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}
	_, err = slices.Update(t.Context(), slice, metav1.UpdateOptions{})
	must(t, err)
	f.until(t, "one that drains", "node node-1 [192.0.2.11] serving\nnode node-2 [192.0.2.12] draining\n")
	must(t, slices.Delete(t.Context(), slice.Name, remove))
	f.until(t, "nobody", "")
}
