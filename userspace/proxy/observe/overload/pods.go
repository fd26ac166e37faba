package overload

import "golang.org/x/sys/unix"

// A client's connection may have many requests at a time, each of which may need a connection to
// a pod. So those have a bound of their own, and cannot take the descriptors that clients'
// connections, the metrics and the agent need. And as they get scarce each client's connection
// may have fewer requests at a time, down to one: those that have the most go first.

const (
	podsFrom = 500 // thousandths of the bound, from which on requests per connection are limited
	podsTo   = 900 // at which each may have one
)

// DefaultPods returns how many connections to pods the limit of descriptors leaves where clients
// may have as many as most: at least as many as clients have by default.
func DefaultPods(most int) int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1 << 19
	}
	left := int(min(limit.Cur, 1<<31)) - kept
	return max(16, left/2, left-most)
}

// SetPods bounds the connections to pods; 0: no bound.
func (m *Monitor) SetPods(most int) { m.mostPods.Store(int64(most)) }

// EnterPod counts a connection to a pod. It reports false if there are as many as there may be:
// then it is not counted, and must not be made.
func (m *Monitor) EnterPod() bool {
	n, most := m.pods.Add(1), m.mostPods.Load()
	if most == 0 || n <= most {
		return true
	}
	m.pods.Add(-1)
	return false
}

// LeavePod takes it back.
func (m *Monitor) LeavePod() { m.pods.Add(-1) }

func (m *Monitor) podUse() uint32 {
	return share(uint64(max(0, m.pods.Load())), uint64(m.mostPods.Load()))
}

// Requests returns how many requests a client's connection may have at a time where the
// configuration allows it most.
func (m *Monitor) Requests(most int) int {
	switch use := m.podUse(); {
	case use <= podsFrom || most <= 1:
		return most
	case use >= podsTo:
		return 1
	default:
		return 1 + (most-1)*int(podsTo-use)/(podsTo-podsFrom)
	}
}
