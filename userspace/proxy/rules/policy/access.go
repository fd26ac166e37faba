package policy

import (
	"fmt"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/rules/limit"
	"github.com/kerngate/kerngate/userspace/proxy/rules/prefixset"
)

// Verdict is what rules say about a request.
type Verdict uint8

const (
	Pass          Verdict = iota
	TooMany               // beyond a rate
	TooManyAtOnce         // beyond the bound on requests at once
	SourceDenied          // the client's address may not
	NeedPassword          // no or a wrong name and password
	Closed                // nobody may: what is needed to judge is missing
	Verify                // a password has to be verified first; see Check
)

type access struct {
	allow, deny *prefixset.Set
	allowAll    bool
	basic       *basic
	external    *External
	any         bool
	closed      bool
}

func compileAccess(a *feedpb.Access) (*access, error) {
	if a == nil {
		return nil, nil
	}
	out := &access{any: a.Any, closed: a.Closed != "", allowAll: len(a.Allow) == 0}
	var err error
	if out.allow, err = prefixset.Parse(a.Allow); err != nil {
		return nil, fmt.Errorf("allow: %w", err)
	}
	if out.deny, err = prefixset.Parse(a.Deny); err != nil {
		return nil, fmt.Errorf("deny: %w", err)
	}
	if out.basic, err = compileBasic(a.Basic); err != nil {
		return nil, fmt.Errorf("basic: %w", err)
	}
	if out.external, err = compileExternal(a.External); err != nil {
		return nil, fmt.Errorf("external: %w", err)
	}
	return out, nil
}

// Admit says whether the request may go on, and counts it against the limits. What counts
// until the request has ended is noted in a. Of Verify, check is what has to be asked, off
// the reactor.
func (p *Policy) Admit(q *Request, by *limit.Limiter, a *Admitted) (v Verdict, check *Check) {
	if v := p.limits.count(q, by, a); v != Pass {
		return v, nil
	}
	if p.access == nil {
		return Pass, nil
	}
	return p.access.judge(q)
}

func (a *access) judge(q *Request) (Verdict, *Check) {
	if a.closed {
		return Closed, nil
	}
	source := a.source(q)
	ranges := !a.allowAll || a.deny != nil
	switch {
	case a.basic == nil:
		return source, nil
	case a.any && ranges && source == Pass:
		return Pass, nil
	case !a.any && source != Pass:
		return source, nil
	}
	v, check := a.basic.judge(q)
	q.Authenticated = v == Pass
	return v, check
}

func (a *access) source(q *Request) Verdict {
	if a.deny.Contains(q.Client) || !a.allowAll && !a.allow.Contains(q.Client) {
		return SourceDenied
	}
	return Pass
}

// Challenge returns the WWW-Authenticate of a refusal with NeedPassword.
func (p *Policy) Challenge() string { return p.access.basic.challenge }
