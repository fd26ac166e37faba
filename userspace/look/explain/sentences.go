package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kerngate/kerngate/userspace/model"
)

// Rule is one rule of a route, as a sentence.
type Rule struct {
	Kind model.RuleKind `json:"kind"`
	Text string         `json:"text"`
	By   []string       `json:"by,omitempty"` // what asked for it: annotations by their whole keys
}

// Kinds of rules that are not of a kind of package model, as each of them says who asked
// for it.
const (
	kindRedirect       model.RuleKind = "redirect"
	kindRequestHeader  model.RuleKind = "request-header"
	kindResponseHeader model.RuleKind = "response-header"
)

// sentences returns the rules of a policy in the order in which they apply.
func sentences(p *model.Policy) []Rule {
	if p == nil {
		return nil
	}
	s := teller{policy: p}
	s.answers()
	s.access()
	s.request()
	s.response()
	s.pods()
	return s.rules
}

// teller writes the sentences of a policy.
type teller struct {
	policy *model.Policy
	rules  []Rule
}

func (s *teller) say(kind model.RuleKind, format string, args ...any) {
	s.rules = append(s.rules, Rule{Kind: kind, Text: fmt.Sprintf(format, args...), By: s.policy.Origins[kind]})
}

func (s *teller) sayBy(kind model.RuleKind, by, format string, args ...any) {
	r := Rule{Kind: kind, Text: fmt.Sprintf(format, args...)}
	if by != "" {
		r.By = []string{by}
	}
	s.rules = append(s.rules, r)
}

// answers are the rules that answer without asking who the client is.
func (s *teller) answers() {
	for _, step := range slices.Concat(s.policy.ServerSteps, s.policy.Steps) {
		s.say(model.RuleSteps, "In order with the steps around it: %s.", step)
	}
	for _, r := range s.policy.Redirects {
		s.sayBy(kindRedirect, r.By, "%s", redirectText(r))
	}
	if c := s.policy.CORS; c != nil {
		s.say(model.RuleCORS, "Pages of %s may read responses, and their preflight requests (OPTIONS) are answered with 204 without a pod.", origins(c.Origins))
	}
	l := s.policy.Limits
	if l == nil {
		return
	}
	exempt := ""
	if len(l.Exempt) > 0 {
		exempt = fmt.Sprintf(" Clients of %s are exempt.", prefixList(l.Exempt))
	}
	for _, r := range l.Rates {
		s.say(model.RuleRate, "A client address may send %s.%s", rateText(r, l.Status), exempt)
	}
	if l.Connections > 0 {
		s.say(model.RuleConnections, "A client address may have %s at the same time; another one gets %d.%s", count(int(l.Connections), "request", "requests"), l.Status, exempt)
	}
}

func redirectText(r model.Redirect) string {
	which := "Every request"
	switch {
	case r.Path != "" && r.Pattern != "":
		which = fmt.Sprintf("A request for %s, if the path matches %s,", r.Path, r.Pattern)
	case r.Path != "":
		which = "A request for " + r.Path
	case r.Pattern != "":
		which = "A request whose path matches " + r.Pattern
	}
	if r.Body != "" {
		return fmt.Sprintf("%s is answered with %d and a text of the type %s.", which, r.Status, r.Type)
	}
	if r.Target == "" {
		return fmt.Sprintf("%s is answered with %d.", which, r.Status)
	}
	query := ""
	if r.Query {
		query = ", with the query of the request"
	}
	return fmt.Sprintf("%s is redirected to %s%s (%d).", which, r.Target, query, r.Status)
}

func origins(list []string) string {
	if len(list) == 1 && list[0] == "*" {
		return "every origin"
	}
	return strings.Join(list, ", ")
}

func rateText(r model.Rate, status int) string {
	period := map[time.Duration]string{time.Second: "second", time.Minute: "minute", time.Hour: "hour"}[r.Period]
	if period == "" {
		period = r.Period.String()
	}
	return fmt.Sprintf("%s per %s, and %d more in a burst; what exceeds that gets %d", count(int(r.Requests), "request", "requests"), period, r.Burst, status)
}

