package compile

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
)

// Routing is what a proxy is to know: hosts, the services that their routes lead to,
// certificates and settings. It is never changed once it was made; versions share what did not change.
type Routing struct {
	hosts    map[string]*feedpb.Host
	services map[uint32]*feedpb.Service // by id
	fallback uint32
	settings *feedpb.Settings
	trust
}

// IDs returns the id under which a service's backends stand in the maps. Services that
// have none, because the maps had no room, are answered with 503.
type IDs func(name string) (state.ServiceID, bool)

// Common is what no object asks for, but every proxy is to know.
type Common struct {
	Settings *feedpb.Settings
	Tickets  *feedpb.TicketKeys // nil: proxies keep those that they have
}

// Route translates the model's hosts. Hosts equal to those of previous (which may be nil)
// are taken from there, so that comparing the two is cheap.
func Route(m *model.Model, ids IDs, common Common, exclude Exclude, previous *Routing) *Routing {
	r := &Routing{
		hosts:    make(map[string]*feedpb.Host, len(m.Hosts)),
		services: make(map[uint32]*feedpb.Service, len(m.Services)),
		settings: settingsOf(m, common.Settings),
		trust:    trustOf(m, common.Tickets, previous),
	}
	for i := range m.Hosts {
		host := r.host(&m.Hosts[i], ids, exclude)
		if previous != nil && equalHosts(previous.hosts[host.Name], host) {
			host = previous.hosts[host.Name]
		}
		r.hosts[host.Name] = host
	}
	if exclude != nil {
		r.keepUsed()
	}
	r.fallback = r.service(m.Default, ids)
	r.describe(m, ids)
	if previous != nil && proto.Equal(previous.settings, r.settings) {
		r.settings = previous.settings
	}
	return r
}

// settingsOf adds to the settings what the cluster has a say in.
func settingsOf(m *model.Model, s *feedpb.Settings) *feedpb.Settings {
	if m.Proxies == 0 {
		return s
	}
	s = proto.CloneOf(s)
	if s == nil {
		s = &feedpb.Settings{}
	}
	s.Proxies = m.Proxies
	return s
}

func (r *Routing) host(h *model.Host, ids IDs, exclude Exclude) *feedpb.Host {
	out := &feedpb.Host{Name: h.Name, Tls: r.tls(h.TLS, ids, exclude)}
	known := &knownRules{policies: map[*model.Policy]uint32{}, locations: map[*model.Locations]uint32{}}
	for i := range h.Routes {
		route := &h.Routes[i]
		switch exclude.of(route.Source) {
		case Dropped:
			continue
		case Closed:
			route = ClosedRoute(route)
		}
		message := &feedpb.Route{
			Path:    route.Path,
			Exact:   route.Match == model.Exact,
			Service: r.service(route.Service, ids),
			Source:  Source(route.Source),

			RedirectHttps: route.RedirectHTTPS,
			ClearText:     route.ClearText,
			Upstream:      upstream(route.Upstream),
		}
		r.rules(out, message, route, known, ids, exclude)
		out.Routes = append(out.Routes, message)
	}
	return out
}

func (r *Routing) service(key model.ServiceKey, ids IDs) uint32 {
	if key == (model.ServiceKey{}) {
		return 0
	}
	name := key.String()
	id, ok := ids(name)
	if !ok {
		return 0
	}
	if r.services[uint32(id)] == nil {
		r.services[uint32(id)] = &feedpb.Service{Id: uint32(id), Name: name}
	}
	return uint32(id)
}

// Source returns how the feed names the Ingress behind a route.
func Source(ref model.ObjectRef) string { return ref.Namespace + "/" + ref.Name }

// Snapshot returns the whole of it as a message.
func (r *Routing) Snapshot(version uint64) *feedpb.Config {
	c, _ := (&Routing{}).delta(r, version, true)
	return c
}

// Delta returns what a proxy that has r must change to have next. ok is false if that is
// nothing.
func (r *Routing) Delta(next *Routing, version uint64) (c *feedpb.Config, ok bool) {
	c, ok = r.delta(next, version, false)
	ok = ok || len(c.Hosts)+len(c.RemovedHosts)+len(c.Services)+len(c.RemovedServices) > 0 ||
		c.Settings != nil || r.fallback != next.fallback
	return c, ok
}

func (r *Routing) delta(next *Routing, version uint64, snapshot bool) (c *feedpb.Config, trustDiffers bool) {
	c = &feedpb.Config{Version: version, Snapshot: snapshot, DefaultService: next.fallback}
	for _, name := range slices.Sorted(maps.Keys(next.hosts)) {
		if !equalHosts(r.hosts[name], next.hosts[name]) {
			c.Hosts = append(c.Hosts, next.hosts[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.hosts)) {
		if next.hosts[name] == nil {
			c.RemovedHosts = append(c.RemovedHosts, name)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(next.services)) {
		if !proto.Equal(r.services[id], next.services[id]) {
			c.Services = append(c.Services, next.services[id])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(r.services)) {
		if _, kept := next.services[id]; !kept {
			c.RemovedServices = append(c.RemovedServices, id)
		}
	}
	if r.settings != next.settings {
		c.Settings = next.settings
	}
	return c, r.trust.delta(&next.trust, c)
}

// equalHosts compares without reflection: this runs over every host at every change.
func equalHosts(a, b *feedpb.Host) bool {
	if a == b {
		return true
	}
	if a == nil || b == nil || a.Name != b.Name || !equalTLS(a.Tls, b.Tls) || !equalRules(a, b) {
		return false
	}
	return slices.EqualFunc(a.Routes, b.Routes, func(x, y *feedpb.Route) bool {
		return x.Path == y.Path && x.Exact == y.Exact && x.Service == y.Service && x.Source == y.Source &&
			x.RedirectHttps == y.RedirectHttps && x.ClearText == y.ClearText && equalUpstreams(x.Upstream, y.Upstream)
	})
}
