package explain

import (
	"fmt"
	"math"
	"net/http"
	"strings"

	"github.com/kerngate/kerngate/userspace/control/compile"
	"github.com/kerngate/kerngate/userspace/look/status"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
	"github.com/kerngate/kerngate/userspace/route"
)

// ruled is a request and the rules of the place to which it leads, compiled by the proxy's
// own code, so that an explanation has no opinion of its own about what they say.
type ruled struct {
	model    *model.Policy // nil: no rules
	compiled *policy.Policy
	request  *policy.Request
	next     policy.Next // what follows its steps
	path     string      // of the route; "": a location
	regexp   bool
}

// rulesOf finds the rules of a route for the request's path, and says which they are. It
// reports false if they are not known.
func (w *walk) rulesOf(r *status.Route) (at ruled, located, ok bool) {
	rules := w.in.Rules
	if rules == nil {
		if r.Rules != "" {
			w.unknown("rules", w.in.NoAgent)
		}
		return at, false, r.Rules == ""
	}
	at = ruled{model: rules.Policy, path: r.Path, regexp: r.Match == status.MatchRegexp}
	if l := w.location(r); l != nil {
		at, located = ruled{model: l.Policy}, true
		w.step(Step{Name: "location", Result: OK, Summary: fmt.Sprintf("%s of a snippet takes the path; requests of it never get to a pod", l)})
	}
	w.tell(at.model, located)
	var err error
	if at.request = w.request; at.request == nil {
		at.request, err = w.in.Target.head()
	}
	if err == nil && at.model != nil {
		at.compiled, err = compileRules(at.model, at.path, at.regexp)
	}
	if err != nil {
		w.unknown("rules", fmt.Sprintf("this kerngatectl cannot judge them: %v", err))
		return ruled{}, located, false
	}
	if at.compiled.HasSteps() {
		at.next = at.compiled.Steps(at.request, w.turns == 0)
	}
	return at, located, true
}

// maxTurns is how often a proxy routes a request again.
const maxTurns = 10

// again follows the request to the path that a rewrite has made.
func (w *walk) again(host *status.Host, at *ruled) {
	to := string(at.request.Normal)
	if w.in.RulesOf == nil {
		w.unknown("steps", fmt.Sprintf("a rewrite sends the request to the path %s of the same host: explain that", to))
		return
	}
	if w.turns++; w.turns > maxTurns {
		w.stop(Step{Name: "steps", Summary: fmt.Sprintf("the request was routed again %d times, and a rewrite sends it on", maxTurns)},
			w.refusal(reasonLoop, http.StatusInternalServerError, "rewrites lead from path to path without an end", "correct the rewrites of the snippet"))
		return
	}
	w.step(Step{Name: "steps", Result: OK, Summary: fmt.Sprintf("a rewrite makes the path %s, by which the request is routed again", to)})
	w.in.Target.Path, w.request = to, at.request
	r := w.path(host)
	if r == nil {
		w.policy = nil
		w.stop(Step{Name: "path", Summary: fmt.Sprintf("host %s has no path that matches %s", hostName(host.Name), to), Considered: w.paths(host, nil)},
			Answer{Reason: reasonNoRoute, Status: http.StatusNotFound, Summary: "404 from the proxy: nothing publishes the path that a rewrite makes", Next: "paths of this host: " + pathList(host)})
		return
	}
	var err error
	if w.in.Rules, err = w.in.RulesOf(ruleOf(host, r)); err != nil {
		w.unknown("rules", err.Error())
		return
	}
	w.out.Object = r.Object()
	w.follow(host, r)
}

// location finds the location of a snippet that takes the path from the route.
func (w *walk) location(r *status.Route) *model.Location {
	l := w.in.Rules.Locations
	if l == nil {
		return nil
	}
	path := []byte(w.in.Target.Path)
	rival := route.RivalOf(&route.Route[int]{Path: r.Path, Exact: r.Match == status.MatchExact, Regexp: r.Match == status.MatchRegexp}, path)
	for _, level := range []struct {
		list  []model.Location
		rival route.Rival
	}{{l.Server, rival}, {l.Nested, route.Rival{}}} {
		var list []route.Location[*model.Location]
		for i := range level.list {
			one := &level.list[i]
			list = append(list, route.Location[*model.Location]{Modifier: route.Modifier(one.Match), Path: one.Path, Value: one})
		}
		table, err := route.NewLocations(list)
		if err != nil {
			continue // the agent has refused it
		}
		if found := table.Find(path, level.rival); found != nil {
			return found.Value
		}
	}
	return nil
}

