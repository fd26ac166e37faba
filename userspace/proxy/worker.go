package proxy

import (
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/userspace/proxy/client/http3"
	"github.com/kerngate/kerngate/userspace/proxy/client/server"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/observe/accesslog"
	"github.com/kerngate/kerngate/userspace/proxy/pod/balance"
	"github.com/kerngate/kerngate/userspace/proxy/pod/upstream"
)

// worker is one reactor with everything that runs on it.
type worker struct {
	index   int
	loop    *reactor.Loop
	pool    *upstream.Pool
	server  *server.Server
	access  *accesslog.Buffer
	metrics *exchange.Metrics
	stats   *server.Stats
	quic    quicSide
	done    chan struct{}
}

func (p *Proxy) newWorker(i int, kinds []uint32, listeners []int) (*worker, error) {
	id := p.generation%abi.Generations*abi.GenerationWorkers + uint32(i)
	line := &p.view.Workers[id]
	loop, err := reactor.New(reactor.Stats{
		BusySince: &line.BusySinceNS,
		Pending:   &line.Pending,
		Seen:      &line.SeenNS,
		Beat:      abi.BeatMs * time.Millisecond,
	})
	if err != nil {
		return nil, err
	}
	random := rand.NewChaCha8(seed())
	w := &worker{
		index:   i,
		loop:    loop,
		pool:    upstream.NewPool(loop, len(p.view.Backends)),
		access:  p.options.Access.Buffer(),
		metrics: &exchange.Metrics{Worker: i},
		stats:   &server.Stats{},
		done:    make(chan struct{}),
	}
	shared := &exchange.Worker{
		Loop:     loop,
		Pool:     w.pool,
		Balancer: balance.New(p.view, p.generation, random.Uint64()).Sharing(p.groups),
		Config:   &p.config,
		Metrics:  w.metrics,
		Rand:     random,
		Limiter:  p.limiter,
		Queue:    &p.queue,
		Overload: &p.over,
		Tracer:   &p.tracer,
		Health:   p.health,
		Spool:    p.options.Spool,
		Log:      p.log,
		Access:   w.access,
	}
	w.pool.Room = &p.over
	w.server = server.New(shared, w.stats, &line.Connections, &line.Accepted, p.log)
	loop.EndOfTurn(w.access.Flush)
	w.quic.server = http3.New(shared, &w.quic.stats, http3.IDs{Worker: uint8(id)}, p.log)
	w.quic.shared = shared
	for j, fd := range listeners {
		if kinds[j] == abi.SocketUDP4 || kinds[j] == abi.SocketUDP6 {
			w.quic.sockets = append(w.quic.sockets, fd)
			continue
		}
		p.over.Listeners = append(p.over.Listeners, fd)
		if err := w.server.Listen(fd); err != nil {
			return nil, fmt.Errorf("watch listening socket: %w", err)
		}
	}
	return w, nil
}

func (w *worker) run(failed chan<- error) {
	defer close(w.done)
	if err := w.loop.Run(); err != nil {
		failed <- fmt.Errorf("worker %d: %w", w.index, err)
	}
}

// sockets are the listening sockets of all workers, worker by worker.
type sockets struct {
	kinds []uint32 // of each worker's sockets, enum kg_socket
	fds   []int
}

// backlog is the length of each worker's accept queue; the kernel bounds it by
// net.core.somaxconn.
const backlog = 4096

// openSockets opens a listening socket per worker and family, and a UDP socket for HTTP/3.
// The former are bound to loopback ports that nobody needs to know: connections reach them
// by kg_lookup, with the ingress address as their local one. Those of a family share a port,
// and so the kernel's memory of when one of them was flooded: the answer to a SYN cookie that
// one has sent may come to another (bpf/cookie.h). The UDP sockets the agent binds, if
// HTTP/3 is served. Without IPv6 in the kernel there is IPv4 alone.
func openSockets(workers int) (_ *sockets, err error) {
	s := &sockets{kinds: []uint32{abi.SocketTCP4, abi.SocketUDP4}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if fd, err := listen(unix.AF_INET6, 0); err == nil {
		unix.Close(fd)
		s.kinds = append(s.kinds, abi.SocketTCP6, abi.SocketUDP6)
	}
	ports := make(map[int]int) // by family
	for range workers {
		for _, kind := range s.kinds {
			family := unix.AF_INET
			if kind == abi.SocketTCP6 || kind == abi.SocketUDP6 {
				family = unix.AF_INET6
			}
			var fd int
			if kind == abi.SocketUDP4 || kind == abi.SocketUDP6 {
				fd, err = openUDP(family)
			} else {
				fd, err = listen(family, ports[family])
			}
			if err != nil {
				return nil, err
			}
			s.fds = append(s.fds, fd)
			if kind == abi.SocketTCP4 || kind == abi.SocketTCP6 {
				if ports[family], err = portOf(fd); err != nil {
					return nil, err
				}
			}
		}
	}
	return s, nil
}

func portOf(fd int) (int, error) {
	name, err := unix.Getsockname(fd)
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return name.Port, err
	case *unix.SockaddrInet6:
		return name.Port, err
	}
	return 0, fmt.Errorf("port of listening socket: %w", err)
}

// listen opens a listening socket by socket(2): net.Listen would make an MPTCP socket,
// which cannot enter a SOCKMAP. Port 0 is any that nobody has.
func listen(family, port int) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, fmt.Errorf("make listening socket: %w", err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	var sa unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}
	if family == unix.AF_INET6 && err == nil {
		sa = &unix.SockaddrInet6{Addr: [16]byte{15: 1}, Port: port}
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	if err == nil {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("listen on loopback: %w", err)
	}
	return fd, nil
}

func (s *sockets) of(worker int) []int {
	n := len(s.kinds)
	return s.fds[worker*n : (worker+1)*n]
}

// handedOver says that the workers' loops own the sockets now.
func (s *sockets) handedOver() { s.fds = nil }

func (s *sockets) close() {
	for _, fd := range s.fds {
		unix.Close(fd)
	}
	s.fds = nil
}
