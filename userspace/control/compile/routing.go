package compile

import (
	"cmp"
	"maps"
	"slices"
	"sync/atomic"

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

	version   uint64
	from      uint64   // version of the Routing from which it differs in some hosts; 0: in any
	changed   []string // these hosts
	described uint64   // version for which services were made
	excluding bool     // something is left out
}

var versions atomic.Uint64

// IDs returns the id under which a service's backends stand in the maps. Services that
// have none, because the maps had no room, are answered with 503.
type IDs func(name string) (state.ServiceID, bool)

// Common is what no object asks for, but every proxy is to know.
type Common struct {
	Settings *feedpb.Settings
	Tickets  *feedpb.TicketKeys // nil: proxies keep those that they have
}

// Route translates the model's hosts. What equals that of previous (which may be nil) is
// taken from there, so that comparing the two is cheap. changed says what of the model can
// differ from that of previous, whose services must have kept their ids; nil: anything.
func Route(m *model.Model, ids IDs, common Common, exclude Exclude, previous *Routing, changed *model.Changed) *Routing {
	if previous == nil {
		previous, changed = &Routing{}, nil
	}
	if exclude != nil || previous.excluding {
		changed = nil
	}
	r := &Routing{version: versions.Add(1), excluding: exclude != nil, settings: settingsOf(m, common.Settings), trust: previous.trust}
	if changed == nil || changed.Trust {
		r.trust = trustOf(m, common.Tickets, previous)
	} else if !proto.Equal(r.tickets, common.Tickets) {
		r.tickets = common.Tickets
	}
	if proto.Equal(previous.settings, r.settings) {
		r.settings = previous.settings
	}
	r.fallback = r.service(m.Default, ids)
	if changed == nil || changed.Services || len(changed.Hosts) > 0 && asksPods(m) {
		r.services, r.described = describe(m, ids, previous), r.version
	} else {
		r.services, r.described = previous.services, previous.described
	}
	if changed == nil {
		r.hosts = make(map[string]*feedpb.Host, len(m.Hosts))
		for i := range m.Hosts {
			r.addHost(&m.Hosts[i], ids, exclude, previous)
		}
	} else {
		r.hosts, r.from, r.changed = maps.Clone(previous.hosts), previous.version, changed.Hosts
		for _, name := range changed.Hosts {
			if i, there := slices.BinarySearchFunc(m.Hosts, name, func(h model.Host, name string) int { return cmp.Compare(h.Name, name) }); there {
				r.addHost(&m.Hosts[i], ids, exclude, previous)
			} else {
				delete(r.hosts, name)
			}
		}
	}
	if exclude != nil {
		r.keepUsed()
	}
	return r
}

func (r *Routing) addHost(h *model.Host, ids IDs, exclude Exclude, previous *Routing) {
	host := r.host(h, ids, exclude)
	if before := previous.hosts[host.Name]; equalHosts(before, host) {
		host = before
	}
	r.hosts[host.Name] = host
}

// settingsOf adds to the settings what the cluster has a say in.
func settingsOf(m *model.Model, s *feedpb.Settings) *feedpb.Settings {
	if m.Proxies == 0 && len(m.Listeners) == 0 && m.HSTS == "" && m.ForwardedFor == "" {
		return s
	}
	s = proto.CloneOf(s)
	if s == nil {
		s = &feedpb.Settings{}
	}
	s.Proxies, s.Listeners, s.HttpsPorts = m.Proxies, nil, nil
	if s.Hsts == "" {
		s.Hsts = m.HSTS
	}
	if s.ForwardedForHeader == "" {
		s.ForwardedForHeader = m.ForwardedFor
	}
	for _, l := range m.Listeners {
		s.Listeners = append(s.Listeners, &feedpb.Listener{Name: l.Name, Address: l.Address.AsSlice(), Port: uint32(l.Port), Tls: l.TLS})
		if l.TLS && !slices.Contains(s.HttpsPorts, uint32(l.Port)) {
			s.HttpsPorts = append(s.HttpsPorts, uint32(l.Port)) // for proxies of the version before listeners
		}
	}
	return s
}

