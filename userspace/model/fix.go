package model

import (
	"slices"

	"github.com/kerngate/kerngate/userspace/text/template"
)

// Fix returns the policy with some values of its templates, by name, replaced by text; the
// same policy if it has none of them.
func (p *Policy) Fix(values map[string]string) *Policy {
	changed := false
	fix := func(text string) string {
		return template.Substitute(text, func(name string) (string, bool) {
			v, ok := values[name]
			changed = changed || ok
			return v, ok
		})
	}
	rules := func(list []HeaderRule) []HeaderRule {
		list = slices.Clone(list)
		for i := range list {
			list[i].Value = fix(list[i].Value)
		}
		return list
	}
	out := *p
	out.Host = fix(p.Host)
	out.RequestHeaders, out.ResponseHeaders = rules(p.RequestHeaders), rules(p.ResponseHeaders)
	out.Redirects = slices.Clone(p.Redirects)
	for i := range out.Redirects {
		out.Redirects[i].Target = fix(out.Redirects[i].Target)
	}
	for i := range out.Redirects {
		out.Redirects[i].Body = fix(out.Redirects[i].Body)
	}
	steps := func(list []Step) []Step {
		list = slices.Clone(list)
		for i := range list {
			s := &list[i]
			s.Value, s.Answer.Target, s.Answer.Body = fix(s.Value), fix(s.Answer.Target), fix(s.Answer.Body)
			if s.Test == TestEqual || s.Test == TestDifferent {
				s.To = fix(s.To)
			}
		}
		return list
	}
	out.ServerSteps, out.Steps = steps(p.ServerSteps), steps(p.Steps)
	if p.Substitutions != nil {
		substitutions := *p.Substitutions
		substitutions.Replace = slices.Clone(substitutions.Replace)
		for i := range substitutions.Replace {
			substitutions.Replace[i].To = fix(substitutions.Replace[i].To)
		}
		out.Substitutions = &substitutions
	}
	out.Mirrors = slices.Clone(p.Mirrors)
	for i := range out.Mirrors {
		m := &out.Mirrors[i]
		m.Host, m.To.Path = fix(m.Host), fix(m.To.Path)
	}
	if p.Access != nil && p.Access.External != nil {
		access, e := *p.Access, *p.Access.External
		e.To.Path, e.Headers = fix(e.To.Path), rules(e.Headers)
		e.SignIn, e.Redirect, e.CacheKey = fix(e.SignIn), fix(e.Redirect), fix(e.CacheKey)
		access.External = &e
		out.Access = &access
	}
	if p.Balance != nil {
		balance := *p.Balance
		balance.HashBy = fix(balance.HashBy)
		out.Balance = &balance
	}
	if p.Trace != nil {
		trace := *p.Trace
		trace.Operation = fix(trace.Operation)
		out.Trace = &trace
	}
	if !changed {
		return p
	}
	return &out
}
