package kube

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// wrote is a managedFields entry of somebody who wrote a status.
func wrote(manager, fields string) metav1.ManagedFieldsEntry {
	return metav1.ManagedFieldsEntry{
		Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "networking.k8s.io/v1", FieldsType: "FieldsV1",
		FieldsV1: metav1.NewFieldsV1(fields), Subresource: "status",
	}
}

const addressFields = `{"f:status":{"f:loadBalancer":{"f:ingress":{}}}}`

func TestStatusWriters(t *testing.T) {
	spec := wrote("kubectl", `{"f:spec":{"f:rules":{}}}`)
	spec.Subresource = ""
	for _, c := range []struct {
		what   string
		fields []metav1.ManagedFieldsEntry
		want   authorship
	}{
		{"nobody", nil, byOthers},
		{"this class", []metav1.ManagedFieldsEntry{spec, wrote("kerngate-public", addressFields)}, byUs},
		{"an older agent", []metav1.ManagedFieldsEntry{wrote("kerngate", addressFields)}, byLegacy},
		{"an agent without a manager name", []metav1.ManagedFieldsEntry{wrote("kerngate-agent", addressFields)}, byLegacy},
		{"another class", []metav1.ManagedFieldsEntry{wrote("kerngate-inside", addressFields)}, byOthers},
		{"another controller", []metav1.ManagedFieldsEntry{wrote("nginx-ingress-controller", addressFields)}, byOthers},
		{"both", []metav1.ManagedFieldsEntry{wrote("kerngate-public", addressFields), wrote("nginx-ingress-controller", addressFields)}, byOthers},
		{"conditions alone, and the addresses are others'", []metav1.ManagedFieldsEntry{
			wrote("kerngate-public", `{"f:status":{"f:conditions":{}}}`), wrote("nginx-ingress-controller", addressFields)}, byOthers},
		{"unreadable", []metav1.ManagedFieldsEntry{wrote("kerngate-public", `{`)}, byOthers},
	} {
		if got := writtenBy(c.fields, managerOf("public")); got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
		// The cache keeps the reduced form, which may be reduced again.
		slimmed := statusWriters(statusWriters(c.fields))
		if got := writtenBy(slimmed, managerOf("public")); got != c.want {
			t.Errorf("%s, reduced: %d, want %d", c.what, got, c.want)
		}
	}
	if a, b := managerOf(strings.Repeat("a", 253)), managerOf(strings.Repeat("a", 252)+"b"); len(a) > maxManager || len(b) > maxManager || a == b {
		t.Errorf("managers of long classes: %q and %q", a, b)
	}
}

func TestNextStatus(t *testing.T) {
	type entries = []networkingv1.IngressLoadBalancerIngress
	ours := entries{{IP: "192.0.2.10"}, {IP: "2001:db8::10"}}
	decorated := entries{{IP: "192.0.2.10", Hostname: "lb.example.com", Ports: []networkingv1.IngressPortStatus{{Port: 443, Protocol: "TCP"}}}, {IP: "2001:db8::10"}}
	others := entries{{IP: "198.51.100.1"}}
	for _, c := range []struct {
		what        string
		have        entries
		author      authorship
		served      bool
		othersClass bool
		want        entries // nil: as it is
		cleared     bool
	}{
		{what: "served, empty", served: true, want: ours},
		{what: "served, right", have: ours, author: byUs, served: true},
		{what: "served, an older address of ours", have: others, author: byUs, served: true, want: ours},
		{what: "served, the address of the controller before", have: others, served: true, want: ours},
		{what: "served, somebody has added a hostname and ports", have: decorated, served: true},
		{what: "served, somebody has added an entry", have: append(entries{{Hostname: "lb.example.com"}}, ours...), served: true},
		{what: "served, one of ours is missing", have: decorated[:1], served: true, want: decorated},
		{what: "served, too many of ours", have: append(entries{{IP: "198.51.100.1"}}, ours...), author: byUs, served: true, want: ours},
		{what: "not served, ours", have: ours, author: byUs, cleared: true},
		{what: "not served, ours of an older address", have: others, author: byUs, cleared: true},
		{what: "not served, another controller has our address", have: ours},
		{what: "not served, an older agent's", have: ours, author: byLegacy, cleared: true},
		{what: "not served, an older agent's of another class", have: ours, author: byLegacy, othersClass: true},
		{what: "not served, an older agent's of other addresses", have: others, author: byLegacy},
		{what: "not served, empty", author: byUs},
	} {
		want, changed := nextStatus(c.have, ours, c.author, c.served, c.othersClass)
		expect := c.want
		if expect == nil && !c.cleared {
			expect = c.have
		}
		if diff := cmp.Diff(expect, want); diff != "" || changed != (c.want != nil || c.cleared) {
			t.Errorf("%s: changed %t (-want +got):\n%s", c.what, changed, diff)
		}
		if again, changed := nextStatus(want, ours, byUs, c.served, c.othersClass); changed && c.author == byUs {
			t.Errorf("%s: written again: %v", c.what, again)
		}
	}
}

func TestNextServiceStatus(t *testing.T) {
	type entries = []corev1.LoadBalancerIngress
	proxy, vip := corev1.LoadBalancerIPModeProxy, corev1.LoadBalancerIPModeVIP
	ours := entries{{IP: "192.0.2.10", IPMode: &proxy}}
	decorated := entries{{IP: "192.0.2.10", IPMode: &proxy, Hostname: "db.example.com"}}
	for _, c := range []struct {
		what       string
		have, ours entries
		author     authorship
		want       entries // nil: as it is
		cleared    bool
	}{
		{what: "empty", ours: ours, want: ours},
		{what: "right", have: ours, ours: ours, author: byUs},
		{what: "somebody has added a hostname", have: decorated, ours: ours},
		{what: "another mode", have: entries{{IP: "192.0.2.10", IPMode: &vip, Hostname: "db.example.com"}}, ours: ours, want: decorated},
		{what: "somebody has added an entry", have: append(entries{{Hostname: "x"}}, ours...), ours: ours},
		{what: "an older address of ours", have: append(entries{{IP: "198.51.100.1"}}, ours...), ours: ours, author: byUs, want: ours},
		{what: "not published any more", have: ours, author: byUs, cleared: true},
	} {
		want, changed := nextServiceStatus(c.have, c.ours, c.author)
		if changed != (c.want != nil || c.cleared) {
			t.Errorf("%s: changed %t", c.what, changed)
		}
		if diff := cmp.Diff(c.want, want); changed && diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
}
