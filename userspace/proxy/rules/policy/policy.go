// Package policy carries out the rules of routes: what is answered without a pod, who gets
// in, and what is changed in requests and responses on their way.
//
// Compile turns the rules of one route, as they come over the feed, into a Policy: checked,
// immutable, shared by all workers. Its methods look at a Request and either say what is to
// be done or do it to the heads, and know nothing of connections; package exchange calls
// them in the order in which model.Policy lists the rules. A request that passes through
// rules allocates nothing.
//
// Whatever rules say, a name or value that they bring in can never end a field or a line,
// and the fields that frame a message or belong to one connection are out of their reach.
package policy

import (
	"fmt"
	"time"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/rules/compress"
	"github.com/kerngate/kerngate/userspace/text/template"
)

// Policy is the rules of one route. nil is a policy without rules.
type Policy struct {
	server, steps []step

	redirects []redirect
	cors      *cors
	limits    *limits
	access    *access

	// MaxBody bounds the request's body in bytes, 0: no limit, -1: the proxy's own bound.
	MaxBody int64

	// Buffering says whether the request's body is read before a pod is chosen.
	Buffering Buffering

	rewrite  *rewrite
	host     template.Template
	request  []header
	response []header

	cookieDomains, cookiePaths, locations []replacement

	// ConnectTimeout, SendTimeout and ReadTimeout are 0 where the proxy's own holds.
	ConnectTimeout, SendTimeout, ReadTimeout time.Duration

	// MaxResponseHead bounds the head of a response in bytes where it is more than the proxy's
	// own bound; 0: that holds.
	MaxResponseHead int

	// Unlogged leaves requests out of the access log.
	Unlogged bool

	Balance *Balance // nil: as the service says
	Retry   *Retry   // nil: as the proxy does by itself

	// Mirrors get a copy of each request.
	Mirrors    []Mirror
	ErrorPages *ErrorPages // nil: none
	// Fallback answers when the route's service has no ready pod; 0: nobody does.
	Fallback state.ServiceID

	substitutions *substitutions

	Pace *Pace // nil: responses go as fast as their clients take them

	Compression *compress.Rules // nil: those of the proxy
	Trace       *Trace          // nil: as the proxy's settings say

	plain bool // nothing of a response is changed
}

// Compile checks and prepares the rules of a route with this path; regexp says that the
// path is an expression. An error says which rule cannot be used.
func Compile(p *feedpb.Policy, path string, regexp bool) (*Policy, error) {
	out := &Policy{
		MaxBody:         -1,
		ConnectTimeout:  milliseconds(p.ConnectTimeoutMs),
		SendTimeout:     milliseconds(p.SendTimeoutMs),
		ReadTimeout:     milliseconds(p.ReadTimeoutMs),
		Unlogged:        p.Unlogged,
		MaxResponseHead: int(min(p.MaxResponseHeadBytes, message.MaxHead)),
		Fallback:        state.ServiceID(p.FallbackService),
		Buffering:       Buffering(p.RequestBuffering),
	}
	if p.RequestBuffering > feedpb.RequestBuffering_BUFFER_OFF {
		return nil, fmt.Errorf("request buffering %d: there are auto (0), on (1) and off (2)", p.RequestBuffering)
	}
	if p.MaxBodyBytes != nil {
		out.MaxBody = int64(min(*p.MaxBodyBytes, 1<<62))
	}
	for _, step := range []struct {
		rule string
		read func() error
	}{
		{"server steps", func() (err error) { out.server, err = compileSteps(p.ServerSteps); return }},
		{"steps", func() (err error) { out.steps, err = compileSteps(p.Steps); return }},
		{"redirect", func() (err error) { out.redirects, err = compileRedirects(p.Redirects); return }},
		{"cors", func() (err error) { out.cors, err = compileCORS(p.Cors); return }},
		{"limits", func() (err error) { out.limits, err = compileLimits(p.Limits); return }},
		{"access", func() (err error) { out.access, err = compileAccess(p.Access); return }},
		{"rewrite", func() (err error) { out.rewrite, err = compileRewrite(p.Rewrite, path, regexp); return }},
		{"host", func() (err error) { out.host, err = template.Parse(p.Host); return }},
		{"request headers", func() (err error) { out.request, err = compileHeaders(p.RequestHeaders); return }},
		{"response headers", func() (err error) { out.response, err = compileHeaders(p.ResponseHeaders); return }},
		{"cookie domains", func() (err error) { out.cookieDomains, err = compileReplacements(p.CookieDomains); return }},
		{"cookie paths", func() (err error) { out.cookiePaths, err = compileReplacements(p.CookiePaths); return }},
		{"substitutions", func() (err error) { out.substitutions, err = compileSubstitutions(p.Substitutions); return }},
		{"pace", func() (err error) { out.Pace, err = compilePace(p.Pace); return }},
		{"balance", func() (err error) { out.Balance, err = compileBalance(p.Balance, path, regexp); return }},
		{"retry", func() (err error) { out.Retry, err = compileRetry(p.Retry); return }},
		{"mirror", func() (err error) { out.Mirrors, err = compileMirrors(p.Mirrors); return }},
		{"error pages", func() (err error) { out.ErrorPages, err = compileErrorPages(p.ErrorPages); return }},
		{"locations", func() (err error) { out.locations, err = compileReplacements(p.Locations); return }},
		{"trace", func() (err error) { out.Trace, err = compileTrace(p.Trace); return }},
		{"compression", func() (err error) { out.Compression, err = compileCompression(p.Compression); return }},
	} {
		if err := step.read(); err != nil {
			return nil, fmt.Errorf("%s: %w", step.rule, err)
		}
	}
	out.capture()
	out.plain = out.cors == nil && len(out.response)+len(out.cookieDomains)+len(out.cookiePaths)+len(out.locations) == 0
	return out, nil
}

func compileCompression(p *feedpb.Compression) (*compress.Rules, error) {
	if p == nil {
		return nil, nil
	}
	return compress.Compile(p)
}

// PerRoute reports whether a compiled policy is for one path alone; else routes with the
// same rules may share it.
func PerRoute(p *feedpb.Policy) bool {
	a := p.Balance.GetAffinity()
	return p.Rewrite != "" || a != nil && a.Path == ""
}

func milliseconds(n uint32) time.Duration { return time.Duration(n) * time.Millisecond }