// access says who gets in.
func (s *teller) access() {
	a := s.policy.Access
	if a == nil {
		return
	}
	if a.Closed != "" {
		s.say(model.RuleClosed, "Every request gets 503: %s.", a.Closed)
		return
	}
	if len(a.Allow) > 0 {
		s.say(model.RuleAllow, "Only clients of %s get in; others get 403.", prefixList(a.Allow))
	}
	if len(a.Deny) > 0 {
		s.say(model.RuleDeny, "Clients of %s get 403.", prefixList(a.Deny))
	}
	if a.Basic != nil {
		s.say(model.RuleBasic, "A request needs a name and a password (basic authentication, realm %q); without a valid one it gets 401.", a.Basic.Realm)
	}
	if e := a.External; e != nil {
		s.say(model.RuleExternal, "%s is asked about each request: with 2xx the request goes on; with 401 the client gets %s; with 403 it gets 403; with anything else, or no answer, it gets 500.",
			urlOf(e.To), signInText(e))
	}
	if a.Any && len(s.rules) > 1 {
		s.rules = append(s.rules, Rule{Kind: "satisfy", Text: "One of these rules about who gets in is enough (satisfy: any)."})
	}
}

func signInText(e *model.ExternalAuth) string {
	if e.SignIn == "" {
		return "401"
	}
	return "a redirect to sign in at " + e.SignIn + " (302)"
}

// urlOf returns a destination as a URL.
func urlOf(d model.Destination) string {
	d.Service = model.ServiceKey{}
	return d.String()
}

// request says what is changed of requests, and what bounds them.
func (s *teller) request() {
	p := s.policy
	switch {
	case p.MaxBody == nil:
	case *p.MaxBody == 0:
		s.say(model.RuleMaxBody, "A request body may have any size.")
	default:
		s.say(model.RuleMaxBody, "A request body of more than %s gets 413.", size(*p.MaxBody))
	}
	switch p.Buffering {
	case model.BufferOn:
		s.say(model.RuleBuffering, "A request body is read whole before a pod is chosen, if it fits the proxy's buffers.")
	case model.BufferOff:
		s.say(model.RuleBuffering, "A request body is passed on to the pod as it comes.")
	}
	if p.Rewrite != nil {
		s.say(model.RuleRewrite, "Pods get the path %s.", p.Rewrite.Target)
	}
	if p.Host != "" {
		s.say(model.RuleHost, "Pods get the Host %s.", p.Host)
	}
	for _, h := range p.RequestHeaders {
		s.sayBy(kindRequestHeader, h.By, "%s", headerText(h, "requests"))
	}
}

func headerText(h model.HeaderRule, of string) string {
	switch {
	case h.Op == model.ClearHeaders:
		return fmt.Sprintf("Headers whose names begin with %s are removed from %s.", h.Name, of)
	case h.Op == model.ReplaceHeader:
		return fmt.Sprintf("The header %s of %s that have it is set to %s.", h.Name, of, h.Value)
	case h.Value == "" && h.Op == model.SetHeader:
		return fmt.Sprintf("The header %s is removed from %s.", h.Name, of)
	case h.Op == model.AddHeader:
		return fmt.Sprintf("The header %s: %s is added to %s.", h.Name, h.Value, of)
	case h.Op == model.DefaultHeader:
		return fmt.Sprintf("The header %s: %s is added to %s that have none.", h.Name, h.Value, of)
	}
	return fmt.Sprintf("The header %s of %s is set to %s.", h.Name, of, h.Value)
}

