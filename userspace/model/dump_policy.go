package model

import (
	"fmt"
	"net/netip"
	"strings"
)

// Rules returns what happens to the route's requests beyond being sent to its service, one
// rule a line.
func (r *Route) Rules() string {
	var b strings.Builder
	for _, c := range r.Splits {
		fmt.Fprintf(&b, "canary %s\n", c)
	}
	if r.Policy != nil {
		r.Policy.dump(&b)
	}
	if r.Locations != nil {
		dumpLocations(&b, "", r.Locations.Server)
		dumpLocations(&b, "nested ", r.Locations.Nested)
	}
	return b.String()
}

// dumpLocations writes each rule of a location in a line of its own.
func dumpLocations(b *strings.Builder, kind string, list []Location) {
	for _, l := range list {
		dumpLocations(b, kind+l.String()+": ", l.Inner)
		var rules strings.Builder
		l.Policy.dump(&rules)
		for line := range strings.Lines(rules.String()) {
			fmt.Fprintf(b, "%s%s: %s", kind, l, line)
		}
	}
}

// dump writes one rule a line.
func (p *Policy) dump(b *strings.Builder) {
	line := func(format string, args ...any) {
		b.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " ") + "\n")
	}
	for _, s := range p.ServerSteps {
		line("server step: %s", s)
	}
	for _, s := range p.Steps {
		line("step: %s", s)
	}
	for _, r := range p.Redirects {
		line("redirect%s", r.dump())
	}
	if c := p.CORS; c != nil {
		line("cors: origins %q methods %q headers %q expose %q credentials %t max-age %s", c.Origins, c.Methods, c.Headers, c.Expose, c.Credentials, c.MaxAge)
	}
	if l := p.Limits; l != nil {
		for _, r := range l.Rates {
			line("limit %s: %d requests in %s, burst %d; else %d%s", l.Scope, r.Requests, r.Period, r.Burst, l.Status, exempt(l.Exempt))
		}
		if l.Connections > 0 {
			line("limit %s: %d requests at once; else %d%s", l.Scope, l.Connections, l.Status, exempt(l.Exempt))
		}
	}
	if a := p.Access; a != nil {
		line("access: %s", a.dump())
	}
	if p.MaxResponseHead > 0 {
		line("response head: at most %d bytes", p.MaxResponseHead)
	}
	if p.MaxBody != nil {
		line("body: at most %d bytes", *p.MaxBody)
	}
	if p.Buffering != BufferAuto {
		line("request buffering: %s", p.Buffering)
	}
	if p.Rewrite != nil {
		line("rewrite: %s", p.Rewrite.Target)
	}
	if p.Host != "" {
		line("host: %s", p.Host)
	}
	for _, h := range p.RequestHeaders {
		line("request: %s", h)
	}
	for _, h := range p.ResponseHeaders {
		line("response: %s", h)
	}
	for _, r := range p.CookieDomains {
		line("cookie domain: %s", r)
	}
	for _, r := range p.CookiePaths {
		line("cookie path: %s", r)
	}
	for _, r := range p.Locations {
		line("location: %s", r)
	}
	if s := p.Substitutions; s != nil {
		for _, one := range s.Replace {
			line("substitution: %q -> %q once %t of %q", one.From, one.To, s.Once, s.Types)
		}
	}
	if t := p.Timeouts; t != (Timeouts{}) {
		line("timeouts: connect %s send %s read %s", t.Connect, t.Send, t.Read)
	}
	if p.Unlogged {
		line("unlogged")
	}
	if b := p.Balance; b != nil {
		line("balance: %s", b)
	}
	if r := p.Retry; r != nil {
		line("retry: on %s tries %d within %s non-idempotent %t", r.On, r.Tries, r.Within, r.NonIdempotent)
	}
	for _, m := range p.Mirrors {
		line("mirror: %s host %q body %t", m.To, m.Host, m.Body)
	}
	if e := p.ErrorPages; e != nil {
		line("error pages: %v by %s", e.Status, orNone(e.Service))
	}
	if p.Fallback != (ServiceKey{}) {
		line("fallback: %s", p.Fallback)
	}
	if c := p.Compression; c != nil {
		line("compression: %v of %v from %d bytes", c.Encodings, c.Types, c.MinBytes)
	}
	if pace := p.Pace; pace != nil {
		line("pace: %d bytes/s after %d", pace.BytesPerSecond, pace.After)
	}
	if t := p.Trace; t != nil {
		line("trace: enabled %s operation %q trust %s", optional(t.Enabled), t.Operation, optional(t.Trust))
	}
}

