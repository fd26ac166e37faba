// Package proxy is the process that faces the clients. It has no rights: the agent gives
// it kernel maps and its configuration over the feed, and steers connections to sockets
// that it opened itself. While the agent is away it goes on with what it has.
package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	crand "crypto/rand"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/view"
	"github.com/kerngate/kerngate/userspace/cgroup"
	"github.com/kerngate/kerngate/userspace/feed"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/confine"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/io/spool"
	"github.com/kerngate/kerngate/userspace/proxy/observe/accesslog"
	"github.com/kerngate/kerngate/userspace/proxy/observe/overload"
	"github.com/kerngate/kerngate/userspace/proxy/observe/tracing"
	"github.com/kerngate/kerngate/userspace/proxy/observe/usage"
	"github.com/kerngate/kerngate/userspace/proxy/pod/balance"
	"github.com/kerngate/kerngate/userspace/proxy/pod/health"
	"github.com/kerngate/kerngate/userspace/proxy/rules/limit"
)

// Options of a proxy.
type Options struct {
	Socket  string         // the agent's
	Workers int            // 0: one per CPU
	Build   string         // version, told to the agent
	Series  int            // Ingresses and Services that metrics tell apart, 0: usage.Most
	Detail  Detail         // of the metrics of each of these
	Spool   *spool.Dir     // for request bodies that are too large for memory, nil: there is none
	Walls   []confine.Wall // around this process
	Log     zerolog.Logger
	Access  *accesslog.Logger
}

// Proxy is one generation of the data path.
type Proxy struct {
	options Options
	log     zerolog.Logger
	workers []*worker
	started atomic.Pointer[[]*worker] // for readers in other goroutines
	config  atomic.Pointer[config.Snapshot]
	limiter *limit.Limiter  // of all workers
	groups  *balance.Groups // the same
	queue   exchange.Queue  // the same
	over    overload.Monitor
	tracer  tracing.Exporter
	health  *health.Monitor
	view    *view.View

	generation uint32
	published  atomic.Uint32 // generation, for readers in other goroutines
	epoch      string

	connected atomic.Bool                 // to the agent
	agent     atomic.Pointer[feed.Client] // that knows Listeners and Leaving
	draining  atomic.Bool
	serving   atomic.Bool // the agent steers new connections here
	refused   atomic.Uint64
	stopping  atomic.Bool // by SIGTERM: connections that say nothing are not waited for
	drainOnce sync.Once
	drained   chan struct{} // closed when draining has ended
	failed    chan error    // a worker's
}

// New makes a proxy; Run does the work.
func New(o Options) (*Proxy, error) {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Workers > abi.GenerationWorkers {
		return nil, fmt.Errorf("%d workers: at most %d are possible", o.Workers, abi.GenerationWorkers)
	}
	p := &Proxy{options: o, log: o.Log, limiter: limit.New(limit.Sets), drained: make(chan struct{}), failed: make(chan error, o.Workers)}
	p.over.MemoryOf = cgroup.Own().Memory
	p.over.Free = p.giveBack
	p.setConnections(overload.DefaultConnections())
	empty := config.Empty()
	empty.Usage = usage.NewBook(cmp.Or(o.Series, usage.Most), o.Workers)
	p.config.Store(empty)
	return p, nil
}

// Ready reports whether a configuration is in force and the agent steers connections here.
func (p *Proxy) Ready() bool { return p.serving.Load() && p.config.Load().Version > 0 }

// Run serves until ctx ends or the agent replaces this proxy, and then until what is open
// has ended or the drain time-out has passed.
func (p *Proxy) Run(ctx context.Context) error {
	// The workers' threads are busy in raw system calls that the scheduler cannot see;
	// the feed, metrics and collector must not wait for them.
	runtime.GOMAXPROCS(p.options.Workers + 2)
	sockets, err := openSockets(p.options.Workers)
	if err != nil {
		return err
	}
	defer sockets.close()

	client, err := p.introduce(ctx, sockets)
	if err != nil {
		return err
	}
	if err := p.startWorkers(sockets); err != nil {
		client.Close()
		return err
	}
	sockets.handedOver()
	p.passListeners(client)
	p.log.Info().Uint32("generation", p.generation).Int("workers", len(p.workers)).Msg("proxy started")

	feedCtx, stopFeed := context.WithCancel(context.WithoutCancel(ctx))
	feedDone, healthDone, overDone := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(overDone)
		p.over.Run(feedCtx)
	}()
	go func() {
		defer close(healthDone)
		p.health.Run(feedCtx)
	}()
	go func() {
		defer close(feedDone)
		p.follow(feedCtx, client)
	}()
	select {
	case <-ctx.Done():
		p.stopping.Store(true)
		p.leave()
		p.drain(0)
	case <-p.drained:
	case err = <-p.failed:
	}
	if err == nil {
		select {
		case <-p.drained:
		case err = <-p.failed:
		}
	}
	for _, w := range p.workers {
		w.loop.Stop()
	}
	stopFeed()
	<-feedDone
	<-healthDone
	<-overDone
	for _, w := range p.workers {
		w.quic.close()
	}
	for _, w := range p.workers {
		<-w.done
	}
	p.tracer.Close()
	return err
}

