package report

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kerngate/kerngate/userspace/model"
)

// TestNextConditions: others' conditions stay as they are, and nothing is written again.
func TestNextConditions(t *testing.T) {
	before, now := metav1.NewTime(time.Unix(1000, 0).UTC()), time.Unix(2000, 5)
	at := metav1.NewTime(time.Unix(2000, 0).UTC())
	foreign := metav1.Condition{Type: "LoadBalancerPortsError", Status: "True", Reason: "Other", Message: "m", LastTransitionTime: before}
	ours := func(status metav1.ConditionStatus, reason string, since metav1.Time) metav1.Condition {
		return metav1.Condition{Type: model.ConditionPublished, Status: status, Reason: reason, Message: "m", LastTransitionTime: since, ObservedGeneration: 3}
	}
	found := func(published bool, reason string) []model.Finding {
		return []model.Finding{{Condition: model.ConditionPublished, True: published, Reason: reason, Message: "m"}}
	}
	type list = []metav1.Condition
	for _, c := range []struct {
		what  string
		have  list
		found []model.Finding
		want  list
		same  bool
	}{
		{what: "nothing", same: true},
		{what: "others' alone", have: list{foreign}, want: list{foreign}, same: true},
		{what: "new", have: list{foreign}, found: found(true, "Published"), want: list{foreign, ours("True", "Published", at)}},
		{what: "as before", have: list{ours("True", "Published", before), foreign}, found: found(true, "Published"), want: list{ours("True", "Published", before), foreign}, same: true},
		{what: "another status", have: list{ours("True", "Published", before), foreign}, found: found(false, "ListenerConflict"), want: list{ours("False", "ListenerConflict", at), foreign}},
		{what: "another reason", have: list{ours("False", "AddressInvalid", before)}, found: found(false, "ListenerConflict"), want: list{ours("False", "ListenerConflict", before)}},
		{what: "no more", have: list{ours("True", "Published", before), foreign}, want: list{foreign}},
	} {
		want, changed := nextConditions(c.have, c.found, 3, now)
		if diff := cmp.Diff(c.want, want); diff != "" || changed == c.same {
			t.Errorf("%s: changed %t (-want +got):\n%s", c.what, changed, diff)
		}
		if _, again := nextConditions(want, c.found, 3, now.Add(time.Hour)); again {
			t.Errorf("%s: written again", c.what)
		}
	}
}