// tell lists the rules as sentences.
func (w *walk) tell(p *model.Policy, located bool) {
	rules := sentences(p)
	if !located {
		for _, c := range w.in.Rules.Splits {
			rules = append(rules, canaryRule(c))
		}
	}
	w.out.Rules = rules
	if len(rules) == 0 {
		return
	}
	s := Step{Name: "rules", Result: OK, Summary: plural(len(rules), "1 rule holds", "%d rules hold") + " for the requests of this path"}
	for _, r := range rules {
		c := Candidate{Rule: r.Text}
		if len(r.By) > 0 {
			c.Why = "by " + strings.Join(r.By, ", ")
		}
		s.Considered = append(s.Considered, c)
	}
	w.step(s)
}

// noUser is a password file: one must name somebody. No password is ever compared with it.
var noUser = model.Credentials("nobody:{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=\n")

// compileRules compiles a policy without what needs more than the request: limits, which
// count, and passwords, which the agent does not tell.
func compileRules(p *model.Policy, path string, regexp bool) (*policy.Policy, error) {
	bare := *p
	bare.Limits = nil
	if p.Access != nil && p.Access.Basic != nil {
		access, basic := *p.Access, *p.Access.Basic
		basic.Users = noUser
		access.Basic = &basic
		bare.Access = &access
	}
	message := compile.PolicyMessage(&bare, model.ObjectRef{}, func(key model.ServiceKey) uint32 {
		if key == (model.ServiceKey{}) {
			return 0
		}
		return 1
	})
	return policy.Compile(message, path, regexp)
}

// obey follows the rules that come before a pod.
func (w *walk) obey(at *ruled) {
	if at.model == nil {
		return
	}
	if at.next == policy.Refused {
		w.stop(Step{Name: "steps", Summary: "the rewritten path has a segment . or .."},
			w.refusal(reasonBadPath, http.StatusBadRequest, "a rewrite makes a path with . or .. of this request", "correct the rewrite of the snippet"))
		return
	}
	if a := at.compiled.Answer(at.request); a != nil {
		w.answered(at, a)
	}
	w.limits(at)
	if at.model.Access != nil {
		w.access(at)
	}
}

// answered ends at a rule that answers by itself.
func (w *walk) answered(at *ruled, a *policy.Answer) {
	answer := Answer{Reason: reasonRule, Status: a.Status, Location: fieldOf(a, "Location")}
	answer.Summary = fmt.Sprintf("%d from the proxy", a.Status)
	if answer.Location != "" {
		answer.Summary += ", Location: " + answer.Location
	}
	by := "the preflight request of a page of another origin is answered by the CORS rule"
	if at.compiled.HasSteps() {
		by = "a step of a snippet answers"
	}
	for _, r := range at.model.Redirects {
		alone, err := compileRules(&model.Policy{Redirects: []model.Redirect{r}}, at.path, at.regexp)
		if err == nil && alone.Answer(at.request) != nil {
			by = strings.TrimSuffix("a rule answers: "+redirectText(r), ".")
			if r.By != "" {
				by += " (" + r.By + ")"
			}
			break
		}
	}
	w.stop(Step{Name: "answer", Summary: by}, answer)
}

