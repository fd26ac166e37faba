// Package agent is the privileged half of Kerngate at work: one control loop that takes
// the desired state from a source, makes the kernel maps hold it, and tells proxies.
//
// In: model.Update from a source, events from the feed. Out: calls to the datapath,
// messages to proxies, problems to a reporter, answers to kerngatectl. One goroutine
// owns all of the state; everything else only hands it events.
package agent

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/kerngate/kerngate/loader"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/loader/view"
	"github.com/kerngate/kerngate/userspace/control/compile"
	"github.com/kerngate/kerngate/userspace/control/ocsp"
	"github.com/kerngate/kerngate/userspace/control/tickets"
	"github.com/kerngate/kerngate/userspace/feed"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/look/status"
	"github.com/kerngate/kerngate/userspace/model"
)

const (
	// reapInterval paces the datapath's housekeeping, by which it also learns that the
	// agent lives, and the look at proxies that are not connected.
	reapInterval = time.Second
	// retryFirst and retryMost bound the wait before an Apply that failed is tried again.
	retryFirst = 100 * time.Millisecond
	retryMost  = 30 * time.Second
	// initialWait is how long a source may take for its first list before the agent
	// says, once and in /readyz, what it is waiting for.
	initialWait = 10 * time.Second
)

// Datapath is what the agent needs of *loader.Datapath.
type Datapath interface {
	Apply(state.State) (loader.Report, error)
	ApplyServices([]state.Service) (loader.Report, error)
	ServiceID(name string) (state.ServiceID, bool)
	Reap(now time.Time) (loader.Report, error)
	Maps() []view.Map
	Epoch() string

	StartGeneration(workers int) (number uint32, err error)
	BindQUIC(fd int, port uint16) error
	PlaceSockets(number uint32, worker int, kind uint32, fd int) error
	Serve(number uint32) error
	Serving() uint32
	DrainGeneration(number uint32) error
	Suspend(number uint32) error
	Silence(number uint32) time.Duration
	EndGeneration(number uint32) error
	Generations() []loader.Generation
}

// Source delivers the desired state. Its first update is the whole of it.
type Source interface {
	Run(context.Context) error
	Updates() <-chan model.Update
	// Describe says where the state comes from and how the source fares.
	Describe() status.Source
}

// Reporter tells the authors of objects about them. Report must not block; it is given
// everything that is known each time.
type Reporter interface {
	Report([]model.Problem, model.Statuses)
}

// Options of an Agent. The zero value of what is optional is said beside it.
type Options struct {
	Datapath Datapath
	Source   Source
	Server   *feed.Server
	Reporter Reporter // nil: problems are logged only
	Node     compile.Node
	// Listeners are those that the flags make, which are known before the first model.
	Listeners []model.Listener
	Settings  *feedpb.Settings
	// Tickets delivers the session ticket keys of the cluster; nil: each proxy has its own.
	Tickets      <-chan tickets.Ring
	DefaultFiles *CertificateFiles    // default certificate in files; nil: the source's, if it has one
	Stapler      *ocsp.Stapler        // nil: nothing is stapled
	Child        *Child               // nil: proxies are started by somebody else
	Describe     func() status.Status // the parts of the status that the agent does not know
	Drain        func(on bool) error  // has the node get no new connections, or some again; nil: it cannot
	NodeName     string
	Metrics      *Metrics
	Log          zerolog.Logger
}

// Agent is the control loop and what it owns.
type Agent struct {
	Options
	model    *model.Model // own copy; nil before the first update
	index    map[model.ServiceKey]int
	statuses model.Statuses
	problems problemSet
	applied  applied

	certificates certificates
	routing      *compile.Routing   // nil before the first apply
	version      uint64             // of routing
	tickets      *feedpb.TicketKeys // nil: none known yet
	refused      map[model.ObjectRef]refusal
	proxies      map[uint32]*proxy
	exited       chan uint32 // generations whose process has ended
	pulse        pulse
	started      time.Time
	ending       bool // no other proxy is to come
	lifetime     context.Context
	watchers     sync.WaitGroup

	beat  atomic.Int64           // when the loop last turned, Unix nanoseconds
	ready atomic.Pointer[string] // "" ready, else why not
}

