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
	for _, c := range r.Canaries {
		fmt.Fprintf(&b, "canary %s\n", c)
	}
	if r.Policy != nil {
		r.Policy.dump(&b)
	}
	return b.String()
}

// dump writes one rule a line.
func (p *Policy) dump(b *strings.Builder) {
	line := func(format string, args ...any) {
		b.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " ") + "\n")
	}
	for _, r := range p.Redirects {
		path := ""
		if r.Path != "" {
			path = " of " + r.Path
		}
		line("redirect%s: %d %s", path, r.Status, r.Target)
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
	if p.MaxBody != nil {
		line("body: at most %d bytes", *p.MaxBody)
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
	if t := p.Timeouts; t != (Timeouts{}) {
		line("timeouts: connect %s send %s read %s", t.Connect, t.Send, t.Read)
	}
	if p.Unlogged {
		line("unlogged")
	}
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
	how := " and "
	if a.Any {
		how = " or "
	}
	return strings.Join(parts, how)
}

// String returns the rule as text.
func (h HeaderRule) String() string {
	op := [...]string{SetHeader: "set", AddHeader: "add", DefaultHeader: "default"}[h.Op]
	return fmt.Sprintf("%s %s %q", op, h.Name, h.Value)
}

// String returns the replacement as text.
func (r Replacement) String() string {
	if r.Pattern {
		return fmt.Sprintf("~%s -> %s", r.From, r.To)
	}
	return r.From + " -> " + r.To
}

// String returns the canary as text.
func (c Canary) String() string {
	text := orNone(c.Service)
	if c.Header != "" {
		text += fmt.Sprintf(" header %s value %q pattern %q", c.Header, c.Value, c.Pattern)
	}
	if c.Cookie != "" {
		text += " cookie " + c.Cookie
	}
	return fmt.Sprintf("%s weight %d/%d (%s)", text, c.Weight, c.Total, c.Source)
}
