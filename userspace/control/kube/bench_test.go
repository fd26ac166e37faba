package kube

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/control/compile"
	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/proxy/config"
)

// manyObjects returns n Ingresses, each with a host, a Service and a pod of its own.
func manyObjects(n int) (o Objects) {
	class, prefix := "kerngate", networkingv1.PathTypePrefix
	o.Classes = []*networkingv1.IngressClass{{ObjectMeta: metav1.ObjectMeta{Name: class}, Spec: networkingv1.IngressClassSpec{Controller: Controller}}}
	ready, port, portName := true, int32(8080), "http"
	for i := range n {
		meta := metav1.ObjectMeta{Namespace: fmt.Sprintf("team-%d", i%100), Name: fmt.Sprintf("app-%d", i)}
		withRules := meta
		withRules.Annotations = map[string]string{
			ingressnginx.Prefix + "proxy-body-size":    "8m",
			ingressnginx.Prefix + "proxy-read-timeout": "120",
			ingressnginx.Prefix + "enable-cors":        "true",
		}
		backend := networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: meta.Name, Port: networkingv1.ServiceBackendPort{Number: 80}}}
		o.Ingresses = append(o.Ingresses, &networkingv1.Ingress{ObjectMeta: withRules, Spec: networkingv1.IngressSpec{
			IngressClassName: &class,
			Rules: []networkingv1.IngressRule{{Host: fmt.Sprintf("app-%d.example.com", i), IngressRuleValue: networkingv1.IngressRuleValue{
				HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{
					{Path: "/", PathType: &prefix, Backend: backend}, {Path: "/api", PathType: &prefix, Backend: backend},
				}},
			}}},
		}})
		o.Services = append(o.Services, &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: portName, Port: 80}}}})
		slice := meta
		slice.Labels = map[string]string{discoveryv1.LabelServiceName: meta.Name}
		o.Slices = append(o.Slices, &discoveryv1.EndpointSlice{ObjectMeta: slice, AddressType: discoveryv1.AddressTypeIPv4,
			Ports:     []discoveryv1.EndpointPort{{Name: &portName, Port: &port}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{fmt.Sprintf("10.%d.%d.1", i/250, i%250)}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		})
	}
	return o
}

func BenchmarkStages(b *testing.B) {
	for _, n := range []int{5000, 20000} {
		o := manyObjects(n)
		options := Options{Class: "kerngate", Node: "n"}
		m, problems := Translate(o, options)
		if len(m.Hosts) != n || len(problems) > 0 {
			b.Fatal(len(m.Hosts), problems[:3])
		}
		b.Run(fmt.Sprintf("translate/%d", n), func(b *testing.B) {
			for b.Loop() {
				Translate(o, options)
			}
		})
		b.Run(fmt.Sprintf("update/%d", n), func(b *testing.B) {
			t := NewTranslator(options)
			t.Replace(o)
			t.Update()
			for b.Loop() {
				changed := o.Ingresses[0].DeepCopy()
				t.routes.set(changed)
				if u, ok := t.Update(); !ok || len(u.Changed.Hosts) != 1 || u.Changed.Services || u.Changed.Trust {
					b.Fatal(ok, u.Changed)
				}
			}
		})
		index := map[string]state.ServiceID{}
		for i, s := range m.Services {
			index[s.Key.String()] = state.ServiceID(i + 1)
		}
		ids := func(name string) (state.ServiceID, bool) { id, ok := index[name]; return id, ok }
		common := compile.Common{Settings: &feedpb.Settings{}}
		first := compile.Route(&m, ids, common, nil, nil, nil)
		b.Run(fmt.Sprintf("route/%d", n), func(b *testing.B) {
			for b.Loop() {
				compile.Route(&m, ids, common, nil, first, nil)
			}
		})
		b.Run(fmt.Sprintf("routeOne/%d", n), func(b *testing.B) {
			changed := &model.Changed{Hosts: []string{m.Hosts[0].Name}}
			for b.Loop() {
				first.Delta(compile.Route(&m, ids, common, nil, first, changed), 2)
			}
		})
		b.Run(fmt.Sprintf("delta/%d", n), func(b *testing.B) {
			next := compile.Route(&m, ids, common, nil, first, nil)
			for b.Loop() {
				first.Delta(next, 2)
			}
		})
		b.Run(fmt.Sprintf("state/%d", n), func(b *testing.B) {
			for b.Loop() {
				compile.State(&m, compile.Node{})
			}
		})
		snap, err := config.Empty().Apply(first.Snapshot(1))
		if err != nil {
			b.Fatal(err)
		}
		delta := &feedpb.Config{Version: 2, Hosts: first.Snapshot(1).Hosts[:1]}
		b.Run(fmt.Sprintf("proxy/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := snap.Apply(delta); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
