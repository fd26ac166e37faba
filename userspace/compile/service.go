package compile

import (
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
)

// describe adds to the services that routes lead to what proxies are to know of them beyond
// their names.
func (r *Routing) describe(m *model.Model, ids IDs) {
	for i := range m.Services {
		s := &m.Services[i]
		id, ok := ids(s.Key.String())
		if out := r.services[uint32(id)]; ok && out != nil {
			serviceMessage(out, s)
		}
	}
}

func serviceMessage(out *feedpb.Service, s *model.Service) {
	out.SlowStartMs = milliseconds(s.SlowStart)
	out.MaxConnections, out.MaxPending = s.Bounds.Connections, s.Bounds.Pending
	if o := s.Outlier; o != (model.Outlier{}) {
		out.Outlier = &feedpb.Outlier{Off: o.Off, Consecutive: o.Consecutive, EjectionMs: milliseconds(o.Ejection), MostPercent: o.MostPercent, ServerErrors: o.ServerErrors}
	}
	if h := s.Health; h != nil {
		out.Health = &feedpb.HealthCheck{
			Kind: feedpb.HealthCheck_Kind(h.Kind), Path: h.Path, Host: h.Host, Port: uint32(h.Port),
			IntervalMs: milliseconds(h.Interval), TimeoutMs: milliseconds(h.Timeout), Unhealthy: h.Unhealthy, Healthy: h.Healthy,
		}
	}
}
