package compile

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
)

// describe returns what proxies are to know of services. Of L4 services they know those alone
// whose pods they are to ask. What equals that of previous is taken from there.
func describe(m *model.Model, ids IDs, previous *Routing) map[uint32]*feedpb.Service {
	out := make(map[uint32]*feedpb.Service, len(m.Services))
	add := func(s *feedpb.Service) {
		if before := previous.services[s.Id]; equalServices(before, s) {
			s = before
		}
		out[s.Id] = s
	}
	var spoken map[model.ServiceKey]model.Upstream
	for i := range m.Services {
		s := &m.Services[i]
		if s.Health != nil && spoken == nil {
			spoken = upstreams(m)
		}
		name := s.Key.String()
		if id, ok := ids(name); ok {
			message := &feedpb.Service{Id: uint32(id), Name: name}
			serviceMessage(message, s, spoken[s.Key])
			add(message)
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
				add(&feedpb.Service{
					Id: uint32(id), Name: name, Health: healthMessage(s.Health, model.Upstream{}), Outlier: &feedpb.Outlier{Off: true},
				})
			}
		}
	}
	return out
}

// asksPods reports whether pods of any service are asked for their health, for which routes say
// how they are spoken to.
func asksPods(m *model.Model) bool {
	return slices.ContainsFunc(m.Services, func(s model.Service) bool { return s.Health != nil })
}

// equalServices compares without reflection those that have nothing but scalars.
func equalServices(a, b *feedpb.Service) bool {
	if a == nil || a.Health != nil || a.Outlier != nil || b.Health != nil || b.Outlier != nil {
		return proto.Equal(a, b)
	}
	return a.Id == b.Id && a.Name == b.Name && a.SlowStartMs == b.SlowStartMs && a.NoSkMsg == b.NoSkMsg &&
		a.MaxConnections == b.MaxConnections && a.MaxPending == b.MaxPending
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
			for _, split := range route.Splits {
				if _, known := out[split.Service]; !known && split.Upstream != nil {
					out[split.Service] = *split.Upstream
				}
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
