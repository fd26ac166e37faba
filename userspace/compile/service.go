package compile

import (
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
)

// describe adds to the services that routes lead to what proxies are to know of them beyond
// their names. Of L4 services they know those alone whose pods they are to ask.
func (r *Routing) describe(m *model.Model, ids IDs) {
	spoken := upstreams(m)
	for i := range m.Services {
		s := &m.Services[i]
		id, ok := ids(s.Key.String())
		if out := r.services[uint32(id)]; ok && out != nil {
			serviceMessage(out, s, spoken[s.Key])
		}
	}
	for i := range m.L4 {
		s := &m.L4[i]
		if s.Health == nil {
			continue
		}
		for _, v4 := range []bool{true, false} {
			name := l4Name(s.L4Key, v4)
			if id, ok := ids(name); ok {
				r.services[uint32(id)] = &feedpb.Service{
					Id: uint32(id), Name: name, Health: healthMessage(s.Health, model.Upstream{}), Outlier: &feedpb.Outlier{Off: true},
				}
			}
		}
	}
}

// upstreams says how each service's pods are spoken to: as its first route does.
func upstreams(m *model.Model) map[model.ServiceKey]model.Upstream {
	out := make(map[model.ServiceKey]model.Upstream, len(m.Services))
	for i := range m.Hosts {
		for j := range m.Hosts[i].Routes {
			route := &m.Hosts[i].Routes[j]
			if _, known := out[route.Service]; !known {
				out[route.Service] = route.Upstream
			}
		}
	}
	return out
}

func serviceMessage(out *feedpb.Service, s *model.Service, u model.Upstream) {
	out.SlowStartMs = milliseconds(s.SlowStart)
	out.NoSkMsg = s.NoSkMsg
	out.MaxConnections, out.MaxPending = s.Bounds.Connections, s.Bounds.Pending
	if o := s.Outlier; o != (model.Outlier{}) {
		out.Outlier = &feedpb.Outlier{Off: o.Off, Consecutive: o.Consecutive, EjectionMs: milliseconds(o.Ejection), MostPercent: o.MostPercent, ServerErrors: o.ServerErrors}
	}
	out.Health = healthMessage(s.Health, u)
}

func healthMessage(h *model.HealthCheck, u model.Upstream) *feedpb.HealthCheck {
	if h == nil {
		return nil
	}
	return &feedpb.HealthCheck{
		Kind: feedpb.HealthCheck_Kind(h.Kind), Path: h.Path, Host: h.Host, Port: uint32(h.Port),
		IntervalMs: milliseconds(h.Interval), TimeoutMs: milliseconds(h.Timeout), Unhealthy: h.Unhealthy, Healthy: h.Healthy,
		Upstream: upstream(u),
	}
}
