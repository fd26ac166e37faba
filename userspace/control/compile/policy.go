package compile

import (
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
)

// knownRules are the policies and locations of a host that its message has already, by
// their places there, from 1 on.
type knownRules struct {
	policies  map[*model.Policy]uint32
	locations map[*model.Locations]uint32
}

// rules adds what a route wants beyond being sent to its service. Routes of a host that
// share a Policy or Locations name the same entry of the host's list.
func (r *Routing) rules(host *feedpb.Host, out *feedpb.Route, route *model.Route, known *knownRules, ids IDs, exclude Exclude) {
	out.Regexp = route.Match == model.Regexp
	policy := func(p *model.Policy) uint32 {
		if p != nil && known.policies[p] == 0 {
			host.Policies = append(host.Policies, r.policy(p, route.Source, ids))
			known.policies[p] = uint32(len(host.Policies))
		}
		return known.policies[p]
	}
	out.Policy = policy(route.Policy)
	if l := route.Locations; l != nil {
		if known.locations[l] == 0 {
			host.Locations = append(host.Locations, &feedpb.Locations{Server: locationMessages(l.Server, policy), Nested: locationMessages(l.Nested, policy)})
			known.locations[l] = uint32(len(host.Locations))
		}
		out.Locations = known.locations[l]
	}
	for _, c := range route.Splits {
		if exclude.Of(c.Source) == Included {
			split := r.split(c, ids)
			split.Policy = policy(c.Policy)
			out.Splits = append(out.Splits, split)
		}
	}
}

// split returns the message of a split without its policy, which is an entry of the host.
func (r *Routing) split(c model.Split, ids IDs) *feedpb.Split {
	out := SplitMessage(c)
	out.Service = r.service(c.Service, ids)
	if c.Upstream != nil {
		// Said in any case: what is absent stands for the route's, not for clear text.
		if out.Upstream = upstream(*c.Upstream); out.Upstream == nil {
			out.Upstream = &feedpb.Upstream{}
		}
	}
	return out
}

func locationMessages(list []model.Location, policy func(*model.Policy) uint32) (out []*feedpb.Location) {
	for _, l := range list {
		out = append(out, &feedpb.Location{Match: feedpb.Location_Match(l.Match), Path: l.Path, Policy: policy(l.Policy), Inner: locationMessages(l.Inner, policy)})
	}
	return out
}

// policy is policyMessage, with the services that the policy names.
func (r *Routing) policy(p *model.Policy, source model.ObjectRef, ids IDs) *feedpb.Policy {
	return PolicyMessage(p, source, func(key model.ServiceKey) uint32 { return r.service(key, ids) })
}