// applied is how the last write to the maps went.
type applied struct {
	status.Apply
	retry   *time.Timer // pending, nil if the maps hold what they should
	backoff time.Duration
	whole   bool // the maps hold what they should
}

// New returns an agent that knows of the generations which the maps say exist.
func New(o Options) *Agent {
	if o.Metrics == nil {
		o.Metrics = NewMetrics(prometheus.NewRegistry())
	}
	a := &Agent{
		Options:  o,
		problems: problemSet{log: o.Log, since: map[model.Problem]time.Time{}},
		refused:  map[model.ObjectRef]refusal{},
		proxies:  map[uint32]*proxy{},
		exited:   make(chan uint32),
		started:  time.Now(),
		index:    map[model.ServiceKey]int{},
	}
	// Versions go on rising over restarts, so that "newer" keeps its meaning in logs.
	a.version = uint64(time.Now().UnixMilli())
	a.adopt()
	a.setReady()
	return a
}

// Run works until ctx ends; a child proxy is then stopped and waited for.
func (a *Agent) Run(ctx context.Context) error {
	// The feed lives as long as the loop, which may outlive ctx for the child's sake.
	lifetime, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	a.lifetime = lifetime
	group, lifetime := errgroup.WithContext(lifetime)
	group.Go(func() error { return a.Source.Run(lifetime) })
	group.Go(func() error { return a.Server.Run(lifetime) })
	if a.Stapler != nil {
		group.Go(func() error { a.Stapler.Run(lifetime); return nil })
	}
	group.Go(func() error {
		defer a.watchers.Wait()
		defer stop() // first: it is what those who watch a living proxy wait for
		return a.loop(ctx, lifetime)
	})
	return group.Wait()
}

// loop is the one goroutine that owns the agent's state. What can happen:
//
//   - the source has news: routes (everything is compared and applied) or endpoints alone
//     (only those services are written, at once);
//   - a proxy comes, goes, acknowledges or refuses, or kerngatectl asks;
//   - a proxy's process ends: its generation is ended, so that what it had in flight is
//     taken back;
//   - the child proxy, if the agent runs one, has ended, is due again, or is to be replaced;
//   - it is time to see whether the proxies still turn: one that is stopped or hangs gets no new
//     connections, and is replaced;
//   - an apply that failed is tried again;
//   - session ticket keys have come or changed, or OCSP responses;
//   - a second has passed: retired ids and blocks are freed, lost proxies looked after,
//     certificate files and dates looked at;
//   - the source is late with its first list;
//   - the agent is told to end: its child proxy then drains, and is waited for.
//
// Nothing here waits for anything but the kernel.
func (a *Agent) loop(ctx, lifetime context.Context) error {
	tick := time.NewTicker(reapInterval)
	defer tick.Stop()
	late := time.NewTimer(initialWait)
	defer late.Stop()
	pulse := time.NewTicker(pulseInterval)
	defer pulse.Stop()
	end := ctx.Done()
	var deadline <-chan time.Time
	a.lookAfterProxies(time.Now())
	a.Child.keep(a.hasProxy())
	for {
		select {
		case u := <-a.Source.Updates():
			a.update(u)
		case e := <-a.Server.Events():
			a.handle(e)
		case number := <-a.exited:
			a.processEnded(number)
		case exit := <-a.Child.exits():
			a.Child.reaped(exit)
			a.Child.keep(a.hasProxy())
		case <-a.Child.due():
			a.Child.keep(a.hasProxy())
		case <-pulse.C:
			a.feelPulse(time.Now()) // the ticker's own time hides that it is late
		case <-a.Child.replacements():
			a.Child.start()
		case <-a.applied.timer():
			a.applied.retry = nil
			a.Log.Info().Msg("trying again to bring the maps up to date")
			a.applyAll(nil)
		case ring := <-a.Tickets:
			a.takeTickets(ring)
		case <-a.Stapler.Changed():
			a.certificatesChanged()
		case now := <-tick.C:
			if _, err := a.Datapath.Reap(now); err != nil {
				a.Log.Error().Err(err).Msg("housekeeping of the maps failed")
			}
			a.lookAfterProxies(now)
			a.lookAfterCertificates(now)
			a.Child.keep(a.hasProxy())
		case <-late.C:
			if a.model == nil {
				a.Log.Warn().Str("source", a.Source.Describe().Location).
					Msg("no complete list of objects yet; what the maps hold stays in force until there is one")
			}
		case <-end:
			end, a.ending = nil, true
			a.Log.Info().Msg("ending")
			a.Child.stop(a.watchedPIDs())
			deadline = time.After(time.Duration(a.drainTimeout())*time.Millisecond + comeBack)
		case <-deadline:
			a.Log.Warn().Msg("proxies have not ended in time and are killed")
			a.Child.kill(a.watchedPIDs())
			return nil
		case <-lifetime.Done(): // source or server has failed
			a.Child.stop(a.watchedPIDs())
			return nil
		}
		if a.ending && (a.Child == nil || !a.Child.running() && len(a.watchedPIDs()) == 0) {
			return nil
		}
		a.beat.Store(time.Now().UnixNano())
		a.setReady()
	}
}