const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = time.Second
)

// introduce registers this proxy with the agent, waiting for it as long as it takes.
func (p *Proxy) introduce(ctx context.Context, s *sockets) (*feed.Client, error) {
	hello := &feedpb.Hello{
		Build:   p.options.Build,
		Workers: uint32(p.options.Workers),
		Sockets: s.kinds,
		MapAbi:  abi.ABI,
		Walls:   p.walls(),
	}
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		client, welcome, fds, err := feed.Dial(ctx, p.options.Socket, hello, s.fds)
		if err == nil {
			err = p.adopt(welcome, fds)
			if err != nil {
				client.Close()
				return nil, err
			}
			p.connectedTo(client, welcome)
			return client, nil
		}
		var rejected *feed.RejectError
		if errors.As(err, &rejected) {
			return nil, err
		}
		if wait == firstRetry {
			p.log.Info().Err(err).Str("socket", p.options.Socket).Msg("waiting for the agent")
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no agent at %s: %w", p.options.Socket, err)
		case <-time.After(wait):
		}
	}
}

// walls are the restrictions of this process, for whoever asks the agent.
func (p *Proxy) walls() []*feedpb.Wall {
	walls := make([]*feedpb.Wall, len(p.options.Walls))
	for i, w := range p.options.Walls {
		walls[i] = &feedpb.Wall{Name: w.Name}
		if w.Err != nil {
			walls[i].Missing = w.Err.Error()
		}
	}
	return walls
}

// adopt takes the maps of a Welcome.
func (p *Proxy) adopt(w *feedpb.Welcome, fds []int) error {
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	maps := make([]view.Map, len(w.Maps))
	for i, m := range w.Maps {
		maps[i] = view.Map{Name: m.Name, FD: fds[i], MaxEntries: m.MaxEntries, ValueSize: m.ValueSize, Writable: m.Writable}
	}
	v, err := view.Open(maps)
	if err != nil {
		return fmt.Errorf("open the agent's maps: %w", err)
	}
	p.view, p.generation, p.epoch = v, w.Generation, w.Epoch
	p.published.Store(w.Generation)
	return nil
}

func (p *Proxy) startWorkers(s *sockets) error {
	p.health = health.New(p.view, p.generation, &p.config, p.serving.Load, p.log)
	p.groups = balance.NewGroups(p.view)
	for i := range p.options.Workers {
		w, err := p.newWorker(i, s.kinds, s.of(i))
		if err != nil {
			return fmt.Errorf("worker %d: %w", i, err)
		}
		p.workers = append(p.workers, w)
	}
	p.started.Store(&p.workers)
	for _, w := range p.workers {
		go w.run(p.failed)
	}
	return nil
}

func (p *Proxy) running() []*worker {
	if ws := p.started.Load(); ws != nil {
		return *ws
	}
	return nil
}

// follow does what the agent says until ctx ends, reconnecting when it comes back.
func (p *Proxy) follow(ctx context.Context, client *feed.Client) {
	for {
		stop := context.AfterFunc(ctx, func() { client.Close() })
		err := p.listen(client)
		stop()
		client.Close()
		p.connected.Store(false)
		p.agent.Store(nil)
		if ctx.Err() != nil {
			return
		}
		p.log.Warn().Err(err).Msg("lost the agent; serving goes on with the last configuration")
		if client = p.resume(ctx); client == nil {
			return
		}
	}
}

// resume reconnects to the agent as the generation that this proxy is.
func (p *Proxy) resume(ctx context.Context) *feed.Client {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait + rand.N(wait/4)):
		}
		client, welcome, fds, err := feed.Dial(ctx, p.options.Socket, &feedpb.Hello{
			Build:            p.options.Build,
			Workers:          uint32(p.options.Workers),
			MapAbi:           abi.ABI,
			ResumeGeneration: p.generation,
			Epoch:            p.epoch,
			Walls:            p.walls(),
			ConfigVersion:    p.config.Load().Version,
		}, nil)
		for _, fd := range fds {
			unix.Close(fd)
		}
		if err == nil {
			p.connectedTo(client, welcome)
			p.passListeners(client)
			p.log.Info().Msg("the agent is back")
			return client
		}
		var rejected *feed.RejectError
		if errors.As(err, &rejected) {
			p.log.Error().Err(err).Msg("the agent rejected this proxy; draining")
			p.drain(0)
			return nil
		}
	}
}

