package exchange

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/proxy/pod/subrequest"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// errand is work off the reactor's thread that an exchange waits for.
type errand struct {
	mu        sync.Mutex
	finished  bool
	abandoned bool // nobody waits any more, and the loop may be gone
	after     func()

	done bool // of the loop's thread
}

// dispatch has run carried out on a goroutine of its own, which then wakes the coroutine.
func (x *Exchange) dispatch(run func()) *errand {
	e := &errand{}
	co, loop := x.co, x.worker.Loop
	go func() { // ends with run
		run()
		e.mu.Lock()
		defer e.mu.Unlock()
		e.finished = true
		if e.abandoned {
			if e.after != nil {
				e.after()
			}
			return
		}
		loop.Submit(func() {
			e.done = true
			co.Wake() // spurious at worst: whoever runs on it by now parks again
		})
	}()
	return e
}

// abandon says that nobody waits. after runs when the work has ended; it may be nil.
func (e *errand) abandon(after func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.abandoned, e.after = true, after
	if e.finished && after != nil {
		after()
	}
}

// errand has run carried out on a goroutine of its own and waits for it. It reports false
// if the client is gone; what run was to bring back must not be looked at then.
func (x *Exchange) errand(limit time.Duration, run func(context.Context)) bool {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	e := x.dispatch(func() { // ends with its context at the latest
		defer cancel()
		run(ctx)
	})
	x.down.Want(0)
	for !e.done {
		if x.co.Dying() || x.down.Broken() {
			e.abandon(nil)
			cancel()
			return false
		}
		x.co.Park()
	}
	return true
}

// address fills in whom a subrequest goes to. It reports false if that is nobody.
func (x *Exchange) address(d *policy.Destination, r *subrequest.Request) bool {
	r.TLS, r.Authority, r.Guard, r.By = d.TLS, d.Authority, x.conf.Settings.Guard, x.Outcome.Source.Namespace
	service := d.Service
	if d.Own {
		// Whatever host the client has named: what is asked is what the proxy itself
		// routes there, and nothing else can be.
		r.Authority = string(x.Request.Authority)
		path := r.Target
		for i := range len(path) {
			if path[i] == '?' {
				path = path[:i]
				break
			}
		}
		found, ok := x.conf.Routes.Match(x.Request.Host, []byte(path), x.forRoute())
		if !ok || found.Value.Service == nil || found.Value.Upstream.HTTP2 {
			return false
		}
		service, r.TLS = found.Value.Service.ID, found.Value.Upstream.TLS
	}
	if service == 0 {
		return true
	}
	pod, ok := x.worker.podOf(service)
	r.Address = pod.String()
	return ok
}

// podOf chooses a pod of a service that answers a request of the proxy's own.
func (w *Worker) podOf(service state.ServiceID) (netip.AddrPort, bool) {
	pick, ok := w.Balancer.Pick(service, nil)
	return pick.Address, ok
}