func (r *Routing) host(h *model.Host, ids IDs, exclude Exclude) *feedpb.Host {
	out := &feedpb.Host{Name: h.Name, Tls: r.tls(h.TLS, ids, exclude)}
	known := &knownRules{policies: map[*model.Policy]uint32{}, locations: map[*model.Locations]uint32{}}
	for i := range h.Routes {
		route := exclude.Route(&h.Routes[i])
		if route == nil {
			continue
		}
		message := &feedpb.Route{
			Path:    route.Path,
			Exact:   route.Match == model.Exact,
			Service: r.service(route.Service, ids),
			When:    ConditionsMessage(route.When),

			RedirectHttps: route.RedirectHTTPS,
			ClearText:     route.ClearText,
			Upstream:      upstream(route.Upstream),
		}
		message.SourceKind, message.Source = Source(route.Source)
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
	return uint32(id)
}

// Source returns how the feed names the object behind a route. Kind "" stands for Ingress, which is
// all that proxies of an earlier version know.
func Source(ref model.ObjectRef) (kind, name string) {
	if kind = ref.Kind; kind == "Ingress" {
		kind = ""
	}
	return kind, ref.FullName()
}

// ConditionsMessage returns the conditions of a route as proxies get them, nil for none.
func ConditionsMessage(c *model.Conditions) *feedpb.Conditions {
	if c == nil {
		return nil
	}
	comparisons := func(list []model.Comparison) (out []*feedpb.Comparison) {
		for _, one := range list {
			out = append(out, &feedpb.Comparison{Name: one.Name, Value: one.Value, Regexp: one.Regexp})
		}
		return out
	}
	return &feedpb.Conditions{Scheme: c.Scheme, Method: c.Method, Headers: comparisons(c.Headers), Query: comparisons(c.Query)}
}

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
	if next.from != 0 && next.from == r.version {
		for _, name := range next.changed {
			r.hostDelta(next, name, c)
		}
	} else {
		for name, host := range next.hosts {
			if r.hosts[name] != host {
				r.hostDelta(next, name, c)
			}
		}
		for name := range r.hosts {
			if next.hosts[name] == nil {
				r.hostDelta(next, name, c)
			}
		}
		slices.SortFunc(c.Hosts, func(a, b *feedpb.Host) int { return cmp.Compare(a.Name, b.Name) })
		slices.Sort(c.RemovedHosts)
	}
	if r.described != next.described {
		r.serviceDelta(next, c)
	}
	if r.settings != next.settings {
		c.Settings = next.settings
	}
	return c, r.trust.delta(&next.trust, c)
}

// serviceDelta adds to a message what differs of services.
func (r *Routing) serviceDelta(next *Routing, c *feedpb.Config) {
	for id, service := range next.services {
		if r.services[id] != service {
			c.Services = append(c.Services, service)
		}
	}
	for id := range r.services {
		if _, kept := next.services[id]; !kept {
			c.RemovedServices = append(c.RemovedServices, id)
		}
	}
	slices.SortFunc(c.Services, func(a, b *feedpb.Service) int { return cmp.Compare(a.Id, b.Id) })
	slices.Sort(c.RemovedServices)
}

// hostDelta adds to a message what differs of a host.
func (r *Routing) hostDelta(next *Routing, name string, c *feedpb.Config) {
	switch before, after := r.hosts[name], next.hosts[name]; {
	case after == nil && before != nil:
		c.RemovedHosts = append(c.RemovedHosts, name)
	case after != nil && !equalHosts(before, after):
		c.Hosts = append(c.Hosts, after)
	}
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
		return x.Path == y.Path && x.Exact == y.Exact && x.Service == y.Service && x.Source == y.Source && x.SourceKind == y.SourceKind && equalConditions(x.When, y.When) &&
			x.RedirectHttps == y.RedirectHttps && x.ClearText == y.ClearText && equalUpstreams(x.Upstream, y.Upstream)
	})
}

func equalConditions(a, b *feedpb.Conditions) bool {
	return a == b || a != nil && b != nil && proto.Equal(a, b)
}