// watchedPIDs are the processes of proxies that live.
func (a *Agent) watchedPIDs() (pids []int) {
	for _, p := range a.proxies {
		if p.watched && p.pid > 0 && p.goneAt.IsZero() {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// update takes over what the source says.
func (a *Agent) update(u model.Update) {
	a.statuses = u.Statuses
	a.problems.set(fromSource, u.Problems)
	if u.Model != nil {
		a.Metrics.updates.WithLabelValues("routes").Inc()
		a.takeModel(u.Model, u.Changed)
		a.applyAll(u.Changed)
	} else {
		a.Metrics.updates.WithLabelValues("endpoints").Inc()
		a.applyServices(u.Services, u.L4)
	}
	a.report()
}

// takeModel takes over what has changed (nil: anything). Of the list of services it keeps a
// copy, which endpoint updates then change in place.
func (a *Agent) takeModel(m *model.Model, changed *model.Changed) {
	own := *m
	if a.model == nil {
		a.Log.Info().Int("hosts", len(m.Hosts)).Int("services", len(m.Services)).Msg("first complete list of objects")
		changed = nil
	}
	if changed == nil || changed.Services {
		own.Services, own.L4 = slices.Clone(m.Services), slices.Clone(m.L4)
		clear(a.index)
		for i, s := range own.Services {
			a.index[s.Key] = i
		}
	} else {
		own.Services, own.L4 = a.model.Services, a.model.L4
	}
	if changed == nil || changed.Trust {
		a.model = &own
		a.certificates.source, a.certificates.fallback = m.Certificates, m.DefaultCertificate
		a.completeCertificates()
	} else {
		own.Certificates, own.DefaultCertificate = a.model.Certificates, a.model.DefaultCertificate
		a.model = &own
	}
	a.forgetRefusals()
}

// report passes problems on and counts.
func (a *Agent) report() {
	all := a.problems.all()
	a.Metrics.state(a.model, all)
	if a.Reporter != nil {
		a.Reporter.Report(all, a.statuses)
	}
}

func (a *Agent) drainTimeout() uint32 {
	if a.Settings.GetDrainTimeoutMs() == 0 {
		return 240_000
	}
	return a.Settings.DrainTimeoutMs
}

// setReady notes whether this node serves what it should.
func (a *Agent) setReady() {
	why := ""
	switch {
	case a.model == nil:
		why = "waiting for the first complete list of objects from " + a.Source.Describe().Location
	case a.routing == nil:
		why = "the maps could not be written yet: " + a.applied.Error
	case !a.hasServing():
		why = "no proxy serves yet"
	}
	a.ready.Store(&why)
	a.Metrics.ready.Set(boolToFloat(why == ""))
}

// Ready reports whether objects are in force and a proxy serves, or says why not. It may
// be called from any goroutine.
func (a *Agent) Ready() error {
	if why := *a.ready.Load(); why != "" {
		return fmt.Errorf("not ready: %s", why)
	}
	return nil
}

// Alive reports whether the control loop turns. It may be called from any goroutine.
func (a *Agent) Alive() error {
	const stuck = 15 * time.Second
	last := a.beat.Load()
	if last == 0 {
		return nil // not running yet
	}
	if since := time.Since(time.Unix(0, last)); since > stuck {
		return fmt.Errorf("the control loop of process %d has not turned for %v", os.Getpid(), since.Round(time.Second))
	}
	return nil
}

func boolToFloat(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
