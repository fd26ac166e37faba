package agent

import (
	"cmp"
	"crypto/sha256"
	"slices"

	"github.com/kerngate/kerngate/userspace/control/compile"
	"github.com/kerngate/kerngate/userspace/feed"
	"github.com/kerngate/kerngate/userspace/model"
)

// refusal is an object that a proxy could not take. It is left out for all proxies until
// anything of it changes, its rules and certificates included.
type refusal struct {
	reason    string
	footprint [sha256.Size]byte
	exclusion compile.Exclusion
	since     uint64 // the first version that it is left out of
}

// refuse leaves an object out: its routes stay closed, or if it was refused in that form
// too, go. sent is the model of the version that was refused. It reports false if that changes
// nothing: no object of that name is published, it has changed since, or what was refused does
// not reach proxies any more.
func (a *Agent) refuse(e feed.Refused, sent *model.Model) bool {
	changed := false
	for _, ref := range a.publishedAs(e.SourceKind, e.Source) {
		r := refusal{reason: e.Reason, exclusion: compile.Closed, since: a.version + 1}
		r.footprint, _ = compile.Footprint(a.model, a.Datapath.ServiceID, ref)
		if was, _ := compile.Footprint(sent, a.Datapath.ServiceID, ref); was != r.footprint {
			continue
		}
		if before, again := a.refused[ref]; again {
			if before.exclusion == compile.Dropped || e.Version < before.since {
				continue
			}
			r.exclusion = compile.Dropped
		}
		a.refused[ref], changed = r, true
	}
	if changed {
		a.reportRefusals()
	}
	return changed
}

// publishedAs returns the objects behind the model's routes, canaries and TLS that the feed
// knows by this name.
func (a *Agent) publishedAs(kind, source string) (refs []model.ObjectRef) {
	if a.model == nil {
		return nil
	}
	if kind == "Ingress" {
		kind = ""
	}
	add := func(ref model.ObjectRef) {
		if k, s := compile.Source(ref); s == source && k == kind && !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
	}
	for _, h := range a.model.Hosts {
		if h.TLS != nil {
			add(h.TLS.Source)
		}
		for _, r := range h.Routes {
			add(r.Source)
			for _, c := range r.Splits {
				add(c.Source)
			}
		}
	}
	return refs
}

// forgetRefusals gives objects another chance that have changed since they were refused.
func (a *Agent) forgetRefusals() {
	before := len(a.refused)
	for ref, r := range a.refused {
		if sum, published := compile.Footprint(a.model, a.Datapath.ServiceID, ref); !published || sum != r.footprint {
			delete(a.refused, ref)
		}
	}
	if len(a.refused) != before {
		a.reportRefusals()
	}
}

// exclude returns what proxies have refused, nil if that is nothing.
func (a *Agent) exclude() compile.Exclude {
	if len(a.refused) == 0 {
		return nil
	}
	return func(ref model.ObjectRef) compile.Exclusion { return a.refused[ref].exclusion }
}

func (a *Agent) reportRefusals() {
	var problems []model.Problem
	for ref, r := range a.refused {
		problems = append(problems, model.Problem{
			Object: ref, Severity: model.Refused, Reason: "ProxyRefused",
			Message: "the proxy cannot take the configuration of this " + ref.Kind + ", whose paths answer 503 until it changes: " + r.reason,
		})
	}
	slices.SortFunc(problems, func(x, y model.Problem) int { return cmp.Compare(x.Object.String(), y.Object.String()) })
	a.problems.set(fromProxy, problems)
}
