package model

import (
	"fmt"
	"strings"
)

// Dump returns the model as text, one fact a line: what the scenario files compare.
func (m Model) Dump() string {
	var b strings.Builder
	for _, l := range m.Listeners {
		fmt.Fprintf(&b, "listener %s\n", l)
	}
	for _, host := range m.Hosts {
		fmt.Fprintf(&b, "host %q\n", host.Name)
		if host.TLS != nil {
			fmt.Fprintf(&b, "  tls %s (%s)\n", host.TLS, host.TLS.Source)
		}
		for _, r := range host.Routes {
			fmt.Fprintf(&b, "  %-6s %s%s -> %s%s (%s)\n", r.Match, r.Path, r.conditions(), orNone(r.Service), r.manner(), r.Source)
			for line := range strings.Lines(r.Rules()) {
				b.WriteString("    " + line)
			}
		}
	}
	if m.Default != (ServiceKey{}) {
		fmt.Fprintf(&b, "default -> %s\n", m.Default)
	}
	for _, s := range m.Services {
		b.WriteString(s.Dump())
	}
	for _, s := range m.L4 {
		b.WriteString(s.Dump())
	}
	if m.Proxies > 0 {
		fmt.Fprintf(&b, "limits are shared by %d\n", m.Proxies)
	}
	m.Defence.dump(&b)
	if m.HSTS != "" {
		fmt.Fprintf(&b, "hsts %s\n", m.HSTS)
	}
	if m.ForwardedFor != "" {
		fmt.Fprintf(&b, "client by header %s\n", m.ForwardedFor)
	}
	for _, member := range m.Members {
		fmt.Fprintf(&b, "node %s\n", member)
	}
	for _, c := range m.Certificates {
		fmt.Fprintf(&b, "certificate %s: %s\n", c.ID, c)
	}
	for _, a := range m.Authorities {
		fmt.Fprintf(&b, "authority %s: %s\n", a.ID, a)
	}
	if m.DefaultCertificate != "" {
		fmt.Fprintf(&b, "default certificate %s\n", m.DefaultCertificate)
	}
	return b.String()
}

// conditions returns what a request must be besides its path, after a space, or "".
func (r Route) conditions() string {
	if r.When == nil {
		return ""
	}
	return " with " + r.When.String()
}

// manner returns what is special about how a route is answered, after a space, or "".
func (r Route) manner() string {
	var text string
	if r.RedirectHTTPS {
		text = " redirect-https"
	}
	if r.ClearText {
		text += " clear-text"
	}
	if u := r.Upstream.String(); u != "http" {
		text += " by " + u
	}
	return text
}

// Dump returns one service and its backends as text.
func (s Service) Dump() string {
	var b strings.Builder
	fmt.Fprintf(&b, "service %s %s", s.Key, s.Algorithm)
	if s.SlowStart > 0 {
		fmt.Fprintf(&b, " slow-start=%v", s.SlowStart)
	}
	if s.PreferLocal {
		b.WriteString(" prefer-local")
	}
	if s.NoSkMsg {
		b.WriteString(" no-sk-msg")
	}
	if s.Bounds != (Bounds{}) {
		fmt.Fprintf(&b, " max-connections=%d max-pending=%d", s.Bounds.Connections, s.Bounds.Pending)
	}
	b.WriteByte('\n')
	dumpHealth(&b, s.Health, s.Outlier)
	dumpBackends(&b, s.Backends)
	return b.String()
}

func dumpBackends(b *strings.Builder, backends []Backend) {
	for _, be := range backends {
		fmt.Fprintf(b, "  %s", be.Address)
		if be.Pod != "" {
			fmt.Fprintf(b, " pod=%s", be.Pod)
		}
		if be.Node != "" {
			fmt.Fprintf(b, " node=%s", be.Node)
		}
		if be.Local {
			b.WriteString(" local")
		}
		if be.Draining {
			b.WriteString(" draining")
		}
		b.WriteByte('\n')
	}
}

func orNone(k ServiceKey) string {
	if k == (ServiceKey{}) {
		return "none"
	}
	return k.String()
}

// String returns "Exact", "Prefix" or "Regexp".
func (m PathMatch) String() string {
	switch m {
	case Exact:
		return "Exact"
	case Regexp:
		return "Regexp"
	}
	return "Prefix"
}

// String returns the algorithm's name in flags, annotations and the CLI.
func (a Algorithm) String() string {
	switch a {
	case RoundRobin:
		return "round-robin"
	case Maglev:
		return "maglev"
	case EWMA:
		return "ewma"
	case ServiceAlgorithm:
		return "service"
	}
	return "p2c"
}

// ParseAlgorithm is the reverse of String.
func ParseAlgorithm(text string) (Algorithm, error) {
	switch text {
	case "p2c":
		return P2C, nil
	case "round-robin":
		return RoundRobin, nil
	case "ewma":
		return EWMA, nil
	}
	return 0, fmt.Errorf("%q is none of p2c, round-robin and ewma", text)
}

// String returns "Warning" or "Refused".
func (s Severity) String() string {
	if s == Refused {
		return "Refused"
	}
	return "Warning"
}

// String returns the problem on one line.
func (p Problem) String() string {
	return fmt.Sprintf("%s %s %s: %s", p.Severity, p.Object, p.Reason, p.Message)
}