// response says what is changed of responses, and what bounds them.
func (s *teller) response() {
	p := s.policy
	for _, h := range p.ResponseHeaders {
		s.sayBy(kindResponseHeader, h.By, "%s", headerText(h, "responses"))
	}
	for _, r := range p.CookieDomains {
		s.say(model.RuleCookieDomain, "The domain of cookies that pods set is changed: %s.", replacementText(r))
	}
	for _, r := range p.CookiePaths {
		s.say(model.RuleCookiePath, "The path of cookies that pods set is changed: %s.", replacementText(r))
	}
	for _, r := range p.Locations {
		s.say(model.RuleLocation, "The Location that pods send is changed: %s.", replacementText(r))
	}
	if p.Substitutions != nil {
		for _, one := range p.Substitutions.Replace {
			s.say(model.RuleSubstitution, "In bodies of responses %q becomes %q.", one.From, one.To)
		}
	}
	if p.MaxResponseHead > 0 {
		s.say(model.RuleResponseHead, "The head of a pod's response may have up to %s, if the proxy's own bound is less.", size(uint64(p.MaxResponseHead)))
	}
	if c := p.Compression; c != nil {
		if len(c.Encodings) == 0 {
			s.say(model.RuleCompression, "Responses are not compressed.")
		} else {
			s.say(model.RuleCompression, "Responses are compressed by %s, where the client takes it.", strings.Join(c.Encodings, ", "))
		}
	}
	if pace := p.Pace; pace != nil {
		s.say(model.RulePace, "A response is sent at no more than %s a second, after the first %s.", size(pace.BytesPerSecond), size(pace.After))
	}
	if e := p.ErrorPages; e != nil {
		s.say(model.RuleErrorPages, "A response with status %s, of a pod or of the proxy, is replaced by the answer of %s.", numbers(e.Status), e.Service)
	}
}

func replacementText(r model.Replacement) string {
	if r.Pattern {
		return fmt.Sprintf("what matches %s becomes %s", r.From, r.To)
	}
	return fmt.Sprintf("%s becomes %s", r.From, r.To)
}

// pods says how pods are chosen and what else is asked.
func (s *teller) pods() {
	p := s.policy
	if t := p.Timeouts; t != (model.Timeouts{}) {
		var parts []string
		for _, part := range []struct {
			what string
			d    time.Duration
		}{{"for a connection", t.Connect}, {"between two writes to it", t.Send}, {"between two reads from it", t.Read}} {
			if part.d > 0 {
				parts = append(parts, fmt.Sprintf("%s %s", part.d, part.what))
			}
		}
		s.say(model.RuleTimeouts, "The proxy waits for a pod: %s.", strings.Join(parts, ", "))
	}
	if b := p.Balance; b != nil {
		s.balance(b)
	}
	if r := p.Retry; r != nil {
		s.say(model.RuleRetry, "%s", retryText(r))
	}
	if p.Fallback != (model.ServiceKey{}) {
		s.say(model.RuleFallback, "Where the service has no ready pod, %s answers.", p.Fallback)
	}
	for _, m := range p.Mirrors {
		body := "with its body"
		if !m.Body {
			body = "without its body"
		}
		s.say(model.RuleMirror, "A copy of each request, %s, goes to %s; what is answered there is dropped.", body, urlOf(m.To))
	}
	if p.Unlogged {
		s.say(model.RuleUnlogged, "Requests are left out of the access log.")
	}
	if t := p.Trace; t != nil {
		s.say(model.RuleTrace, "%s", traceText(t))
	}
}

func (s *teller) balance(b *model.Balance) {
	how := map[model.Algorithm]string{
		model.RoundRobin: "Pods get requests in turn.",
		model.EWMA:       "Of two pods drawn at random, the one that is expected to answer sooner gets a request.",
		model.P2C:        "Of two pods drawn at random, the one with fewer requests in flight gets a request.",
	}[b.Algorithm]
	if b.HashBy != "" {
		how = fmt.Sprintf("Requests with the same value of %s go to the same pod.", b.HashBy)
		if b.Subset > 0 {
			how = fmt.Sprintf("Requests with the same value of %s go to the same %d pods.", b.HashBy, b.Subset)
		}
	}
	if how != "" {
		s.say(model.RuleBalance, "%s", how)
	}
	if a := b.Affinity; a != nil {
		s.say(model.RuleAffinity, "A client stays with its pod by the cookie %s.", a.Cookie)
	}
}

