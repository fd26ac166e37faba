package explain

import (
	"fmt"
	"net/http"
	"net/netip"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// branch is what the rules about who gets in say, under a condition that is not known.
type branch struct {
	when    string // "": always
	verdict policy.Verdict
	ask     *policy.External // has to be asked; nil: the verdict stands
}

// passes reports whether the request may go on, or may after the service was asked.
func (b *branch) passes() bool { return b.verdict == policy.Pass || b.ask != nil }

// access judges who gets in. What depends on more than is known has several outcomes.
func (w *walk) access(at *ruled) {
	branches := at.branches()
	chosen := 0
	for i := range branches {
		if branches[i].passes() {
			chosen = i
			break
		}
	}
	b := &branches[chosen]
	for i := range branches {
		if i != chosen && !(branches[i].passes() && branches[i].ask == b.ask) {
			w.refuses(at, &branches[i])
		}
	}
	switch {
	case b.ask != nil:
		w.ask(at, b.ask)
	case b.verdict == policy.Pass:
		summary := "the rules about who gets in let the request pass"
		if b.when != "" {
			summary += ", if " + b.when
		}
		w.step(Step{Name: "access", Result: OK, Summary: summary})
	default:
		reason, status, why, next := refused(at.model.Access, b.verdict)
		w.stop(Step{Name: "access", Summary: why}, w.refusal(reason, status, why, next))
	}
}

// refuses notes the outcome of a branch that is not the chosen one.
func (w *walk) refuses(at *ruled, b *branch) {
	if b.ask != nil {
		w.otherwise(Outcome{When: b.when, Reason: reasonDepends, Summary: "depends on what " + at.askedURL(b.ask) + " answers"})
		return
	}
	if b.verdict == policy.Pass {
		return
	}
	reason, status, _, _ := refused(at.model.Access, b.verdict)
	o := Outcome{When: b.when, Reason: reason, Status: status}
	if b.verdict == policy.NeedPassword && !at.request.Present.Has(message.FieldAuthorization) {
		o.Summary = fmt.Sprintf("%d from the proxy, as the request shows no name and password", status)
	}
	w.otherwise(o)
}

// refused says what a verdict comes to.
func refused(a *model.Access, v policy.Verdict) (reason string, status int, why, next string) {
	switch v {
	case policy.SourceDenied:
		return reasonSource, http.StatusForbidden, "the client's address is not let in: " + sourceText(a), "add the address to the allowlist, or take it from the denylist; explain --from ADDRESS judges another one"
	case policy.NeedPassword:
		return reasonPassword, http.StatusUnauthorized, fmt.Sprintf("a name and a password are needed (realm %q), and the request has none that are valid", a.Basic.Realm),
			"send them: curl --user NAME:PASSWORD; explain --header 'Authorization: Basic ...' judges such a request"
	}
	return reasonClosed, http.StatusServiceUnavailable, "the Ingress is closed to everybody: " + a.Closed, "correct the annotation; kerngatectl problems has the message"
}

func sourceText(a *model.Access) string {
	switch {
	case len(a.Allow) > 0 && len(a.Deny) > 0:
		return fmt.Sprintf("only clients of %s get in, but for those of %s", prefixList(a.Allow), prefixList(a.Deny))
	case len(a.Allow) > 0:
		return "only clients of " + prefixList(a.Allow) + " get in"
	}
	return "clients of " + prefixList(a.Deny) + " do not get in"
}

// branches judges the request, once for each case that is not known: where the client is,
// and whether its password is right.
func (at *ruled) branches() (out []branch) {
	type place struct {
		when   string
		client netip.Addr
	}
	a := at.model.Access
	places := []place{{"", at.request.Client}}
	if !at.request.Client.IsValid() && a.Closed == "" && len(a.Allow)+len(a.Deny) > 0 {
		inside, outside := sampleClients(a)
		switch in, not := sourceConditions(a); {
		case !inside.IsValid():
			places = []place{{"", outside}}
		case !outside.IsValid():
			places = []place{{"", inside}}
		default:
			places = []place{{in, inside}, {not, outside}}
		}
	}
	for _, p := range places {
		q := *at.request
		q.Client = p.client
		verdict, _ := at.compiled.Admit(&q, nil, new(policy.Admitted))
		if verdict != policy.Verify {
			out = append(out, branch{when: p.when, verdict: verdict, ask: at.compiled.External(verdict, &q)})
			continue
		}
		for _, password := range []struct {
			when    string
			verdict policy.Verdict
		}{{"the name and the password are right", policy.Pass}, {"the name or the password is wrong", policy.NeedPassword}} {
			when := password.when
			if p.when != "" {
				when = p.when + ", and " + when
			}
			out = append(out, branch{when: when, verdict: password.verdict, ask: at.compiled.External(password.verdict, &q)})
		}
	}
	return out
}

func sourceConditions(a *model.Access) (in, not string) {
	switch {
	case len(a.Allow) > 0 && len(a.Deny) > 0:
		return fmt.Sprintf("the client's address is in %s and not in %s", prefixList(a.Allow), prefixList(a.Deny)),
			fmt.Sprintf("the client's address is not in %s, or is in %s", prefixList(a.Allow), prefixList(a.Deny))
	case len(a.Allow) > 0:
		return "the client's address is in " + prefixList(a.Allow), "the client's address is not in " + prefixList(a.Allow)
	}
	return "the client's address is not in " + prefixList(a.Deny), "the client's address is in " + prefixList(a.Deny)
}

// sampleClients returns an address that the source rules let in and one that they do not;
// the zero address if there is none. Each stretch of addresses with the same answer begins
// at the first address of a prefix, behind the last of one, or where all begin.
func sampleClients(a *model.Access) (inside, outside netip.Addr) {
	candidates := []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	for _, list := range [][]netip.Prefix{a.Allow, a.Deny} {
		for _, p := range list {
			candidates = append(candidates, p.Addr())
			if next := lastOf(p).Next(); next.IsValid() {
				candidates = append(candidates, next)
			}
		}
	}
	sources, err := compileRules(&model.Policy{Access: &model.Access{Allow: a.Allow, Deny: a.Deny}}, "", false)
	if err != nil {
		return inside, outside
	}
	for _, c := range candidates {
		verdict, _ := sources.Admit(&policy.Request{Client: c}, nil, new(policy.Admitted))
		switch {
		case verdict == policy.Pass && !inside.IsValid():
			inside = c
		case verdict != policy.Pass && !outside.IsValid():
			outside = c
		}
	}
	return inside, outside
}

// lastOf returns the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(raw)*8; i++ {
		raw[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(raw)
	return last
}

// asked is a question to the external auth service, whose answer is not known.
type asked struct {
	url      string
	outcomes []Outcome // of answers that refuse
}

// ask follows the question to the external auth service.
func (w *walk) ask(at *ruled, e *policy.External) {
	url := at.askedURL(e)
	if known := w.in.Target.Request.AuthStatus; known != 0 {
		if refusal := at.afterAnswer(e, known); refusal != nil {
			w.stop(Step{Name: "auth", Summary: fmt.Sprintf("%s answers %d, as --auth-status says", url, known)},
				Answer{Reason: refusal.Reason, Status: refusal.Status, Location: refusal.Location, Summary: refusal.text(), Next: "look at the external auth service, " + url})
			return
		}
		w.step(Step{Name: "auth", Result: OK, Summary: fmt.Sprintf("%s answers %d, as --auth-status says, and lets the request in", url, known)})
		return
	}
	w.step(Step{Name: "auth", Result: OK, Summary: "the external auth service is asked: " + url})
	if w.out.Answer.Reason != "" {
		return // the request does not get so far
	}
	q := &asked{url: url}
	for _, c := range []struct {
		when   string
		status int
	}{
		{"the external auth service answers 401, as such services do to a request without credentials", http.StatusUnauthorized},
		{"the external auth service answers 403", http.StatusForbidden}, {"the external auth service answers anything else, or does not answer", http.StatusInternalServerError},
	} {
		o := at.afterAnswer(e, c.status)
		o.When = c.when
		q.outcomes = append(q.outcomes, *o)
	}
	w.asked = q
}

// afterAnswer returns what the client gets after an answer of the external auth service;
// nil: the request goes on.
func (at *ruled) afterAnswer(e *policy.External, answer int) *Outcome {
	switch allowed := e.Read(answer, http.Header{}); {
	case allowed.OK():
		return nil
	case answer == http.StatusUnauthorized:
		if url := e.SignIn(nil, at.request); len(url) > 0 {
			return &Outcome{Reason: reasonSignIn, Status: http.StatusFound, Location: string(url)}
		}
		return &Outcome{Reason: reasonExternal, Status: http.StatusUnauthorized}
	case answer == http.StatusForbidden:
		return &Outcome{Reason: reasonExternal, Status: http.StatusForbidden}
	}
	return &Outcome{Reason: reasonExternalFailed, Status: http.StatusInternalServerError}
}

// askedURL is where the external auth service is asked about this request.
func (at *ruled) askedURL(e *policy.External) string {
	to := at.model.Access.External.To
	if to.Authority == "$host" {
		to.Authority = string(at.request.Host)
	}
	to.Path = string(e.To.Target(nil, at.request))
	return urlOf(to)
}
