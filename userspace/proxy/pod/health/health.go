// Package health says which pods are ill: those whose requests fail one after the other
// (outliers), and those that fail the check that their Service asks for.
//
// The verdict stands in kg_backend_load, where every worker and the kernel's L4 path see it.
// One goroutine of the serving generation alone writes it, so that a pod is asked once per
// node, however many workers there are. A generation that starts or drains copies what the
// serving one has found; once it serves itself it goes on from there.
package health

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/loader/view"
	"github.com/kerngate/kerngate/userspace/proxy/config"
)

const (
	turn      = 100 * time.Millisecond // how often the monitor looks what is due
	enrolment = time.Second            // how often it looks which pods there are
	// panicPercent: with a smaller part of a service's pods well, verdicts are set aside,
	// for the rest could not carry the load, and the fault is probably not the pods'.
	panicPercent = 50
	// maxEjection bounds how long one ejection lasts.
	maxEjection = 5 * time.Minute
	// maxChecks bounds the checks that run at the same time; others wait their turn.
	maxChecks = 64
)

// Monitor keeps the verdicts of one proxy.
type Monitor struct {
	view    *view.View
	loads   []abi.BackendLoad // of our own generation, by backend id
	slot    int
	config  *atomic.Pointer[config.Snapshot]
	serving func() bool
	log     zerolog.Logger

	failures []atomic.Uint32 // in a row, by backend id
	outliers chan outlier
	results  chan result
	summary  atomic.Pointer[[]Summary]

	Metrics Metrics

	// Of Run alone.
	began    bool // serving
	patients map[state.BackendID]*patient
	probes   map[probeKey]*probe
	running  int // checks
	enrolled int64
	changed  bool
	stamps   []uint32 // by backend id: whether counted in this pass
	stamp    uint32
	members  []state.BackendID
}

// Metrics count what the monitor does.
type Metrics struct {
	Passed, Failed atomic.Uint64 // checks
	Ejected        atomic.Uint64
	Kept           atomic.Uint64 // outliers that were not ejected, as too many are already
}

// patient is a pod that something speaks, or spoke of late, against.
type patient struct {
	generation uint32
	verdict    uint32 // abi.HealthEjected, abi.HealthCheck
	found      int64  // CLOCK_MONOTONIC, when the verdict changed
	until      int64  // end of the ejection; of none: when the last one counts no more
	ejections  uint32
	base       time.Duration // of the service that ejected it
	failing    int           // probes that it fails
}

type outlier struct {
	service    *config.Service
	id         state.BackendID
	generation uint32
}

// New makes the monitor of a generation. serving reports whether that is the serving one.
func New(v *view.View, generation uint32, c *atomic.Pointer[config.Snapshot], serving func() bool, log zerolog.Logger) *Monitor {
	n := len(v.Backends)
	slot := int(generation % abi.Generations)
	return &Monitor{
		view: v, loads: v.Loads[slot*n : (slot+1)*n], slot: slot, config: c, serving: serving, log: log,
		failures: make([]atomic.Uint32, n),
		outliers: make(chan outlier, 64),
		results:  make(chan result, maxChecks),
		patients: map[state.BackendID]*patient{},
		probes:   map[probeKey]*probe{},
		stamps:   make([]uint32, n),
	}
}

// Ended notes how a request to a pod ended. Any worker calls it; of a pod that is well it
// costs a load.
func (m *Monitor) Ended(s *config.Service, id state.BackendID, generation uint32, failed bool) {
	if m == nil || s.Outlier.Off {
		return
	}
	f := &m.failures[id]
	switch {
	case !failed:
		if f.Load() != 0 {
			f.Store(0)
		}
	case f.Add(1) >= s.Outlier.Consecutive:
		f.Store(0)
		select {
		case m.outliers <- outlier{s, id, generation}:
		default: // the monitor has enough to do; a pod that is ill is found again
		}
	}
}

// Run keeps the verdicts until ctx ends.
func (m *Monitor) Run(ctx context.Context) {
	ticker := time.NewTicker(turn)
	defer ticker.Stop()
	m.turn(ctx, now())
	for {
		select {
		case <-ctx.Done():
			for ; m.running > 0; m.running-- { // they end with ctx, or at their time limit
				<-m.results
			}
			return
		case o := <-m.outliers:
			if m.began {
				m.eject(o, now())
			}
		case r := <-m.results:
			m.running--
			m.judge(r, now())
		case <-ticker.C:
			m.turn(ctx, now())
		}
		if m.changed {
			m.publish()
		}
	}
}

// turn does what is due.
func (m *Monitor) turn(ctx context.Context, at int64) {
	if !m.serving() {
		m.began = false
		m.copy()
		return
	}
	if !m.began {
		m.takeOver(at)
	}
	for id, p := range m.patients {
		m.recover(id, p, at)
	}
	if at-m.enrolled >= int64(enrolment) {
		m.enrolled = at
		m.enrol(at)
		m.changed = m.changed || len(m.patients) > 0 // pods of the services may have changed
	}
	m.ask(ctx, at)
}

// copy takes over the verdicts of the serving generation, if there is one.
func (m *Monitor) copy() {
	n := len(m.view.Backends)
	for slot := range m.view.Generations {
		g := &m.view.Generations[slot]
		if slot == m.slot || atomic.LoadUint64((*uint64)(generationWord(g)))>>48 != abi.GenerationServing {
			continue
		}
		for id := 1; id < n; id++ {
			from, to := &m.view.Loads[slot*n+id], &m.loads[id]
			if atomic.LoadUint32(&from.Verdict)|atomic.LoadUint32(&to.Verdict)|atomic.LoadUint32(&from.Ejections)|atomic.LoadUint32(&to.Ejections) == 0 ||
				atomic.LoadUint32(&from.Generation) != atomic.LoadUint32(&to.Generation) {
				continue
			}
			atomic.StoreUint32(&to.Verdict, atomic.LoadUint32(&from.Verdict))
			atomic.StoreUint32(&to.Ejections, atomic.LoadUint32(&from.Ejections))
			atomic.StoreUint64(&to.FoundNS, atomic.LoadUint64(&from.FoundNS))
			atomic.StoreUint32(&to.Health, atomic.LoadUint32(&from.Health))
		}
		return
	}
}