func retryText(r *model.Retry) string {
	if r.On == 0 {
		return "A request is not offered to a second pod."
	}
	tries, within, which := "", "", " that is idempotent"
	if r.Tries > 0 {
		tries = fmt.Sprintf(", up to %s in all", count(int(r.Tries), "pod", "pods"))
	}
	if r.Within > 0 {
		within = fmt.Sprintf(", within %s", r.Within)
	}
	if r.NonIdempotent {
		which = ""
	}
	return fmt.Sprintf("A request%s is offered to another pod on %s%s%s.", which, strings.ReplaceAll(r.On.String(), ",", ", "), tries, within)
}

func traceText(t *model.Trace) string {
	var parts []string
	if t.Enabled != nil && *t.Enabled {
		parts = append(parts, "Requests are traced.")
	} else if t.Enabled != nil {
		parts = append(parts, "Requests are not traced.")
	}
	if t.Operation != "" {
		parts = append(parts, fmt.Sprintf("Spans are called %s.", t.Operation))
	}
	if t.Trust != nil && *t.Trust {
		parts = append(parts, "The client's trace is continued.")
	} else if t.Trust != nil {
		parts = append(parts, "The client's trace is not continued.")
	}
	return strings.Join(parts, " ")
}

// canaryRule says which part of the requests a canary gets.
func canaryRule(c model.Split) Rule {
	var parts []string
	if c.Header != "" {
		switch {
		case c.Value != "":
			parts = append(parts, fmt.Sprintf("those with the header %s: %s", c.Header, c.Value))
		case c.Pattern != "":
			parts = append(parts, fmt.Sprintf("those whose header %s matches %s", c.Header, c.Pattern))
		default:
			parts = append(parts, fmt.Sprintf("those with the header %s: always (none with never)", c.Header))
		}
	}
	if c.Cookie != "" {
		parts = append(parts, fmt.Sprintf("those with the cookie %s=always (none with never)", c.Cookie))
	}
	if c.Weight > 0 {
		share := percent(float64(c.Weight) / float64(max(c.Total, 1)))
		if len(parts) > 0 {
			share += " of the others, at random"
		} else {
			share += " of all, at random"
		}
		parts = append(parts, share)
	}
	if len(parts) == 0 {
		parts = []string{"none, as neither a weight, a header nor a cookie is set"}
	}
	return Rule{Kind: "canary", Text: fmt.Sprintf("The canary %s gets these requests: %s.", serviceName(c.Service), strings.Join(parts, "; ")),
		By: []string{c.Source.String()}}
}

func serviceName(key model.ServiceKey) string {
	if key == (model.ServiceKey{}) {
		return "(a Service or port that does not exist)"
	}
	return key.String()
}

func percent(p float64) string {
	return strconv.FormatFloat(p*100, 'f', -1, 64) + " %"
}

// size is a number of bytes in the largest unit that needs no fraction.
func size(n uint64) string {
	for _, unit := range []struct {
		name  string
		shift int
	}{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}} {
		if n > 0 && n&(1<<unit.shift-1) == 0 {
			return fmt.Sprintf("%d %s", n>>unit.shift, unit.name)
		}
	}
	return count(int(min(n, 1<<62)), "byte", "bytes")
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// shownPrefixes bounds what is listed of a rule with very many sources.
const shownPrefixes = 8

func prefixList(list []netip.Prefix) string {
	var out []string
	for _, p := range list[:min(len(list), shownPrefixes)] {
		if p.IsSingleIP() {
			out = append(out, p.Addr().String())
		} else {
			out = append(out, p.String())
		}
	}
	if more := len(list) - len(out); more > 0 {
		out = append(out, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(out, ", ")
}

func numbers(list []int) string {
	var out []string
	for _, n := range list {
		out = append(out, strconv.Itoa(n))
	}
	return strings.Join(out, ", ")
}
