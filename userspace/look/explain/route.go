package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kerngate/kerngate/userspace/look/status"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
	"github.com/kerngate/kerngate/userspace/route"
)

// route follows the request by host and path to what answers it.
func (w *walk) route() {
	if w.in.Routes == nil {
		w.unknown("host", w.in.NoAgent)
		w.unknown("path", w.in.NoAgent)
		return
	}
	host, considered := w.host()
	if host == nil {
		w.unmatched(nil, Step{Name: "host", Considered: considered, Summary: fmt.Sprintf("no Ingress names host %s, a wildcard over it, or no host at all", w.in.Target.Host)},
			w.nearestHosts())
		return
	}
	w.step(Step{Name: "host", Result: OK, Considered: considered, Summary: "host rule " + hostName(host.Name) + " matches"})
	r := w.path(host)
	switch {
	case r == nil && host.Name == "":
		w.unmatched(host, Step{Name: "path", Summary: fmt.Sprintf("no Ingress names host %s, and the rules without a host have no path that matches %s", w.in.Target.Host, w.in.Target.Path),
			Considered: w.paths(host, nil)}, w.nearestHosts())
	case r == nil:
		// As the Ingress API has it: a host that is named is not looked for elsewhere.
		w.unmatched(host, Step{Name: "path", Summary: fmt.Sprintf("host %s has no path that matches %s; less specific hosts are not tried", hostName(host.Name), w.in.Target.Path),
			Considered: w.paths(host, nil)},
			"paths of this host: "+pathList(host))
	default:
		w.out.Object = r.Object()
		w.follow(host, r)
	}
}

// follow goes on from a route.
func (w *walk) follow(host *status.Host, r *status.Route) {
	w.grpc = strings.HasPrefix(r.Upstream, "grpc")
	at, located, known := w.rulesOf(r)
	w.policy = at.model
	if known && at.next == policy.RouteAgain {
		w.again(host, &at)
		return
	}
	if !located {
		w.redirect(host, r)
	}
	w.clearText(host, r.ClearText && !located)
	switch {
	case w.in.Rules != nil && !known:
		w.service(r.Service)
		return
	case w.in.Rules != nil:
		w.obey(&at)
	case r.Closed != "":
		w.stop(Step{Name: "access", Summary: "the Ingress is closed: " + r.Closed},
			Answer{Reason: reasonClosed, Status: 503, Summary: "503 from the proxy to every request: " + r.Closed, Next: "correct the annotation; kerngatectl problems has the message"})
	}
	if located {
		w.stop(Step{Name: "service", Summary: "nothing answers in the location"},
			Answer{Reason: reasonNoService, Status: 503, Summary: "503 from the proxy: the location has no service", Next: "return says what a location of a snippet answers"})
		return
	}
	w.serve(&at, w.shares(&at, r))
}

// RuleOf names the route that matches, whose rules an Input needs. It reports false if
// there is none.
func RuleOf(in Input) (of status.RuleOf, ok bool) {
	if in.Routes == nil {
		return of, false
	}
	w := &walk{in: in}
	host, _ := w.host()
	if host == nil {
		return of, false
	}
	r := w.match(host)
	if r == nil {
		return of, false
	}
	return ruleOf(host, r), true
}

func ruleOf(host *status.Host, r *status.Route) status.RuleOf {
	return status.RuleOf{Host: host.Name, Path: r.Path, Match: r.Match, When: r.Conditions()}
}

// unmatched ends at the default backend, or in 404.
func (w *walk) unmatched(host *status.Host, s Step, next string) {
	d := w.in.Routes.Default
	if d != "" {
		s.Result = OK
		s.Summary += "; the default backend " + d + " answers"
		w.step(s)
	}
	w.clearText(host, false)
	if d != "" {
		w.service(d)
		return
	}
	w.stop(s, Answer{Reason: reasonNoRoute, Status: 404, Summary: "404 from the proxy: nothing publishes this host and path, and there is no default backend", Next: next})
}

// host finds the most specific host: exact, then the wildcard with the longest domain, then any. It
// also returns what it looked at.
func (w *walk) host() (chosen *status.Host, considered []Candidate) {
	type level struct{ name, what string }
	name := w.in.Target.Host
	label, parent, dotted := strings.Cut(name, ".")
	levels := []level{{name, "exact name"}}
	if dotted && label != "" {
		levels = append(levels, level{"*." + parent, "wildcard for one label"})
		for domain, more := parent, true; more; _, domain, more = strings.Cut(domain, ".") {
			if wildcard := "**." + domain; slices.ContainsFunc(w.in.Routes.Hosts, func(h status.Host) bool { return h.Name == wildcard }) {
				levels = append(levels, level{wildcard, "wildcard for any number of labels"})
			}
		}
	}
	for _, rule := range append(levels, level{"", "rules without a host"}) {
		c := Candidate{Rule: hostName(rule.name)}
		i := slices.IndexFunc(w.in.Routes.Hosts, func(h status.Host) bool { return h.Name == rule.name })
		switch {
		case i < 0:
			c.Why = "no Ingress has this " + rule.what
			if rule.name == "" {
				c.Why = "no Ingress has rules without a host"
			}
		case chosen != nil:
			c.Why = rule.what + ", but a more specific host matches"
		default:
			chosen = &w.in.Routes.Hosts[i]
			c.Chosen, c.Why = true, rule.what
		}
		considered = append(considered, c)
	}
	// Wildcards that look as if they should match, and why they do not.
	for _, h := range w.in.Routes.Hosts {
		suffix, wild := strings.CutPrefix(h.Name, "*")
		if wild && suffix[0] != '*' && suffix != "."+parent && strings.HasSuffix(name, suffix) {
			considered = append(considered, Candidate{Rule: h.Name, Why: "a wildcard stands for exactly one label"})
		}
	}
	return chosen, considered
}

