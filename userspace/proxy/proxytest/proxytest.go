// Package proxytest runs a proxy worker on loopback without agent or kernel maps, for the
// tests and benchmarks of the packages below userspace/proxy. The tables that the kernel
// would hold are plain memory of the same layout.
package proxytest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/view"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/client/server"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/observe/accesslog"
	"github.com/kerngate/kerngate/userspace/proxy/observe/overload"
	"github.com/kerngate/kerngate/userspace/proxy/observe/tracing"
	"github.com/kerngate/kerngate/userspace/proxy/pod/balance"
	"github.com/kerngate/kerngate/userspace/proxy/pod/upstream"
	"github.com/kerngate/kerngate/userspace/proxy/rules/limit"
)

// Proxy is a running worker.
type Proxy struct {
	Address string // host:port it listens on
	View    *view.View
	Config  *atomic.Pointer[config.Snapshot]
	Metrics *exchange.Metrics
	Stats   *server.Stats
	Loop    *reactor.Loop
	Server  *server.Server
	Worker  *exchange.Worker
	Pool    *upstream.Pool
	Log     *Log // the access log
	Said    *Log // what exchanges log
	Faulty  bool // the test makes the proxy panic; else that fails it
}

// Log gathers what is written to it.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Service is a service of the test: its routes and pods.
type Service struct {
	Name     string
	Host     string // "" any
	Path     string // a prefix
	Regexp   bool   // Path is an expression
	Policy   *feedpb.Policy
	Change   func(*feedpb.Host, *feedpb.Route) // of what is made of the above; nil: none
	Canary   *feedpb.Split                     // takes a part of the requests of the service before this one
	Backends []string
	Upstream *feedpb.Upstream // how they are spoken to, nil: HTTP/1.1 in clear text

	MaxConnections, MaxPending uint32
}

// Start runs a worker until the test ends.
func Start(t testing.TB, services []Service, settings *feedpb.Settings) *Proxy {
	t.Helper()
	const backends = 256
	v := &view.View{
		Services:    make([]abi.Service, 64),
		Slots:       make([]abi.Slot, 1024),
		Backends:    make([]abi.Backend, backends),
		Loads:       make([]abi.BackendLoad, abi.Generations*backends),
		Workers:     make([]abi.Worker, abi.Workers),
		Generations: make([]abi.Generation, abi.Generations),
	}
	p := &Proxy{View: v, Metrics: &exchange.Metrics{}, Stats: &server.Stats{}, Log: &Log{}, Said: &Log{}, Config: new(atomic.Pointer[config.Snapshot])}
	p.Configure(t, services, settings)

	loop, err := reactor.New(reactor.Stats{})
	if err != nil {
		t.Fatal(err)
	}
	p.Loop, p.Pool = loop, upstream.NewPool(loop, backends)
	logger := accesslog.New(p.Log)
	access := logger.Buffer()
	loop.EndOfTurn(access.Flush)
	worker := &exchange.Worker{
		Loop: loop, Pool: p.Pool, Balancer: balance.New(v, 1, 1), Config: p.Config,
		Metrics: p.Metrics, Rand: rand.NewChaCha8([32]byte{1}), Limiter: limit.New(64), Queue: new(exchange.Queue), Overload: new(overload.Monitor), Tracer: new(tracing.Exporter), Access: access,
	}
	p.Worker = worker
	p.Pool.Room = worker.Overload
	log := testLog(t)
	if _, ok := t.(*testing.F); ok {
		log = zerolog.Nop() // a fuzz target must not use the F that it was made with
	}
	worker.Log = zerolog.New(p.Said)
	p.Server = server.New(worker, p.Stats, nil, nil, log)

	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 1024); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	p.Address = fmt.Sprintf("127.0.0.1:%d", sa.(*unix.SockaddrInet4).Port)
	if err := p.Server.Listen(fd); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- loop.Run() }()
	t.Cleanup(func() {
		loop.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		logger.Close()
		if n := p.Metrics.Panics.Load(); n > 0 && !p.Faulty {
			t.Errorf("%d faults of the proxy: %s", n, p.Said)
		}
	})
	return p
}

// Configure puts routes and pods in force, as the agent would.
func (p *Proxy) Configure(t testing.TB, services []Service, settings *feedpb.Settings) {
	t.Helper()
	p.Apply(t, p.Publish(services, settings))
}

// Publish writes the tables of services, and returns what the agent would send about them.
func (p *Proxy) Publish(services []Service, settings *feedpb.Settings) (c *feedpb.Config) {
	p.OnLoop(func() { c = p.publish(services, settings) })
	return c
}

