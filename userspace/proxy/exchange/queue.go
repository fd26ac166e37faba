package exchange

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/pod/balance"
)

// Queue holds the requests that wait because every pod of their service has as many as it
// may have, of all workers: a line for each service, in which the first to come is the first
// to go. The zero value is ready.
type Queue struct {
	waiting atomic.Int64 // of all services; 0 spares everybody else the lock
	mu      sync.Mutex
	lines   map[state.ServiceID]*list.List // of *Exchange
}

// Waiting returns how many requests wait.
func (q *Queue) Waiting() int64 { return q.waiting.Load() }

// join puts an exchange at the end of its service's line. It reports false if the line is as
// long as it may be.
func (q *Queue) join(s *config.Service, x *Exchange) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	line := q.lines[s.ID]
	switch {
	case line == nil && s.MaxPending > 0:
		if q.lines == nil {
			q.lines = map[state.ServiceID]*list.List{}
		}
		line = list.New()
		q.lines[s.ID] = line
	case line == nil || line.Len() >= int(s.MaxPending):
		return false
	}
	x.choice.place = line.PushBack(x)
	q.waiting.Add(1)
	return true
}

// leave takes an exchange out of its line, and has the one that is first now look.
func (q *Queue) leave(id state.ServiceID, x *Exchange) {
	q.mu.Lock()
	defer q.mu.Unlock()
	line := q.lines[id]
	line.Remove(x.choice.place)
	x.choice.place = nil
	q.waiting.Add(-1)
	if line.Len() == 0 {
		delete(q.lines, id)
		return
	}
	wakeFirst(line)
}

// isFirst reports whether the exchange is the next to go.
func (q *Queue) isFirst(id state.ServiceID, x *Exchange) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lines[id].Front() == x.choice.place
}

// hasLine reports whether others wait for the service, before whom nobody goes.
func (q *Queue) hasLine(id state.ServiceID) bool {
	if q.waiting.Load() == 0 {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lines[id] != nil
}

// next has the first in line look whether there is room: a request has ended.
func (q *Queue) next(id state.ServiceID) {
	if q.waiting.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if line := q.lines[id]; line != nil {
		wakeFirst(line)
	}
}

func wakeFirst(line *list.List) {
	first := line.Front().Value.(*Exchange)
	first.worker.Loop.Submit(first.alarm.wake)
}

// lookAgain is how often the first in line looks by itself: requests that end in another
// process, pods that are new, and those that services share wake nobody.
const lookAgain = 50 * time.Millisecond

// choosePod chooses the pod that is asked next. Where all are full the request waits for
// one, if its service lets it, for as long as a connection may take.
func (x *Exchange) choosePod() (p balance.Pick, reason Reason) {
	s := x.choice.service
	bounded := s.MaxConnections > 0 && x.choice.tries == 0
	if !bounded || !x.worker.Queue.hasLine(s.ID) {
		if p, ok := x.choose(); ok {
			return p, Forwarded
		}
		if !bounded || !x.worker.Balancer.Full() {
			return p, NoEndpoint
		}
	}
	return x.await(s)
}

func (x *Exchange) await(s *config.Service) (p balance.Pick, reason Reason) {
	q := x.worker.Queue
	if !q.join(s, x) {
		x.Outcome.Detail = "queue_full"
		return p, PodsBusy
	}
	defer q.leave(s.ID, x)
	x.down.Want(0)
	deadline := x.worker.Loop.Clock() + int64(x.bounds().connectTimeout())
	for {
		if q.isFirst(s.ID, x) {
			if p, ok := x.choose(); ok {
				return p, Forwarded
			}
			if !x.worker.Balancer.Full() {
				return p, NoEndpoint
			}
		}
		left := time.Duration(deadline - x.worker.Loop.Clock())
		if left <= 0 {
			x.Outcome.Detail = "queue_timeout"
			return p, PodsBusy
		}
		x.arm(min(left, lookAgain))
		x.co.Park()
		x.worker.Loop.Clear(&x.alarm.timer)
		if x.co.Dying() || x.down.Broken() {
			return p, ClientAborted
		}
	}
}
