package owner

import (
	"strings"
	"testing"

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
		want   Author
	}{
		{"nobody", nil, Others},
		{"this class", []metav1.ManagedFieldsEntry{spec, wrote("kerngate-public", addressFields)}, Us},
		{"an older agent", []metav1.ManagedFieldsEntry{wrote("kerngate", addressFields)}, Legacy},
		{"an agent without a manager name", []metav1.ManagedFieldsEntry{wrote("kerngate-agent", addressFields)}, Legacy},
		{"another class", []metav1.ManagedFieldsEntry{wrote("kerngate-inside", addressFields)}, Others},
		{"another controller", []metav1.ManagedFieldsEntry{wrote("nginx-ingress-controller", addressFields)}, Others},
		{"both", []metav1.ManagedFieldsEntry{wrote("kerngate-public", addressFields), wrote("nginx-ingress-controller", addressFields)}, Others},
		{"conditions alone, and the addresses are others'", []metav1.ManagedFieldsEntry{
			wrote("kerngate-public", `{"f:status":{"f:conditions":{}}}`), wrote("nginx-ingress-controller", addressFields)}, Others},
		{"unreadable", []metav1.ManagedFieldsEntry{wrote("kerngate-public", `{`)}, Others},
	} {
		if got := Of(c.fields, Manager("public")); got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
		// The cache keeps the reduced form, which may be reduced again.
		slimmed := Writers(Writers(c.fields))
		if got := Of(slimmed, Manager("public")); got != c.want {
			t.Errorf("%s, reduced: %d, want %d", c.what, got, c.want)
		}
	}
	if a, b := Manager(strings.Repeat("a", 253)), Manager(strings.Repeat("a", 252)+"b"); len(a) > maxManager || len(b) > maxManager || a == b {
		t.Errorf("managers of long classes: %q and %q", a, b)
	}
}
