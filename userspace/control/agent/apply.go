package agent

import (
	"errors"
	"slices"
	"time"

	"github.com/kerngate/kerngate/loader"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/control/compile"
	"github.com/kerngate/kerngate/userspace/look/status"
	"github.com/kerngate/kerngate/userspace/model"
)

// applyAll makes the maps hold what of the model has changed (nil: anything), then tells the
// proxies. What cannot be stored is tried again; everything else is in force.
func (a *Agent) applyAll(changed *model.Changed) {
	if a.model == nil {
		return
	}
	whole := a.applied.whole
	if changed == nil || changed.Services || !whole {
		a.applyState()
	}
	if !whole || !a.applied.whole {
		changed = nil // ids of services may differ from those that routes were made with
	}
	a.publish(changed)
}

func (a *Agent) applyState() {
	want, problems := compile.State(a.model, a.Node)
	start := time.Now()
	report, err := a.Datapath.Apply(want)
	a.Metrics.applied("all", time.Since(start), err)
	a.noteApply(start, err, true)
	a.problems.set(fromCompile, problems)
	if report != (loader.Report{}) {
		a.Log.Info().Interface("changes", report).Dur("took", time.Since(start)).Msg("maps are up to date")
	}
}

// applyServices writes services whose endpoints have changed, and nothing else. Their
// ids stay, so proxies need not be told.
func (a *Agent) applyServices(changed []model.Service, l4 []model.L4Service) {
	if a.model == nil {
		return
	}
	want := make([]state.Service, 0, len(changed))
	for _, s := range changed {
		i, known := a.index[s.Key]
		if !known {
			continue
		}
		a.model.Services[i] = s
		compiled, _ := compile.Service(&s)
		want = append(want, compiled)
	}
	for _, s := range l4 {
		i := slices.IndexFunc(a.model.L4, func(have model.L4Service) bool { return have.L4Key == s.L4Key })
		if i < 0 {
			continue
		}
		a.model.L4[i] = s
		groups, _ := compile.L4Service(&s, a.Node.With(a.model.Members))
		want = append(want, groups...)
	}
	if len(want) == 0 {
		return
	}
	start := time.Now()
	_, err := a.Datapath.ApplyServices(want)
	a.Metrics.applied("services", time.Since(start), err)
	a.noteApply(start, err, false)
	for _, s := range want {
		a.Log.Debug().Str("service", s.Name).Int("backends", len(s.Backends)).Msg("endpoints have changed")
	}
}

// noteApply remembers how an apply went and arranges that a failed one is tried again:
// the whole, because a full map may be relieved by any change.
func (a *Agent) noteApply(start time.Time, err error, whole bool) {
	at := &a.applied
	took := time.Since(start)
	at.At, at.Took = &start, status.Duration(took)
	at.Applied++
	if at.whole = err == nil && (whole || at.whole); err != nil {
		at.Failed++
		at.Error, at.ErrorAt = err.Error(), &start
		if at.retry == nil {
			at.backoff = min(max(2*at.backoff, retryFirst), retryMost)
			at.retry = time.NewTimer(at.backoff)
		}
		a.Log.Error().Err(err).Dur("again_in", at.backoff).Msg("the maps are incomplete; the entries that could be stored are in effect")
		a.problems.set(fromApply, applyProblems(err))
		return
	}
	if whole { // and with it whatever had failed before
		at.Error, at.backoff = "", 0
		if at.retry != nil {
			at.retry.Stop()
			at.retry = nil
		}
		a.problems.set(fromApply, nil)
	}
}

// applyProblems turns an error, which names each thing that could not be stored, into a problem.
func applyProblems(err error) []model.Problem {
	var full *loader.FullError
	reason := "MapsNotWritten"
	if errors.As(err, &full) {
		reason = "MapsFull"
	}
	return []model.Problem{{
		Object:   model.ObjectRef{Kind: "Node", Name: "maps"},
		Severity: model.Refused,
		Reason:   reason,
		Message:  err.Error(),
	}}
}

// timer is nil, which never fires, unless a retry is due.
func (at *applied) timer() <-chan time.Time {
	if at.retry == nil {
		return nil
	}
	return at.retry.C
}
