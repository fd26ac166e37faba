package report

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"

	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/model"
)

const (
	// eventBurst events of one object are written at once, after that one every eventEvery.
	// The rest waits; it is not dropped, so that the last event of an object is always true.
	eventBurst = 20
	eventEvery = 30 * time.Second
	// reasonResolved is the reason of the event that ends a problem.
	reasonResolved = "Resolved"
	// annotationSeverity, on an event, is the severity of the problem that it is about: events
	// themselves know only Normal and Warning.
	annotationSeverity = "kerngate.dev/severity"
)

// correlator joins equal events. Limiting their rate is eventWriter's task, which can put
// an event off, where the recorder could only lose it.
var correlator = record.CorrelatorOptions{BurstSize: 100 * eventBurst, QPS: 10}

// eventWriter turns problems into events: a Warning when a problem begins, and a Normal
// event when it ends.
type eventWriter struct {
	recorder record.EventRecorder
	object   func(model.ObjectRef) (runtime.Object, error)
	now      func() time.Time
	told     map[model.Problem]bool      // problems whose beginning has an event, and whose end has none
	budgets  map[model.ObjectRef]*budget // of objects that had events lately
}

// budget is a token bucket of one object's events.
type budget struct {
	left int
	from time.Time // when left was right
}

func newEventWriter(recorder record.EventRecorder, object func(model.ObjectRef) (runtime.Object, error)) *eventWriter {
	return &eventWriter{
		recorder: recorder, object: object, now: time.Now,
		told: map[model.Problem]bool{}, budgets: map[model.ObjectRef]*budget{},
	}
}

// tell writes what differs between problems and what was told. It returns how long to wait
// until what an object's budget has put off can be written; 0: nothing waits.
func (w *eventWriter) tell(problems []model.Problem) (again time.Duration) {
	w.refill()
	now := make(map[model.Problem]bool, len(problems))
	replaced := map[subject]bool{} // problems of which a new one has the same reason: reworded, not over
	for _, p := range problems {
		now[p] = true
		if !w.told[p] {
			replaced[subjectOf(p)] = true
		}
	}
	var ended []model.Problem
	for p := range w.told {
		if !now[p] {
			ended = append(ended, p)
		}
	}
	slices.SortFunc(ended, kube.CompareProblems)
	for _, p := range ended {
		if replaced[subjectOf(p)] {
			delete(w.told, p)
			continue
		}
		if w.write(p.Object, corev1.EventTypeNormal, reasonResolved, fmt.Sprintf("%s is over; it was: %s", p.Reason, p.Message), p.Severity) {
			delete(w.told, p)
		} else {
			again = eventEvery
		}
	}
	for _, p := range problems {
		if w.told[p] {
			continue
		}
		if w.write(p.Object, corev1.EventTypeWarning, p.Reason, p.Message, p.Severity) {
			w.told[p] = true
		} else {
			again = eventEvery
		}
	}
	return again
}

// subject is what a problem is about, however it is worded.
type subject struct {
	object model.ObjectRef
	reason string
}

func subjectOf(p model.Problem) subject { return subject{p.Object, p.Reason} }

// write reports whether the event need not be tried again: it is written, or its object is
// gone, or was never in the cluster (--default-backend).
func (w *eventWriter) write(ref model.ObjectRef, eventType, reason, message string, severity model.Severity) bool {
	object, err := w.object(ref)
	if err != nil {
		return true // the log has it
	}
	if !w.spend(ref) {
		return false
	}
	w.recorder.AnnotatedEventf(object, map[string]string{annotationSeverity: severity.String()}, eventType, reason, "%s", message)
	return true
}

// spend takes an event from an object's budget, if there is one left.
func (w *eventWriter) spend(ref model.ObjectRef) bool {
	b := w.budgets[ref]
	if b == nil {
		b = &budget{left: eventBurst, from: w.now()}
		w.budgets[ref] = b
	}
	if b.left == 0 {
		return false
	}
	b.left--
	return true
}

// refill gives budgets what time has brought, and forgets those that are full.
func (w *eventWriter) refill() {
	now := w.now()
	for ref, b := range w.budgets {
		n := int(now.Sub(b.from) / eventEvery)
		b.left += n
		b.from = b.from.Add(time.Duration(n) * eventEvery)
		if b.left >= eventBurst {
			delete(w.budgets, ref)
		}
	}
}
