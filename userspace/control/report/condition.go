package report

import (
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kerngate/kerngate/userspace/model"
)

// ownConditions is what the types of conditions begin with that are ours alone to write.
const ownConditions = "kerngate.dev/"

// nextConditions returns the conditions that a status is to have, and whether that is something else
// than it has. Others' conditions stay as they are and where they are; ours are replaced, added behind
// them, and taken away when nothing was found.
func nextConditions(have []metav1.Condition, found []model.Finding, generation int64, now time.Time) (want []metav1.Condition, changed bool) {
	left := slices.Clone(found)
	for _, c := range have {
		if !strings.HasPrefix(c.Type, ownConditions) {
			want = append(want, c)
			continue
		}
		i := slices.IndexFunc(left, func(f model.Finding) bool { return f.Condition == c.Type })
		if i < 0 {
			changed = true
			continue
		}
		next := condition(left[i], generation, now)
		left = slices.Delete(left, i, i+1)
		if next.Status == c.Status {
			next.LastTransitionTime = c.LastTransitionTime
		}
		changed = changed || next != c
		want = append(want, next)
	}
	for _, f := range left {
		want, changed = append(want, condition(f, generation, now)), true
	}
	return want, changed
}

func condition(f model.Finding, generation int64, now time.Time) metav1.Condition {
	status := metav1.ConditionFalse
	if f.True {
		status = metav1.ConditionTrue
	}
	return metav1.Condition{Type: f.Condition, Status: status, Reason: f.Reason, Message: f.Message, ObservedGeneration: generation,
		LastTransitionTime: metav1.NewTime(now.UTC().Truncate(time.Second))}
}