// path finds the route that matches, and tells why.
func (w *walk) path(host *status.Host) *status.Route {
	r := w.match(host)
	if r != nil {
		summary := fmt.Sprintf("%s %s matches, of %s", r.Match, r.Path, r.Object())
		if r.Upstream != "" {
			summary += "; its pods are spoken to by " + r.Upstream
		}
		w.step(Step{Name: "path", Result: OK, Considered: w.paths(host, r), Summary: summary})
	}
	return r
}

// match finds the first route, in order of precedence, whose path and conditions match.
func (w *walk) match(host *status.Host) *status.Route {
	for _, kind := range []string{status.MatchExact, status.MatchRegexp, status.MatchPrefix} {
		for i := range host.Routes {
			if r := &host.Routes[i]; r.Match == kind && matches(r, w.in.Target.Path) && w.fits(r) {
				return r
			}
		}
	}
	return nil
}

// shownPaths bounds what is listed of a host with very many paths.
const shownPaths = 20

// paths lists what was compared, in order of precedence.
func (w *walk) paths(host *status.Host, chosen *status.Route) []Candidate {
	var out []Candidate
	for i := range host.Routes {
		r := &host.Routes[i]
		c := Candidate{Rule: r.Match + " " + r.Path}
		if r.When != nil {
			c.Rule += " with " + r.Conditions()
		}
		switch {
		case r == chosen:
			c.Chosen, c.Why = true, why(r)
		case !matches(r, w.in.Target.Path):
			c.Why = whyNot(r, w.in.Target.Path)
		case !w.fits(r):
			c.Why = "the path matches, but the request is not as the conditions want it"
		default:
			c.Why = "matches too, but is less specific (Exact before Regexp before Prefix, then the longest path wins)"
		}
		if len(out) < shownPaths || c.Chosen {
			out = append(out, c)
		}
	}
	return out
}

// matches reports whether the route takes the path; the rule of userspace/route, which
// a test holds it to.
func matches(r *status.Route, path string) bool {
	switch r.Match {
	case status.MatchExact:
		return path == r.Path
	case status.MatchRegexp:
		p, err := route.ParsePattern(r.Path)
		return err == nil && p.Match([]byte(path))
	}
	if r.Path == "/" {
		return true
	}
	rest, ok := strings.CutPrefix(path, r.Path)
	return ok && (rest == "" || rest[0] == '/')
}

// fits reports whether the request is as the route's conditions want it.
func (w *walk) fits(r *status.Route) bool {
	if r.When == nil {
		return true
	}
	head, err := w.in.Target.head()
	if err != nil {
		return false
	}
	c, err := route.NewConditions(*r.When)
	return err == nil && (c == nil || c.Fit(message.ForRoute{Head: head.Request, TLS: w.in.Target.Scheme == "https"}))
}

func why(r *status.Route) string {
	if r.Match == status.MatchRegexp {
		return "the path begins with what the expression matches, letters of any case"
	}
	if r.Match == status.MatchExact {
		return "the path is the same, byte by byte"
	}
	return "its elements are the first of the request's path"
}

func whyNot(r *status.Route, path string) string {
	exact := r.Match == status.MatchExact
	start := prefixOf(path, r.Path)
	switch {
	case r.Match == status.MatchRegexp:
		return "the expression does not match at the beginning of the path"
	case exact && strings.TrimSuffix(path, "/") == strings.TrimSuffix(r.Path, "/"):
		return "Exact: a trailing / makes a difference"
	case !exact && start == r.Path:
		return "Prefix compares whole elements: " + r.Path + " does not hold " + nextElement(path, r.Path)
	case exact && strings.EqualFold(path, r.Path), !exact && strings.EqualFold(start, r.Path):
		return "paths are compared with their case"
	}
	return "another path"
}

func prefixOf(path, like string) string { return path[:min(len(path), len(like))] }

// nextElement returns path up to the end of the element in which prefix ends.
func nextElement(path, prefix string) string {
	if i := strings.IndexByte(path[len(prefix):], '/'); i >= 0 {
		return path[:len(prefix)+i]
	}
	return path
}

func hostName(name string) string {
	if name == "" {
		return "(any host)"
	}
	return name
}

func pathList(h *status.Host) string {
	var out []string
	for _, r := range h.Routes[:min(len(h.Routes), shownPaths)] {
		out = append(out, r.Match+" "+r.Path)
	}
	return strings.Join(out, ", ")
}

// nearestHosts says which published names are most like the one that is not.
func (w *walk) nearestHosts() string {
	var names []string
	for _, h := range w.in.Routes.Hosts {
		names = append(names, h.Name)
	}
	near := Nearest(w.in.Target.Host, names, 3)
	if len(near) == 0 {
		return "kerngatectl routes lists what is published; kerngatectl problems says what was refused, and why"
	}
	return "published names nearest to it: " + strings.Join(near, ", ") + "; kerngatectl problems says what was refused, and why"
}