// listen handles the agent's messages until the connection ends. What a whole configuration
// leaves behind is several times its size, and is given back: the next collection may be far.
func (p *Proxy) listen(client *feed.Client) error {
	for {
		m, err := client.Receive()
		if err != nil {
			return err
		}
		switch m := m.Message.(type) {
		case *feedpb.FromAgent_Config:
			if err := client.Send(p.apply(m.Config)); err != nil {
				return err
			}
			if m.Config.Snapshot {
				time.AfterFunc(time.Second, debug.FreeOSMemory)
			}
		case *feedpb.FromAgent_Serving:
			p.serving.Store(true)
			p.log.Info().Msg("new connections come here")
		case *feedpb.FromAgent_Inherit:
			p.inherit(client.TakeListeners())
		case *feedpb.FromAgent_Drain:
			p.log.Info().Msg("another generation gets new connections; draining")
			p.drain(time.Duration(m.Drain.TimeoutMs) * time.Millisecond)
		case *feedpb.FromAgent_Reject:
			return &feed.RejectError{Reason: m.Reject.Reason}
		}
	}
}

// apply puts a configuration in force and returns the answer to it.
func (p *Proxy) apply(c *feedpb.Config) *feedpb.ToAgent {
	old := p.config.Load()
	next, err := old.Apply(c)
	if err != nil {
		p.refused.Add(1)
		var source model.ObjectRef
		var refused *config.RefusedError
		if errors.As(err, &refused) {
			source, err = refused.Source, refused.Err
		}
		p.log.Error().Err(err).Uint64("version", c.Version).Stringer("object", source).
			Msg("configuration refused; the previous one stays in force")
		return &feedpb.ToAgent{Message: &feedpb.ToAgent_Refuse{Refuse: &feedpb.Refuse{
			Version: c.Version, SourceKind: source.Kind, Source: source.FullName(), Reason: err.Error(),
		}}}
	}
	p.config.Store(next)
	endpoint := ""
	if next.Settings.Trace != nil {
		endpoint = next.Settings.Trace.Endpoint
	}
	p.tracer.Use(endpoint, p.log)
	p.setConnections(cmp.Or(next.Settings.MaxConnections, overload.DefaultConnections()))
	if next.Settings.HTTP3 {
		p.startHTTP3()
	}
	p.log.Debug().Uint64("version", c.Version).Bool("snapshot", c.Snapshot).
		Int("hosts", len(c.Hosts)).Int("services", len(c.Services)).Msg("configuration applied")
	return &feedpb.ToAgent{Message: &feedpb.ToAgent_Ack{Ack: &feedpb.Ack{Version: c.Version}}}
}

// queuedWait is how long listeners stay open after the kernel stopped steering to them: for
// handshakes that had begun.
const queuedWait = 2 * time.Second

// goodbyeWait is how long clients may take, after the drain limit, to answer the close frame
// of their WebSocket.
const goodbyeWait = 2 * time.Second

// drain finishes what is open within the time-out (0: the configured one) and then closes
// p.drained.
func (p *Proxy) drain(timeout time.Duration) {
	p.drainOnce.Do(func() {
		p.serving.Store(false)
		p.draining.Store(true)
		if timeout <= 0 {
			timeout = p.config.Load().Settings.DrainTimeout
		}
		go func() {
			defer close(p.drained)
			deadline := time.Now().Add(timeout)
			p.each(func(w *worker) {
				w.server.Drain()
				w.quic.drain(timeout)
			})
			time.Sleep(min(queuedWait, timeout))
			p.each(func(w *worker) { w.server.StopListening() })
			for open := p.open(); open > 0; open = p.open() {
				// A generation that was replaced can wait until its idle clients ask once
				// more, and tell them then. One that must end cannot.
				if p.stopping.Load() {
					p.each(func(w *worker) { w.server.CloseIdle() })
				}
				if time.Now().After(deadline) {
					p.log.Warn().Int("connections", open).Msg("drain time-out: closing what is still open")
					p.each(func(w *worker) { w.server.EndTunnels() })
					for end := time.Now().Add(goodbyeWait); p.open() > 0 && time.Now().Before(end); {
						time.Sleep(50 * time.Millisecond)
					}
					p.each(func(w *worker) { w.server.CloseAll() })
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
			p.log.Info().Msg("drained")
		}()
	})
}

// each runs f for every worker, on its own thread, and waits.
func (p *Proxy) each(f func(*worker)) {
	var wg sync.WaitGroup
	for _, w := range p.workers {
		wg.Add(1)
		w.loop.Submit(func() {
			defer wg.Done()
			f(w)
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second): // a worker hangs; the others need not
	}
}

func (p *Proxy) open() (n int) {
	for _, w := range p.running() {
		n += int(w.stats.Open.Load()) + w.quic.server.Open()
	}
	return n
}

func seed() (s [32]byte) {
	crand.Read(s[:]) // never fails
	return s
}

// setConnections bounds the connections of clients, and those to pods by what is left.
func (p *Proxy) setConnections(most int) {
	p.over.SetConnections(most)
	p.over.SetPods(overload.DefaultPods(most))
}
