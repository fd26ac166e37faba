package agent

import (
	"cmp"

	"github.com/kerngate/kerngate/userspace/control/compile"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/look/status"
	"github.com/kerngate/kerngate/userspace/model"
)

// Routes tells which routes proxies have of a model, which may be nil.
func Routes(m *model.Model, exclude compile.Exclude) status.Routes {
	out := status.Routes{Hosts: []status.Host{}}
	if m == nil {
		return out
	}
	out.Default = m.Default.String()
	out.DefaultCertificate = m.DefaultCertificate
	out.Authorities = authoritiesOf(m)
	for _, h := range m.Hosts {
		host := status.Host{Name: h.Name, TLS: tlsOf(h.TLS), Routes: []status.Route{}}
		for i := range h.Routes {
			if r := exclude.Route(&h.Routes[i]); r != nil {
				host.Routes = append(host.Routes, routeOf(r))
			}
		}
		out.Hosts = append(out.Hosts, host)
	}
	return out
}

// Rules tells what happens to the requests of a route, nothing of one that is not there.
func Rules(m *model.Model, exclude compile.Exclude, settings *feedpb.Settings, of status.RuleOf) status.Rules {
	out := status.Rules{MaxBody: settings.GetMaxBodyBytes(), RedirectPort: cmp.Or(settings.GetPublicHttpsPort(), settings.GetRedirectPort())}
	if m == nil {
		return out
	}
	for i := range m.Hosts {
		if m.Hosts[i].Name != of.Host {
			continue
		}
		for j := range m.Hosts[i].Routes {
			r := exclude.Route(&m.Hosts[i].Routes[j])
			if r == nil || r.Path != of.Path || r.Match.String() != of.Match || routeOf(r).Conditions() != of.When {
				continue
			}
			out.Policy, out.Locations = r.Policy, r.Locations
			for _, c := range r.Splits {
				if exclude.Of(c.Source) == compile.Included {
					out.Splits = append(out.Splits, c)
				}
			}
		}
	}
	return out
}

func routeOf(r *model.Route) status.Route {
	closed := ""
	if r.Policy != nil && r.Policy.Access != nil {
		closed = r.Policy.Access.Closed
	}
	return status.Route{
		Closed: closed,
		Path:   r.Path, Match: r.Match.String(), Service: r.Service.String(), Kind: r.Source.Kind, Source: r.Source.FullName(), When: r.When,
		RedirectHTTPS: r.RedirectHTTPS, ClearText: r.ClearText, Rules: r.Rules(), Upstream: upstreamOf(r.Upstream),
	}
}

// upstreamOf tells what pods are spoken to by, "" for HTTP/1.1 in clear text.
func upstreamOf(u model.Upstream) string {
	if u == (model.Upstream{}) {
		return ""
	}
	return u.String()
}
