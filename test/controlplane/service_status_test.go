package controlplane

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/model"
)

// TestServiceStatus: a Service of the load balancer class has its address and a condition that says
// whether it is published. Others' conditions stay, and what is right is not written again.
func TestServiceStatus(t *testing.T) {
	s := newScene(t, "service-status")
	services := s.client.CoreV1().Services(s.namespace)
	class := kube.LoadBalancerClass
	publish := func(name string) {
		t.Helper()
		_, err := services.Create(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &class, Ports: []corev1.ServicePort{{Port: 54321}},
		}}, create)
		must(t, err)
		t.Cleanup(func() { services.Delete(context.Background(), name, remove) })
	}
	until := func(name, want string) (service *corev1.Service) {
		t.Helper()
		wait(t, "the status of "+name, func() (err error) {
			if service, err = services.Get(t.Context(), name, get); err != nil {
				return err
			}
			got := ""
			for _, a := range service.Status.LoadBalancer.Ingress {
				got += a.IP + " "
			}
			for _, c := range service.Status.Conditions {
				got += fmt.Sprintf("%s=%s(%s) ", c.Type, c.Status, c.Reason)
			}
			if got != want {
				return fmt.Errorf("%q, want %q", got, want)
			}
			return nil
		})
		return service
	}
	publish("first")
	f := s.follow(plane.Config, "one")
	service := until("first", "192.0.2.10 kerngate.dev/Published=True(Published) ")

	service.Status.Conditions = append(service.Status.Conditions, metav1.Condition{Type: "example.com/Checked", Status: "True", Reason: "Checked", LastTransitionTime: metav1.Now()})
	service, err := services.UpdateStatus(t.Context(), service, metav1.UpdateOptions{FieldManager: "somebody"})
	must(t, err)
	publish("second")
	until("second", "kerngate.dev/Published=False(ListenerConflict) ") // all have been looked at
	f.untilQuiet()
	if now := until("first", "192.0.2.10 kerngate.dev/Published=True(Published) example.com/Checked=True(Checked) "); now.ResourceVersion != service.ResourceVersion {
		t.Errorf("a status that was right was written again: %+v", now.Status)
	}

	must(t, services.Delete(t.Context(), "first", remove))
	until("second", "192.0.2.10 "+model.ConditionPublished+"=True(Published) ")
}