// takeOver makes the verdicts that were copied our own. An ejection lasts as long as it
// would have; a pod that failed its check is asked again, and must pass as often as any.
func (m *Monitor) takeOver(at int64) {
	m.began, m.enrolled, m.changed = true, 0, true
	clear(m.patients)
	clear(m.probes)
	for i := range m.loads {
		l := &m.loads[i]
		verdict, ejections := atomic.LoadUint32(&l.Verdict), atomic.LoadUint32(&l.Ejections)
		if verdict == 0 && ejections == 0 {
			continue
		}
		p := &patient{
			generation: atomic.LoadUint32(&l.Generation), verdict: verdict, ejections: ejections,
			found: int64(atomic.LoadUint64(&l.FoundNS)), base: config.DefaultOutlier.Ejection,
		}
		p.until = p.found + int64(p.duration())
		m.patients[state.BackendID(i)] = p
	}
	if len(m.patients) > 0 {
		m.log.Info().Int("pods", len(m.patients)).Msg("verdicts about pods taken over from the generation before")
	}
}

// duration of the present ejection: each further one is as much longer as the first.
func (p *patient) duration() time.Duration {
	return min(p.base*time.Duration(max(p.ejections, 1)), max(maxEjection, p.base))
}

// eject takes a pod out for a while, unless it is the only one or enough are out already.
func (m *Monitor) eject(o outlier, at int64) {
	if m.gone(o.id, o.generation) {
		return
	}
	p := m.patients[o.id]
	if p != nil && p.generation == o.generation && p.verdict&abi.HealthEjected != 0 {
		return
	}
	out := 0
	pods := m.pods(o.service.ID)
	for _, id := range pods {
		if other := m.patients[id]; other != nil && other.verdict&abi.HealthEjected != 0 {
			out++
		}
	}
	rules := &o.service.Outlier
	// At least one of several may be ejected, however small the part.
	if len(pods) < 2 || out > 0 && (out+1)*100 > int(rules.MostPercent)*len(pods) {
		m.Metrics.Kept.Add(1)
		m.event(o.service, o.id).Int("pods", len(pods)).Int("ejected", out).Msg("requests to a pod fail; it is not ejected, as too few others are left")
		return
	}
	if p == nil || p.generation != o.generation {
		p = &patient{generation: o.generation}
		m.patients[o.id] = p
	}
	p.base = rules.Ejection
	p.ejections++
	p.until = at + int64(p.duration())
	m.set(p, p.verdict|abi.HealthEjected, at)
	m.Metrics.Ejected.Add(1)
	m.event(o.service, o.id).Uint32("failures_in_a_row", rules.Consecutive).Dur("for", p.duration()).Msg("pod ejected")
}

// recover ends an ejection that is over, and forgets it when the pod has been well for as
// long as it lasted.
func (m *Monitor) recover(id state.BackendID, p *patient, at int64) {
	switch {
	case m.gone(id, p.generation):
		delete(m.patients, id)
		return
	case at < p.until:
	case p.verdict&abi.HealthEjected != 0:
		m.set(p, p.verdict&^abi.HealthEjected, at)
		m.failures[id].Store(0)
		p.until = at + int64(p.duration())
		m.log.Info().Str("pod", m.address(id)).Msg("pod may serve again after its ejection")
	case p.ejections > 0:
		p.ejections--
		p.until = at + int64(p.duration())
		m.changed = true
	}
	if p.verdict == 0 && p.ejections == 0 {
		m.publish() // a last time
		delete(m.patients, id)
	}
}

func (m *Monitor) set(p *patient, verdict uint32, at int64) {
	if p.verdict != verdict {
		p.verdict, p.found, m.changed = verdict, at, true
	}
}

// gone reports whether an id means another pod by now.
func (m *Monitor) gone(id state.BackendID, generation uint32) bool {
	e, ok := m.view.Entry(uint32(id))
	return !ok || e.Generation != generation
}

func (m *Monitor) address(id state.BackendID) string {
	e, _ := m.view.Entry(uint32(id))
	return e.Address.String()
}

func (m *Monitor) event(s *config.Service, id state.BackendID) *zerolog.Event {
	return m.log.Warn().Str("service", s.Name).Str("pod", m.address(id))
}

// pods returns a service's pods, each once. The slice is valid until the next call.
func (m *Monitor) pods(service state.ServiceID) []state.BackendID {
	for {
		m.stamp++
		m.members = m.members[:0]
		block := m.view.Block(uint32(service))
		for i := range int(block.Count()) {
			id := m.view.Slot(block, i)
			if id != 0 && int(id) < len(m.stamps) && m.stamps[id] != m.stamp {
				m.stamps[id] = m.stamp
				m.members = append(m.members, state.BackendID(id))
			}
		}
		if m.view.Current(uint32(service), block) {
			return m.members
		}
	}
}

// jitter returns a duration between 7/8 and 9/8 of d, so that checks spread out.
func jitter(d time.Duration) int64 { return int64(d)*7/8 + rand.Int64N(int64(d)/4+1) }

// now returns CLOCK_MONOTONIC, which all generations and the kernel share.
func now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0 // cannot happen: the clock always exists
	}
	return ts.Nano()
}
