package health

import (
	"sync/atomic"
	"unsafe"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
)

// Summary says how the pods of a service are.
type Summary struct {
	Service         string
	Pods            int
	Ejected, Failed int  // by outlier detection, by checks; a pod can be both
	Ignored         bool // too many are ill: requests go to all
}

// Services returns the services of which a pod is ill.
func (m *Monitor) Services() []Summary {
	if s := m.summary.Load(); s != nil {
		return *s
	}
	return nil
}

// publish writes the verdicts into the maps. A verdict is in force unless it is set aside
// in every service that has the pod; so a service of a single pod does not protect that pod
// in a larger one. Where nothing but ill pods is left in a service, balancers take any.
func (m *Monitor) publish() {
	m.changed = false
	known, inForce := map[state.BackendID]bool{}, map[state.BackendID]bool{}
	var all []Summary
	for _, s := range m.config.Load().Services() {
		if len(m.patients) == 0 {
			break
		}
		sum := Summary{Service: s.Name}
		ill := 0
		pods := m.pods(s.ID)
		for _, id := range pods {
			p := m.patients[id]
			if p == nil || p.verdict == 0 {
				continue
			}
			ill++
			if p.verdict&abi.HealthEjected != 0 {
				sum.Ejected++
			}
			if p.verdict&abi.HealthCheck != 0 {
				sum.Failed++
			}
		}
		if ill == 0 {
			continue
		}
		sum.Pods = len(pods)
		sum.Ignored = (len(pods)-ill)*100 < panicPercent*len(pods)
		all = append(all, sum)
		for _, id := range pods {
			known[id] = true
			inForce[id] = inForce[id] || !sum.Ignored
		}
	}
	m.alarm(all)
	m.summary.Store(&all)
	for id, p := range m.patients {
		l := &m.loads[id]
		if atomic.LoadUint32(&l.Generation) != p.generation {
			continue
		}
		health := p.verdict
		if known[id] && !inForce[id] {
			health = 0
		}
		atomic.StoreUint32(&l.Verdict, p.verdict)
		atomic.StoreUint32(&l.Ejections, p.ejections)
		atomic.StoreUint64(&l.FoundNS, uint64(p.found))
		atomic.StoreUint32(&l.Health, health)
	}
}

// alarm logs services whose verdicts begin or cease to be set aside.
func (m *Monitor) alarm(next []Summary) {
	was := map[string]bool{}
	for _, s := range m.Services() {
		was[s.Service] = s.Ignored
	}
	for _, s := range next {
		if s.Ignored && !was[s.Service] {
			m.log.Error().Str("service", s.Service).Int("pods", s.Pods).Int("ejected", s.Ejected).Int("failed", s.Failed).
				Msg("most pods of a service are ill: requests go to all of them")
		}
		if s.Ignored {
			delete(was, s.Service)
		}
	}
	for service, ignored := range was {
		if ignored {
			m.log.Info().Str("service", service).Msg("enough pods of the service are well: the ill ones are passed over again")
		}
	}
}

// generationWord is an entry of kg_generations as the one word that the agent stores:
// number, workers and, in the upper 16 bits, state.
func generationWord(g *abi.Generation) unsafe.Pointer { return unsafe.Pointer(g) }