// Apply puts a whole configuration in force.
func (p *Proxy) Apply(t testing.TB, c *feedpb.Config) {
	t.Helper()
	next, err := config.Empty().Apply(c)
	if err != nil {
		t.Fatal(err)
	}
	p.Config.Store(next)
}

// OnLoop has f run where the worker runs, once that does: the tables are plain memory here,
// which nobody else may write while it reads them.
func (p *Proxy) OnLoop(f func()) {
	if p.Loop == nil {
		f()
		return
	}
	done := make(chan struct{})
	p.Loop.Submit(func() {
		defer close(done)
		f()
	})
	<-done
}

// publish writes the tables, and returns what the agent would send.
func (p *Proxy) publish(services []Service, settings *feedpb.Settings) *feedpb.Config {
	c := &feedpb.Config{Version: 1, Snapshot: true, Settings: settings}
	c.TicketKeys = &feedpb.TicketKeys{Affinity: bytes.Repeat([]byte{7}, 32)} // that each Configure has
	hosts := map[string]*feedpb.Host{}
	slot, backend := uint32(1), uint32(1)
	for i, s := range services {
		id := uint32(i + 1)
		for j, b := range s.Backends {
			a := netip.MustParseAddrPort(b)
			p.View.Backends[backend] = abi.Backend{
				Address: abi.AddressOf(a.Addr()), Port: abi.PortOf(a.Port()), Protocol: 6,
				Flags: abi.BackendInUse, Generation: 1, Weight: 1,
			}
			p.View.Slots[slot+uint32(j)] = abi.Slot{Backend: backend}
			backend++
		}
		p.View.Services[id] = abi.Service{
			Block: uint64(abi.MakeBlock(slot, uint16(len(s.Backends)), 1)), Flags: abi.ServiceInUse,
		}
		slot += uint32(len(s.Backends))
		c.Services = append(c.Services, &feedpb.Service{Id: id, Name: s.Name, MaxConnections: s.MaxConnections, MaxPending: s.MaxPending})
		h := hosts[s.Host]
		if h == nil {
			h = &feedpb.Host{Name: s.Host}
			hosts[s.Host] = h
			c.Hosts = append(c.Hosts, h)
		}
		if s.Canary != nil {
			s.Canary.Service, s.Canary.Upstream = id, s.Upstream
			if s.Policy != nil {
				h.Policies = append(h.Policies, s.Policy)
				s.Canary.Policy = uint32(len(h.Policies))
			}
			last := h.Routes[len(h.Routes)-1]
			last.Splits = append(last.Splits, s.Canary)
			continue
		}
		r := &feedpb.Route{Path: s.Path, Regexp: s.Regexp, Service: id, Source: "default/test", Upstream: s.Upstream}
		if s.Policy != nil {
			h.Policies = append(h.Policies, s.Policy)
			r.Policy = uint32(len(h.Policies))
		}
		if s.Change != nil {
			s.Change(h, r)
		}
		h.Routes = append(h.Routes, r)
	}
	return c
}

// testLog logs to the test; a benchmark is not to measure that.
func testLog(t testing.TB) zerolog.Logger {
	log := zerolog.New(zerolog.NewTestWriter(t))
	if _, measuring := t.(*testing.B); measuring {
		return log.Level(zerolog.WarnLevel)
	}
	return log
}

// Backend gives a service that is not among those of Start one pod, where the agent would
// publish it in the maps.
func (p *Proxy) Backend(t testing.TB, service uint32, address string) {
	t.Helper()
	a := netip.MustParseAddrPort(address)
	p.OnLoop(func() { p.backend(service, a) })
}

func (p *Proxy) backend(service uint32, a netip.AddrPort) {
	slot, backend := uint32(len(p.View.Slots))-service, uint32(len(p.View.Backends))-service
	p.View.Backends[backend] = abi.Backend{
		Address: abi.AddressOf(a.Addr()), Port: abi.PortOf(a.Port()), Protocol: 6,
		Flags: abi.BackendInUse, Generation: 1, Weight: 1,
	}
	p.View.Slots[slot] = abi.Slot{Backend: backend}
	p.View.Services[service] = abi.Service{Block: uint64(abi.MakeBlock(slot, 1, 1)), Flags: abi.ServiceInUse}
}

// Dial opens a connection to the proxy that is closed when the test ends.
func (p *Proxy) Dial(t testing.TB) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", p.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}
