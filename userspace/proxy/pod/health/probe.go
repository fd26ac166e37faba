package health

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/proxy/config"
)

// probeKey is a pod of a service that asks for checks.
type probeKey struct {
	service    state.ServiceID
	id         state.BackendID
	generation uint32
}

// probe is what is known of it.
type probe struct {
	service *config.Service
	address netip.AddrPort
	due     int64 // CLOCK_MONOTONIC
	running bool
	ill     bool
	inRow   uint32 // results in a row that speak against ill, or for it if not
	seen    int64
}

type result struct {
	key probeKey
	err error
}

// enrol makes a probe for each pod that is to be checked and drops those of pods that left.
func (m *Monitor) enrol(at int64) {
	for _, s := range m.config.Load().Services() {
		if s.Health == nil {
			continue
		}
		for _, id := range m.pods(s.ID) {
			e, ok := m.view.Entry(uint32(id))
			if !ok {
				continue
			}
			key := probeKey{s.ID, id, e.Generation}
			p := m.probes[key]
			if p == nil {
				// A new pod is first asked soon, but not all of them at once.
				p = &probe{address: e.Address, due: at + rand.Int64N(int64(min(s.Health.Interval, time.Second)))}
				if sick := m.patients[id]; sick != nil && sick.generation == e.Generation && sick.verdict&abi.HealthCheck != 0 {
					p.ill = true // taken over
					sick.failing++
				}
				m.probes[key] = p
			}
			p.service, p.seen = s, at
		}
	}
	for key, p := range m.probes {
		if p.seen == at {
			continue
		}
		delete(m.probes, key)
		if sick := m.patients[key.id]; p.ill && sick != nil && sick.generation == key.generation {
			sick.failing--
		}
	}
	for _, p := range m.patients {
		if p.failing <= 0 && p.verdict&abi.HealthCheck != 0 {
			m.set(p, p.verdict&^abi.HealthCheck, at) // nobody asks it any more
		}
	}
}

// ask begins the checks that are due.
func (m *Monitor) ask(ctx context.Context, at int64) {
	conf := m.config.Load()
	for key, p := range m.probes {
		if m.running >= maxChecks {
			return
		}
		if p.running || at < p.due {
			continue
		}
		p.running, p.due = true, at+jitter(p.service.Health.Interval)
		m.running++
		c := check{HealthCheck: p.service.Health, address: p.address, transport: conf.Transport(p.service.Health.Upstream)}
		go func() { m.results <- result{key, c.run(ctx)} }()
	}
}

// judge draws the conclusion from a check.
func (m *Monitor) judge(r result, at int64) {
	if r.err == nil {
		m.Metrics.Passed.Add(1)
	} else {
		m.Metrics.Failed.Add(1)
	}
	p := m.probes[r.key]
	if p == nil || m.gone(r.key.id, r.key.generation) {
		return
	}
	p.running = false
	if (r.err != nil) == p.ill {
		p.inRow = 0
		return
	}
	enough := p.service.Health.Unhealthy
	if p.ill {
		enough = p.service.Health.Healthy
	}
	if p.inRow++; p.inRow < enough {
		return
	}
	p.inRow, p.ill = 0, !p.ill
	sick := m.patients[r.key.id]
	if sick == nil || sick.generation != r.key.generation {
		sick = &patient{generation: r.key.generation}
		m.patients[r.key.id] = sick
	}
	if p.ill {
		sick.failing++
		m.event(p.service, r.key.id).Err(r.err).Msg("pod fails its health check")
	} else {
		sick.failing--
		m.log.Info().Str("service", p.service.Name).Str("pod", p.address.String()).Msg("pod passes its health check again")
	}
	if sick.failing > 0 {
		m.set(sick, sick.verdict|abi.HealthCheck, at)
	} else {
		m.set(sick, sick.verdict&^abi.HealthCheck, at)
	}
}