// PolicyMessage returns the rules of a policy as proxies get them. service finds the id of a
// service; what has none is left out.
func PolicyMessage(p *model.Policy, source model.ObjectRef, service func(model.ServiceKey) uint32) *feedpb.Policy {
	out := &feedpb.Policy{
		MaxBodyBytes:         p.MaxBody,
		Host:                 p.Host,
		RequestHeaders:       headerMessages(p.RequestHeaders),
		ResponseHeaders:      headerMessages(p.ResponseHeaders),
		CookieDomains:        replacementMessages(p.CookieDomains),
		CookiePaths:          replacementMessages(p.CookiePaths),
		Locations:            replacementMessages(p.Locations),
		ConnectTimeoutMs:     milliseconds(p.Timeouts.Connect),
		SendTimeoutMs:        milliseconds(p.Timeouts.Send),
		ReadTimeoutMs:        milliseconds(p.Timeouts.Read),
		Unlogged:             p.Unlogged,
		MaxResponseHeadBytes: p.MaxResponseHead,
		Balance:              balanceMessage(p.Balance),
		FallbackService:      service(p.Fallback),
		RequestBuffering:     feedpb.RequestBuffering(p.Buffering),
	}
	out.ServerSteps, out.Steps = stepMessages(p.ServerSteps), stepMessages(p.Steps)
	if s := p.Substitutions; s != nil {
		out.Substitutions = &feedpb.Substitutions{Once: s.Once, Types: s.Types, KeepModified: s.KeepModified}
		for _, one := range s.Replace {
			out.Substitutions.Replace = append(out.Substitutions.Replace, &feedpb.Substitutions_Substitution{From: one.From, To: one.To})
		}
	}
	if retry := p.Retry; retry != nil {
		out.Retry = &feedpb.Retry{On: uint32(retry.On), NonIdempotent: retry.NonIdempotent, Tries: retry.Tries, WithinMs: milliseconds(retry.Within)}
	}
	for _, m := range p.Mirrors {
		out.Mirrors = append(out.Mirrors, &feedpb.Mirror{To: destinationMessage(m.To, service), Host: m.Host, Body: m.Body})
	}
	if e := p.ErrorPages; e != nil {
		out.ErrorPages = &feedpb.ErrorPages{Status: numbers(e.Status), Service: service(e.Service), Namespace: source.Namespace, Ingress: source.Name}
	}
	if c := p.Compression; c != nil {
		out.Compression = &feedpb.Compression{Encodings: c.Encodings, Types: c.Types, MinBytes: c.MinBytes}
	}
	if pace := p.Pace; pace != nil {
		out.Pace = &feedpb.Pace{BytesPerSecond: pace.BytesPerSecond, After: pace.After}
	}
	if trace := p.Trace; trace != nil {
		out.Trace = &feedpb.Trace{Enabled: trace.Enabled, Operation: trace.Operation, Trust: trace.Trust}
	}
	for _, d := range p.Redirects {
		out.Redirects = append(out.Redirects, redirectMessage(d))
	}
	if c := p.CORS; c != nil {
		out.Cors = &feedpb.CORS{Origins: c.Origins, Methods: c.Methods, Headers: c.Headers, Expose: c.Expose, Credentials: c.Credentials, MaxAgeSeconds: uint32(c.MaxAge / time.Second)}
	}
	if l := p.Limits; l != nil {
		out.Limits = &feedpb.Limits{Connections: l.Connections, Exempt: prefixTexts(l.Exempt), Status: uint32(l.Status), Scope: l.Scope}
		for _, r := range l.Rates {
			out.Limits.Rates = append(out.Limits.Rates, &feedpb.Rate{Requests: r.Requests, PeriodMs: uint64(r.Period.Milliseconds()), Burst: r.Burst})
		}
	}
	if a := p.Access; a != nil {
		out.Access = &feedpb.Access{Allow: prefixTexts(a.Allow), Deny: prefixTexts(a.Deny), Any: a.Any, Closed: a.Closed}
		if a.Basic != nil {
			out.Access.Basic = &feedpb.BasicAuth{Realm: a.Basic.Realm, Users: a.Basic.Users}
		}
		if a.External != nil {
			out.Access.External = externalMessage(a.External, service)
		}
	}
	if p.Rewrite != nil {
		out.Rewrite = p.Rewrite.Target
	}
	return out
}

func redirectMessage(d model.Redirect) *feedpb.Redirect {
	return &feedpb.Redirect{Path: d.Path, Status: uint32(d.Status), Target: d.Target, Pattern: d.Pattern, Query: d.Query, Body: d.Body, Type: d.Type}
}

func stepMessages(steps []model.Step) (out []*feedpb.Step) {
	for _, s := range steps {
		m := &feedpb.Step{
			Op: feedpb.Step_Op(s.Op), Name: s.Name, Value: s.Value, Test: feedpb.Step_Test(s.Test), To: s.To,
			Pattern: s.Pattern, Then: feedpb.Step_Then(s.Then), Skip: uint32(s.Skip), Level: uint32(s.Level),
		}
		if s.Op == model.StepAnswer {
			m.Answer = redirectMessage(s.Answer)
		}
		out = append(out, m)
	}
	return out
}

