package agent

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/control/compile"
	"github.com/kerngate/kerngate/userspace/feed"
	"github.com/kerngate/kerngate/userspace/look/status"
	"github.com/kerngate/kerngate/userspace/model"
)

// answer tells kerngatectl what it asks. What is told is gathered here, in the loop that
// owns it, and written out by another goroutine.
func (a *Agent) answer(e feed.Asked) {
	var told any
	switch e.What {
	case status.QueryStatus:
		told = a.status()
	case status.QueryRoutes:
		told = Routes(a.model, a.exclude())
	case status.QueryServices:
		told = a.services()
	case status.QueryProblems:
		told = a.problemList()
	case status.QueryCertificates:
		told = a.certificateList()
	case status.QueryProxies:
		told = status.Proxies{Proxies: a.generations()}
	case status.QueryDrain, status.QueryUndrain:
		on := e.What == status.QueryDrain
		if !e.Trusted {
			e.Answer(nil, fmt.Errorf("%s changes what this node does, and the proxy's user may not ask for it: run kerngatectl as root", e.What))
			return
		}
		if a.Drain == nil {
			e.Answer(nil, errors.New("this node hands no connections to others (--fabric): withdraw the announcement of its addresses instead"))
			return
		}
		if err := a.Drain(on); err != nil {
			e.Answer(nil, err)
			return
		}
		told = status.Drain{Node: a.NodeName, Draining: on}
	default:
		if of, ok := status.ParseRuleOf(e.What); ok {
			told = Rules(a.model, a.exclude(), a.Settings, of)
			break
		}
		e.Answer(nil, fmt.Errorf("the agent does not know %q: ask for %s, %s, %s, %s, %s or %s", e.What,
			status.QueryStatus, status.QueryRoutes, status.QueryServices, status.QueryCertificates, status.QueryProblems, status.QueryProxies))
		return
	}
	go func() { e.Answer(json.Marshal(told)) }()
}

func (a *Agent) status() status.Status {
	var s status.Status
	if a.Describe != nil {
		s = a.Describe()
	}
	s.StartedAt = a.started
	s.Uptime = status.Duration(time.Since(a.started))
	s.NotReady = *a.ready.Load()
	s.Ready = s.NotReady == ""
	s.Source = a.Source.Describe()
	s.Source.Synced = a.model != nil
	s.FeedMin, s.FeedMax = feed.MinVersion, feed.Version
	s.Epoch = a.Datapath.Epoch()
	s.RunsProxy = a.Child != nil
	s.Proxies = a.generations()
	s.Counts = countsOf(a.model, a.problems.all())
	s.Addresses = []string{}
	for _, address := range a.Node.Addresses {
		s.Addresses = append(s.Addresses, address.String())
	}
	s.Listeners = []status.Listener{}
	for _, l := range a.listeners() {
		s.Listeners = append(s.Listeners, status.Listener{Name: l.Name, Address: netip.AddrPortFrom(l.Address, l.Port).String(), Protocol: l.Protocol()})
		if s.Counts.Listeners++; l.HTTP3 {
			s.Counts.Listeners++
		}
	}
	if a.model != nil {
		for _, l4 := range a.model.L4 {
			s.Counts.Listeners += len(l4.Listeners)
		}
	}
	s.Apply = a.applied.Apply
	return s
}

// listeners returns where requests are taken.
func (a *Agent) listeners() []model.Listener {
	if a.model == nil {
		return a.Listeners
	}
	return a.model.Listeners
}

func countsOf(m *model.Model, problems []model.Problem) (c status.Counts) {
	if m != nil {
		c.Hosts, c.Services, c.Certificates = len(m.Hosts), len(m.Services)+len(m.L4), len(m.Certificates)
		for _, h := range m.Hosts {
			c.Routes += len(h.Routes)
		}
		for _, s := range m.Services {
			c.Backends += len(s.Backends)
		}
		for _, s := range m.L4 {
			c.Backends += len(s.Backends)
		}
	}
	for _, p := range problems {
		if p.Severity == model.Refused {
			c.Refused++
		} else {
			c.Warnings++
		}
	}
	return c
}

func (a *Agent) generations() []status.Generation {
	out := []status.Generation{}
	for _, number := range slices.Sorted(maps.Keys(a.proxies)) {
		p := a.proxies[number]
		out = append(out, status.Generation{
			Number:    p.number,
			State:     p.shown(),
			PID:       p.pid,
			Build:     p.build,
			Connected: p.peer != nil,
			Config:    p.ackedVersion,
			Workers:   make([]status.Worker, 0, p.workers),
			Since:     p.since,
			Refused:   p.refusal,
			Walls:     p.walls,
		})
	}
	slices.Reverse(out)
	return out
}

func (a *Agent) services() status.Services {
	out := status.Services{Services: []status.Service{}}
	if a.model == nil {
		return out
	}
	for _, s := range a.model.Services {
		service := status.Service{
			Name: s.Key.String(), Algorithm: s.Algorithm.String(), PreferLocal: s.PreferLocal,
			Backends: make([]status.Backend, 0, len(s.Backends)),
		}
		if id, ok := a.Datapath.ServiceID(service.Name); ok {
			service.ID = uint32(id)
		}
		for _, b := range s.Backends {
			service.Backends = append(service.Backends, status.Backend{
				Address: b.Address.String(), Pod: b.Pod, Node: b.Node, Local: b.Local, Draining: b.Draining,
			})
		}
		out.Services = append(out.Services, service)
	}
	for i := range a.model.L4 {
		groups, _ := compile.L4Service(&a.model.L4[i], a.Node)
		for _, g := range groups {
			out.Services = append(out.Services, a.l4Service(g, &a.model.L4[i]))
		}
	}
	slices.SortFunc(out.Services, func(x, y status.Service) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// l4Service is one group of backends of an L4 service, as the maps have it.
func (a *Agent) l4Service(g state.Service, s *model.L4Service) status.Service {
	out := status.Service{Name: g.Name, Algorithm: "maglev", Backends: []status.Backend{}}
	if id, ok := a.Datapath.ServiceID(g.Name); ok {
		out.ID = uint32(id)
	}
	for _, l := range s.Listeners {
		if len(g.Backends) == 0 || l.Addr().Is4() == g.Backends[0].Address.Addr().Is4() {
			out.Listeners = append(out.Listeners, l.String()+"/"+s.Protocol.String())
		}
	}
	for _, b := range s.Backends {
		if slices.ContainsFunc(g.Backends, func(have state.Backend) bool { return have.Address == b.Address }) {
			out.Backends = append(out.Backends, status.Backend{
				Address: b.Address.String(), Pod: b.Pod, Node: b.Node, Local: b.Local, Draining: b.Draining,
			})
		}
	}
	return out
}

func (a *Agent) problemList() status.Problems {
	out := status.Problems{Problems: []status.Problem{}}
	for _, p := range a.problems.all() {
		out.Problems = append(out.Problems, status.Problem{
			Object: p.Object.String(), Severity: p.Severity.String(), Reason: p.Reason, Message: p.Message, Since: a.problems.since[p],
		})
	}
	slices.SortStableFunc(out.Problems, func(x, y status.Problem) int {
		return cmp.Or(cmp.Compare(x.Object, y.Object), cmp.Compare(x.Reason, y.Reason))
	})
	return out
}
