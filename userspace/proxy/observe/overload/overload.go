// Package overload watches what a proxy runs out of first, and says how many requests are to
// be refused before that happens.
//
// A resource that is nearly used up has a share of requests refused, which grows with its use
// to all of them: so the refusals keep the balance by themselves, and nothing flaps between
// serving and not serving.
package overload

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Resource is what can run out.
type Resource uint8

const (
	Connections Resource = iota // of clients, against Settings.MaxConnections
	Memory                      // of the control group, against its limit
	AcceptQueue                 // the fullest of the listening sockets'
	Pods                        // connections to pods, against what the descriptors leave for them

	Resources = iota
)

var resources = [Resources]struct {
	token    string
	from, to uint32 // use, in thousandths, from which requests are refused, and at which all are
}{
	Connections: {"connections", 900, 1000},
	Memory:      {"memory", 900, 980},
	AcceptQueue: {"accept_queue", 500, 900},
	Pods:        {"pod_connections", never, never}, // they are refused one by one, see pods.go
}

func (r Resource) String() string { return resources[r].token }

// all of the requests, or of a resource.
const all = 1000

const never = math.MaxUint32

// Monitor is shared by the workers. The zero value refuses nothing; Run has it look.
type Monitor struct {
	refused     atomic.Uint32 // share of requests, in thousandths
	use         [Resources]atomic.Uint32
	connections atomic.Int64
	most        atomic.Int64 // connections; 0: no bound yet
	pods        atomic.Int64 // connections to them
	mostPods    atomic.Int64 // likewise
	clients     crowd
	servers     crowd
	work        crowd
	allocated   allocation
	last        time.Time // when memory is given back once more; zero: not

	// MemoryOf tells use and limit in bytes, 0 for no limit; nil: nobody knows.
	MemoryOf func() (use, limit uint64)
	// Free gives memory back that is not in use; nil: nobody can.
	Free func()
	// Listeners are the sockets whose queues are looked at.
	Listeners []int
}

const period = 100 * time.Millisecond

// Run looks until ctx ends.
func (m *Monitor) Run(ctx context.Context) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		m.look()
		if m.crowdLeft(time.Now()) && m.Free != nil {
			m.Free()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (m *Monitor) look() {
	if m.MemoryOf != nil {
		m.use[Memory].Store(share(m.MemoryOf()))
	}
	var queue uint32
	for _, fd := range m.Listeners {
		queue = max(queue, queueUse(fd))
	}
	m.use[AcceptQueue].Store(queue)
	m.use[Connections].Store(share(uint64(max(0, m.connections.Load())), uint64(m.most.Load())))
	m.use[Pods].Store(m.podUse())
	var refused uint32
	for r := range resources {
		refused = max(refused, refusedAt(Resource(r), m.use[r].Load()))
	}
	m.refused.Store(refused)
}

// share returns a part of a whole in thousandths; of nothing it is 0.
func share(part, whole uint64) uint32 {
	if whole == 0 {
		return 0
	}
	return uint32(min(float64(part)/float64(whole)*all, math.MaxUint32))
}

// refusedAt returns which share of requests is refused at a use of a resource.
func refusedAt(r Resource, use uint32) uint32 {
	from, to := resources[r].from, resources[r].to
	switch {
	case use <= from:
		return 0
	case use >= to:
		return all
	}
	return (use - from) * all / (to - from)
}

const tcpListen = 10 // TCP_LISTEN of enum in net/tcp_states.h

// queueUse returns how full a listening socket's accept queue is. For these the kernel tells
// the queue's length and bound in two fields that mean something else for connections
// (tcp_diag_get_info, tcp_get_info in net/ipv4).
func queueUse(fd int) uint32 {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || info.State != tcpListen {
		return 0 // closed, while draining, and maybe another socket by now
	}
	return share(uint64(info.Unacked), uint64(info.Sacked))
}

// Sheds reports whether a request is to be refused; random is any number.
func (m *Monitor) Sheds(random func() uint64) bool {
	refused := m.refused.Load()
	return refused > 0 && uint32(random()%all) < refused
}

// SetConnections bounds the clients' connections.
func (m *Monitor) SetConnections(most int) { m.most.Store(int64(most)) }

// Crowd says how connections stand to their bound.
type Crowd uint8

const (
	Roomy   Crowd = iota
	Crowded       // those that idle should go
	Full          // no more
)

// Enter counts a client's connection. Full: it is not counted, and must be closed.
func (m *Monitor) Enter() Crowd {
	n, most := m.connections.Add(1), m.most.Load()
	switch {
	case most == 0 || n*all <= most*int64(resources[Connections].from):
		return Roomy
	case n <= most:
		return Crowded
	}
	m.connections.Add(-1)
	return Full
}

// Leave takes it back.
func (m *Monitor) Leave() { m.connections.Add(-1) }

// Refused returns the share of requests that is being refused, 0 to 1.
func (m *Monitor) Refused() float64 { return float64(m.refused.Load()) / all }

// Use returns how much of a resource is used, 1 for all of it.
func (m *Monitor) Use(r Resource) float64 { return float64(m.use[r].Load()) / all }

// Limit returns the bound of connections.
func (m *Monitor) Limit() int { return int(m.most.Load()) }

// kept is what is left to other things than connections of clients and to pods.
const kept = 512

// DefaultConnections returns how many connections the limit of descriptors is good for:
// each may need one to a pod.
func DefaultConnections() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1 << 19
	}
	return max(16, (int(min(limit.Cur, 1<<31))-kept)/2)
}