func balanceMessage(b *model.Balance) *feedpb.Balance {
	if b == nil {
		return nil
	}
	out := &feedpb.Balance{Algorithm: feedpb.Algorithm(b.Algorithm), HashBy: b.HashBy, Subset: b.Subset}
	if a := b.Affinity; a != nil {
		out.Affinity = &feedpb.Affinity{
			Cookie: a.Cookie, Persistent: a.Persistent, ChangeOnFailure: a.ChangeOnFailure, Canary: a.Canary,
			Path: a.Path, Domain: a.Domain, MaxAgeSeconds: uint32(a.MaxAge / time.Second), ExpiresSeconds: uint32(a.Expires / time.Second),
			SameSite: a.SameSite, ConditionalSameSite: a.ConditionalSameSite, Secure: a.Secure,
		}
	}
	return out
}

func destinationMessage(d model.Destination, service func(model.ServiceKey) uint32) *feedpb.Destination {
	return &feedpb.Destination{Service: service(d.Service), Tls: d.TLS, Authority: d.Authority, Path: d.Path}
}

func externalMessage(e *model.ExternalAuth, service func(model.ServiceKey) uint32) *feedpb.ExternalAuth {
	out := &feedpb.ExternalAuth{
		To: destinationMessage(e.To, service), Method: e.Method, Headers: headerMessages(e.Headers), Response: e.Response,
		SignIn: e.SignIn, SignInParameter: e.SignInParameter, Redirect: e.Redirect,
		AlwaysSetCookie: e.AlwaysSetCookie, CacheKey: e.CacheKey,
	}
	for _, c := range e.CacheFor {
		out.CacheFor = append(out.CacheFor, &feedpb.CacheTime{Status: numbers(c.Status), ForSeconds: uint32(c.For / time.Second)})
	}
	return out
}

func numbers(list []int) (out []uint32) {
	for _, n := range list {
		out = append(out, uint32(n))
	}
	return out
}

func headerMessages(rules []model.HeaderRule) (out []*feedpb.HeaderRule) {
	for _, h := range rules {
		out = append(out, &feedpb.HeaderRule{Op: feedpb.HeaderRule_Op(h.Op), Name: h.Name, Value: h.Value, Success: h.Success, Status: numbers(h.Status), Types: h.Types, Levels: h.Levels})
	}
	return out
}

func replacementMessages(list []model.Replacement) (out []*feedpb.Replacement) {
	for _, r := range list {
		out = append(out, &feedpb.Replacement{From: r.From, To: r.To, Pattern: r.Pattern})
	}
	return out
}

func prefixTexts(prefixes []netip.Prefix) (out []string) {
	for _, p := range prefixes {
		out = append(out, p.String())
	}
	return out
}

func milliseconds(d time.Duration) uint32 { return uint32(min(d.Milliseconds(), 1<<32-1)) }

// equalRules compares what rules has added to two hosts' routes.
func equalRules(a, b *feedpb.Host) bool {
	return slices.EqualFunc(a.Policies, b.Policies, func(x, y *feedpb.Policy) bool { return proto.Equal(x, y) }) &&
		slices.EqualFunc(a.Locations, b.Locations, func(x, y *feedpb.Locations) bool { return proto.Equal(x, y) }) &&
		slices.EqualFunc(a.Routes, b.Routes, func(x, y *feedpb.Route) bool {
			return x.Regexp == y.Regexp && x.Policy == y.Policy && x.Locations == y.Locations &&
				slices.EqualFunc(x.Splits, y.Splits, func(x, y *feedpb.Split) bool { return proto.Equal(x, y) })
		})
}

// SplitMessage returns the rule of a split as proxies get it, without its service, policy and upstream.
func SplitMessage(c model.Split) *feedpb.Split {
	kind, source := Source(c.Source)
	return &feedpb.Split{SourceKind: kind, Source: source, Header: c.Header, Value: c.Value, Pattern: c.Pattern, Cookie: c.Cookie, Weight: c.Weight, Total: c.Total}
}
