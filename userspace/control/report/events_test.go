package report

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"

	"github.com/kerngate/kerngate/userspace/model"
)

// eventScene is an eventWriter whose recorder keeps what it is given, and a clock.
type eventScene struct {
	*eventWriter
	recorder *record.FakeRecorder
	clock    time.Time
}

func newEventScene() *eventScene {
	s := &eventScene{recorder: record.NewFakeRecorder(1000), clock: time.Unix(1000, 0)}
	s.eventWriter = newEventWriter(s.recorder, func(ref model.ObjectRef) (runtime.Object, error) {
		if ref.Name == "gone" {
			return nil, errors.New("not an object of the cluster")
		}
		return &corev1.ObjectReference{Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}, nil
	})
	s.now = func() time.Time { return s.clock }
	return s
}

// written returns the events since it was last called.
func (s *eventScene) written() (out []string) {
	for {
		select {
		case e := <-s.recorder.Events:
			out = append(out, e)
		default:
			return out
		}
	}
}

func problem(name, reason, message string) model.Problem {
	return model.Problem{Object: model.ObjectRef{Kind: "Ingress", Namespace: "shop", Name: name}, Reason: reason, Message: message}
}

// TestEventsOfAProblem: a problem has an event when it begins, none while it lasts or is
// worded anew, and one when it is over.
func TestEventsOfAProblem(t *testing.T) {
	s := newEventScene()
	secret := problem("web", "SecretNotFound", "Secret shop/tls does not exist")
	path := problem("web", "PathInvalid", "spec.rules[0]: bad")
	reworded := problem("web", "PathInvalid", "spec.rules[1]: bad")
	gone := problem("gone", "PathInvalid", "bad")
	for _, step := range []struct {
		what     string
		problems []model.Problem
		want     []string
	}{
		{"two begin", []model.Problem{secret, path, gone}, []string{
			"Warning SecretNotFound Secret shop/tls does not exist map[kerngate.dev/severity:Warning]",
			"Warning PathInvalid spec.rules[0]: bad map[kerngate.dev/severity:Warning]"}},
		{"they last", []model.Problem{secret, path, gone}, nil},
		{"one is worded otherwise", []model.Problem{secret, reworded}, []string{"Warning PathInvalid spec.rules[1]: bad map[kerngate.dev/severity:Warning]"}},
		{"the Secret is there", []model.Problem{reworded}, []string{"Normal Resolved SecretNotFound is over; it was: Secret shop/tls does not exist map[kerngate.dev/severity:Warning]"}},
		{"all are over", nil, []string{"Normal Resolved PathInvalid is over; it was: spec.rules[1]: bad map[kerngate.dev/severity:Warning]"}},
		{"still", nil, nil},
	} {
		if again := s.tell(step.problems); again != 0 {
			t.Errorf("%s: again in %s", step.what, again)
		}
		if got := s.written(); !slices.Equal(got, step.want) {
			t.Errorf("%s:\n%q, want\n%q", step.what, got, step.want)
		}
	}
}

// TestEventsArePutOff: an object whose problems come and go all the time gets a bounded
// number of events, others are not affected, and in the end what its events say is true.
func TestEventsArePutOff(t *testing.T) {
	s := newEventScene()
	flapping := problem("flapping", "ServiceNotFound", "Service shop/web does not exist")
	last, count := "", 0
	note := func() {
		for _, e := range s.written() {
			last = e
			count++
		}
	}
	for range 101 { // it ends with the problem
		s.tell([]model.Problem{flapping})
		note()
		s.tell(nil)
		note()
	}
	if count != eventBurst {
		t.Errorf("%d events at once, want %d", count, eventBurst)
	}
	s.tell([]model.Problem{flapping, problem("calm", "PathInvalid", "bad")})
	if got := s.written(); len(got) != 1 || got[0] != "Warning PathInvalid bad map[kerngate.dev/severity:Warning]" {
		t.Errorf("beside it: %q", got)
	}
	again := s.tell([]model.Problem{flapping, problem("calm", "PathInvalid", "bad")})
	if again <= 0 {
		t.Fatal("the event that was put off is not tried again")
	}
	s.clock = s.clock.Add(again)
	s.tell([]model.Problem{flapping, problem("calm", "PathInvalid", "bad")})
	note()
	if want := "Warning ServiceNotFound Service shop/web does not exist map[kerngate.dev/severity:Warning]"; last != want {
		t.Errorf("the last event is %q, want %q", last, want)
	}
	s.clock = s.clock.Add(time.Hour)
	s.tell(nil)
	if len(s.budgets) > 2 || len(s.told) != 0 {
		t.Errorf("kept: %d budgets, %d problems", len(s.budgets), len(s.told))
	}
}

// TestEventsOfManyProblems: an object with more problems than its budget gets the rest later.
func TestEventsOfManyProblems(t *testing.T) {
	s := newEventScene()
	var problems []model.Problem
	for i := range 3 * eventBurst {
		problems = append(problems, problem("many", "PathInvalid", fmt.Sprintf("spec.rules[%03d]", i)))
	}
	seen := map[string]bool{}
	for range 3 * eventBurst {
		again := s.tell(problems)
		for _, e := range s.written() {
			if seen[e] {
				t.Fatalf("%q twice", e)
			}
			seen[e] = true
		}
		s.clock = s.clock.Add(again)
		if again == 0 {
			break
		}
	}
	if len(seen) != len(problems) {
		t.Errorf("%d of %d told", len(seen), len(problems))
	}
}