func fieldOf(a *policy.Answer, name string) string {
	for _, f := range a.Fields {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// limits says what a client gets that asks too often. Whether it does is not known here.
func (w *walk) limits(at *ruled) {
	l := at.model.Limits
	if l == nil {
		return
	}
	if w.in.Target.From.IsValid() {
		for _, p := range l.Exempt {
			if p.Contains(w.in.Target.From) {
				w.step(Step{Name: "limits", Result: OK, Summary: fmt.Sprintf("%s is exempt from the limits, by %s", w.in.Target.From, p)})
				return
			}
		}
	}
	for _, r := range l.Rates {
		w.otherwise(Outcome{When: "the client address exceeds " + strings.TrimSuffix(rateText(r, l.Status), fmt.Sprintf("; what exceeds that gets %d", l.Status)), Reason: reasonRate, Status: l.Status})
	}
	if l.Connections > 0 {
		w.otherwise(Outcome{When: fmt.Sprintf("the client address has %s already that are not answered yet", count(int(l.Connections), "request", "requests")), Reason: reasonConnections, Status: l.Status})
	}
}

// edit says what pods get of the request in place of what the client has sent.
func (w *walk) edit(at *ruled) {
	if at.model == nil {
		return
	}
	q := at.request
	var changes []string
	if host := at.compiled.Host(nil, q); len(host) > 0 {
		if !message.IsAuthority(host) {
			w.stop(Step{Name: "edit", Summary: fmt.Sprintf("the Host that the rule makes for pods, %q, is not one", host)},
				w.refusal(reasonBadPath, http.StatusBadRequest, "the rule for the Host of pods makes one of this request that is not valid", "correct the annotation that sets the Host"))
			return
		}
		changes = append(changes, fmt.Sprintf("the Host %s", host))
	}
	if q.Changed() {
		_, path := q.Replaced(nil)
		target := string(path)
		if q.Args != nil {
			target += "?" + string(q.Args)
		}
		changes = append(changes, "the path "+target)
	}
	switch _, path, query, outcome := at.compiled.Rewrite(nil, q); outcome {
	case policy.Replaced:
		target := string(path)
		if query != nil {
			target += "?" + string(query)
		}
		changes = append(changes, "the path "+target)
	case policy.Unsafe:
		w.stop(Step{Name: "edit", Summary: "the rewritten path has a segment . or .."},
			w.refusal(reasonBadPath, http.StatusBadRequest, "rewrite-target makes a path with . or .. of this request", "correct rewrite-target, so that the expression takes the slash, too"))
		return
	}
	if len(changes) > 0 {
		w.step(Step{Name: "edit", Result: OK, Summary: "pods get " + strings.Join(changes, " and ")})
	}
}

// body compares the request's body with the limit.
func (w *walk) body(at *ruled) {
	if w.in.Rules == nil {
		return
	}
	most, by := w.in.Rules.MaxBody, "the agent's --max-body"
	if at.model != nil && at.model.MaxBody != nil {
		most, by = *at.model.MaxBody, strings.Join(at.model.Origins[model.RuleMaxBody], ", ")
	}
	switch n := uint64(max(w.in.Target.Request.Body, 0)); {
	case most == 0:
	case n > most:
		w.stop(Step{Name: "body", Summary: fmt.Sprintf("the body of %s is larger than %s, the limit (%s)", size(n), size(most), by)},
			w.refusal(reasonBody, http.StatusRequestEntityTooLarge, fmt.Sprintf("the request body exceeds %s", size(most)), "raise the limit: "+by))
	case n == 0:
		w.otherwise(Outcome{When: fmt.Sprintf("the request has a body of more than %s", size(most)), Reason: reasonBody, Status: http.StatusRequestEntityTooLarge})
	}
}

// refusal is an answer of the proxy's own.
func (w *walk) refusal(reason string, status int, why, next string) Answer {
	return Answer{Reason: reason, Status: status, Summary: fmt.Sprintf("%d from the proxy: %s", status, why), Next: next}
}

// Share is the part of the requests like this one that a service gets.
type Share struct {
	Service     string  `json:"service"` // "": it does not exist
	Object      string  `json:"object"`  // that sends them there, such as "Ingress shop/main"
	Canary      bool    `json:"canary,omitempty"`
	Probability float64 `json:"probability"`
}

// shares says which services get requests like this one.
func (w *walk) shares(at *ruled, r *status.Route) []Share {
	main := Share{Service: r.Service, Object: r.Object(), Probability: 1}
	if w.in.Rules == nil || len(w.in.Rules.Splits) == 0 {
		return []Share{main}
	}
	var out []Share
	var considered []Candidate
	for _, c := range w.in.Rules.Splits {
		s := Share{Service: c.Service.String(), Object: c.Source.String(), Canary: true}
		compiled, err := policy.CompileSplit(compile.SplitMessage(c))
		why := "what decides says never, or nothing"
		if err == nil {
			least, most := compiled.Wants(at.request, math.MaxUint32), compiled.Wants(at.request, 0)
			switch {
			case least:
				s.Probability, why = main.Probability, "the request has the header or cookie that it takes, or its weight is all"
			case most:
				s.Probability, why = main.Probability*float64(c.Weight)/float64(max(c.Total, 1)), "by weight, at random"
			}
		}
		main.Probability -= s.Probability
		considered = append(considered, Candidate{Rule: fmt.Sprintf("canary %s of %s: %s", serviceName(c.Service), s.Object, percent(s.Probability)), Chosen: s.Probability > 0, Why: why})
		if s.Probability > 0 {
			out = append(out, s)
		}
	}
	considered = append(considered, Candidate{Rule: fmt.Sprintf("%s of %s: %s", orMissing(main.Service), main.Object, percent(main.Probability)), Chosen: main.Probability > 0, Why: "what canaries leave"})
	if main.Probability > 0 {
		out = append([]Share{main}, out...)
	}
	summary := "a request like this goes to " + orMissing(out[0].Service)
	if len(out) > 1 {
		summary = fmt.Sprintf("a request like this goes to one of %d services", len(out))
	}
	if a := at.affinity(); a != nil && a.Canary {
		summary += fmt.Sprintf("; a client that has the cookie %s stays with the service that it came to first", a.Cookie)
	}
	w.step(Step{Name: "canary", Result: OK, Summary: summary, Considered: considered})
	w.out.Shares = out
	return out
}

func (at *ruled) affinity() *model.Affinity {
	if at.model == nil || at.model.Balance == nil {
		return nil
	}
	return at.model.Balance.Affinity
}

func orMissing(service string) string {
	if service == "" {
		return "a Service or port that does not exist"
	}
	return service
}

// serve follows the request to the pods of the services that may get it.
func (w *walk) serve(at *ruled, shares []Share) {
	if at.model != nil && at.model.Fallback != (model.ServiceKey{}) {
		w.fallback = at.model.Fallback.String()
	}
	if len(shares) > 1 || !w.missing(shares[0].Service) { // else 503 comes first
		w.edit(at)
		w.body(at)
	}
	w.mirrors(at)
	if len(shares) == 1 {
		w.out.Object = shares[0].Object
		w.service(shares[0].Service)
		return
	}
	best := 0
	parts := make([]*walk, len(shares))
	for i, s := range shares {
		part := &walk{in: w.in, fallback: w.fallback, out: Explanation{Object: s.Object}}
		part.service(s.Service)
		if part.out.Answer.Reason == "" {
			part.conclude()
		}
		parts[i] = part
		w.out.Steps = append(w.out.Steps, part.out.Steps...)
		w.out.Backends = append(w.out.Backends, part.out.Backends...)
		if s.Probability > shares[best].Probability {
			best = i
		}
	}
	w.out.Object, w.out.Service = shares[best].Object, shares[best].Service
	if w.out.Answer.Reason != "" {
		return
	}
	w.out.Answer = parts[best].out.Answer
	w.out.Answer.Summary = fmt.Sprintf("%s (%s of such requests)", w.out.Answer.Summary, percent(shares[best].Probability))
	for i, part := range parts {
		if i == best {
			continue
		}
		a := part.out.Answer
		w.out.Answer.Otherwise = append(w.out.Answer.Otherwise, Outcome{
			When: fmt.Sprintf("the request is one of the %s that %s gets", percent(shares[i].Probability), orMissing(shares[i].Service)), Reason: a.Reason, Status: a.Status, Summary: a.Summary,
		})
	}
}

// missing reports whether the proxy knows no such service.
func (w *walk) missing(service string) bool {
	return service == "" || w.in.Maps != nil && w.in.Maps.service(service) == nil
}

func (w *walk) mirrors(at *ruled) {
	if at.model == nil {
		return
	}
	for _, m := range at.model.Mirrors {
		w.step(Step{Name: "mirror", Result: OK, Summary: fmt.Sprintf("a copy of the request goes to %s; the client does not see what is answered there", urlOf(m.To))})
	}
}
