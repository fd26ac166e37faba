package config

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// Service is a service as the proxy knows it; its backends are in the maps. It is never
// changed.
type Service struct {
	ID        state.ServiceID
	Name      string       // "namespace/name:port"
	Health    *HealthCheck // nil: pods are not asked
	Outlier   Outlier
	SlowStart time.Duration // in which a new pod's share grows to its own, 0: at once

	MaxConnections uint32 // requests in flight to one pod, 0: no bound
	MaxPending     uint32 // requests that wait for one of them, 0: none waits

	NoSkMsg bool // speak to its pods by TCP alone
}

// name returns the name of a service that may not exist.
func (s *Service) name() string {
	if s == nil {
		return ""
	}
	return s.Name
}

// CheckKind is how a pod's health is asked for.
type CheckKind uint8

const (
	CheckHTTP CheckKind = iota // GET; 2xx and 3xx are healthy
	CheckTCP                   // a connection is enough
	CheckGRPC                  // grpc.health.v1.Health/Check answers SERVING
)

// HealthCheck asks each pod of a service in turn. Every value is set.
type HealthCheck struct {
	Kind      CheckKind
	Path      string // of CheckHTTP; of CheckGRPC the service's name, "" the server
	Host      string // "": the pod's address
	Port      uint16 // 0: that of the backend
	Interval  time.Duration
	Timeout   time.Duration
	Unhealthy uint32 // failures in a row that take a pod out
	Healthy   uint32 // successes in a row that take it back
	Upstream  *Upstream
}

// Outlier takes a pod out for a while because of how it answers. Every value is set.
type Outlier struct {
	Off          bool
	Consecutive  uint32        // failures in a row, of all workers together
	Ejection     time.Duration // of the first time; each further one takes as much longer
	MostPercent  uint32        // of a service's pods that may be out at once; one of several always
	ServerErrors bool          // answers of 500 and above are failures too
}

// DefaultOutlier is in force where nothing is said. Its bar is high: a pod that fails ten
// requests in a row, with not one of any worker's between them that it answers, is not
// merely unlucky.
var DefaultOutlier = Outlier{Consecutive: 10, Ejection: 30 * time.Second, MostPercent: 30}

// Of a health check that does not say otherwise.
const (
	checkInterval  = 10 * time.Second
	checkTimeout   = 5 * time.Second
	checkUnhealthy = 3
	checkHealthy   = 2
	leastInterval  = 100 * time.Millisecond
)

// Services returns all services, by id.
func (s *Snapshot) Services() []*Service { return s.ordered }

func sortServices(services map[uint32]*Service) []*Service {
	return slices.SortedFunc(maps.Values(services), func(a, b *Service) int { return cmp.Compare(a.ID, b.ID) })
}

// service reads what the agent says of a service.
func (s *Snapshot) service(p *feedpb.Service, before *upstreams) *Service {
	ms := func(v uint32) time.Duration { return time.Duration(v) * time.Millisecond }
	out := &Service{
		ID: state.ServiceID(p.Id), Name: p.Name, SlowStart: ms(p.SlowStartMs),
		MaxConnections: p.MaxConnections, MaxPending: p.MaxPending, NoSkMsg: p.NoSkMsg, Outlier: DefaultOutlier,
	}
	if o := p.Outlier; o != nil {
		out.Outlier = Outlier{
			Off:          o.Off,
			Consecutive:  cmp.Or(o.Consecutive, DefaultOutlier.Consecutive),
			Ejection:     cmp.Or(ms(o.EjectionMs), DefaultOutlier.Ejection),
			MostPercent:  min(cmp.Or(o.MostPercent, DefaultOutlier.MostPercent), 100),
			ServerErrors: o.ServerErrors,
		}
	}
	h := p.Health
	if h == nil {
		return out
	}
	// Only an agent of another version says what we do not know. Pods are not asked then;
	// refusing would leave out all else that has changed.
	if h.Kind < 0 || CheckKind(h.Kind) > CheckGRPC || h.Port > 65535 || h.Kind == feedpb.HealthCheck_HTTP && !strings.HasPrefix(h.Path, "/") {
		return out
	}
	u, err := s.upstreams.take(h.Upstream, before)
	if err != nil {
		return out
	}
	out.Health = &HealthCheck{
		Kind: CheckKind(h.Kind), Path: h.Path, Host: h.Host, Port: uint16(h.Port),
		Interval:  max(cmp.Or(ms(h.IntervalMs), checkInterval), leastInterval),
		Timeout:   max(cmp.Or(ms(h.TimeoutMs), checkTimeout), time.Millisecond),
		Unhealthy: cmp.Or(h.Unhealthy, checkUnhealthy),
		Healthy:   cmp.Or(h.Healthy, checkHealthy),
		Upstream:  u,
	}
	return out
}