func optional(b *bool) string {
	if b == nil {
		return "-"
	}
	return fmt.Sprint(*b)
}

var algorithmTexts = [...]string{P2C: "p2c", RoundRobin: "round-robin", Maglev: "maglev", EWMA: "ewma", ServiceAlgorithm: "as the service"}

// String returns the balancing as text.
func (b *Balance) String() string {
	text := algorithmTexts[b.Algorithm]
	if b.HashBy != "" {
		text += fmt.Sprintf(" hash by %q subset %d", b.HashBy, b.Subset)
	}
	if a := b.Affinity; a != nil {
		text += fmt.Sprintf(" cookie %s persistent %t change-on-failure %t canary %t path %q domain %q max-age %s expires %s same-site %q conditional %t secure %s",
			a.Cookie, a.Persistent, a.ChangeOnFailure, a.Canary, a.Path, a.Domain, a.MaxAge, a.Expires, a.SameSite, a.ConditionalSameSite, optional(a.Secure))
	}
	return text
}

// String returns the conditions in ingress-nginx's words.
func (on RetryOn) String() string {
	var words []string
	for i, word := range []string{"error", "timeout", "invalid_header", "http_500", "http_502", "http_503", "http_504", "http_403", "http_404", "http_429"} {
		if on>>i&1 != 0 {
			words = append(words, word)
		}
	}
	if len(words) == 0 {
		return "nothing"
	}
	return strings.Join(words, ",")
}

// String returns the destination as a URL, and the service that stands behind it.
func (d Destination) String() string {
	scheme := "http"
	if d.TLS {
		scheme = "https"
	}
	text := scheme + "://" + d.Authority + d.Path
	if d.Service != (ServiceKey{}) {
		text += " (" + d.Service.String() + ")"
	}
	return text
}

func (e *ExternalAuth) String() string {
	return fmt.Sprintf("external %s method %q headers %v response %q sign-in %q parameter %q redirect %q always-set-cookie %t cache %q %v",
		e.To, e.Method, e.Headers, e.Response, e.SignIn, e.SignInParameter, e.Redirect, e.AlwaysSetCookie, e.CacheKey, e.CacheFor)
}

func exempt(prefixes []netip.Prefix) string {
	if len(prefixes) == 0 {
		return ""
	}
	return fmt.Sprintf("; exempt %v", prefixes)
}

func (a *Access) dump() string {
	var parts []string
	if a.Closed != "" {
		parts = append(parts, "closed, as "+a.Closed)
	}
	if len(a.Allow) > 0 {
		parts = append(parts, fmt.Sprintf("allow %v", a.Allow))
	}
	if len(a.Deny) > 0 {
		parts = append(parts, fmt.Sprintf("deny %v", a.Deny))
	}
	if a.Basic != nil {
		parts = append(parts, fmt.Sprintf("basic %q %s", a.Basic.Realm, a.Basic.Users))
	}
	if a.External != nil {
		parts = append(parts, a.External.String())
	}
	how := " and "
	if a.Any {
		how = " or "
	}
	return strings.Join(parts, how)
}

// String returns the rule as text.
func (h HeaderRule) String() string {
	op := [...]string{SetHeader: "set", AddHeader: "add", DefaultHeader: "default", ReplaceHeader: "replace", ClearHeaders: "clear all of"}[h.Op]
	text := fmt.Sprintf("%s %s %q", op, h.Name, h.Value)
	if h.Success {
		text += " of success"
	}
	if len(h.Status) > 0 {
		text += fmt.Sprintf(" of %v", h.Status)
	}
	if len(h.Types) > 0 {
		text += fmt.Sprintf(" of %q", h.Types)
	}
	if h.Levels > 0 {
		text += " at levels"
		for level := range MaxLevel + 1 {
			if h.Levels&(1<<level) != 0 {
				text += fmt.Sprintf(" %d", level)
			}
		}
	}
	return text
}

// String returns the replacement as text.
func (r Replacement) String() string {
	if r.Pattern {
		return fmt.Sprintf("~%s -> %s", r.From, r.To)
	}
	return r.From + " -> " + r.To
}

// String returns the canary as text.
func (c Split) String() string {
	text := orNone(c.Service)
	if c.Header != "" {
		text += fmt.Sprintf(" header %s value %q pattern %q", c.Header, c.Value, c.Pattern)
	}
	if c.Cookie != "" {
		text += " cookie " + c.Cookie
	}
	return fmt.Sprintf("%s weight %d/%d (%s)", text, c.Weight, c.Total, c.Source)
}
