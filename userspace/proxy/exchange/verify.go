package exchange

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// Passwords are verified on goroutines of their own: a bcrypt hash takes up to a second,
// which a reactor does not have. Half of the processors at most do so at a time, so that
// somebody who tries passwords cannot slow everybody else down.
var (
	verifying atomic.Int32 // running or waiting
	verifiers = make(chan struct{}, max(runtime.GOMAXPROCS(0)/2, 1))
)

// maxVerifying bounds those that wait.
const maxVerifying = 256

// verification is a password that is being verified for an exchange.
type verification struct {
	mu        sync.Mutex
	abandoned bool // nobody waits any more, and the loop may be gone

	done, right bool // of the loop's thread
}

// verify has a password verified and waits for the outcome. A reason other than Forwarded
// says that there is none.
func (x *Exchange) verify(check *policy.Check) (policy.Verdict, Reason) {
	if verifying.Add(1) > maxVerifying {
		verifying.Add(-1)
		return 0, Overloaded
	}
	v := &verification{}
	co, loop := x.co, x.worker.Loop
	go func() {
		verifiers <- struct{}{}
		right := check.Run()
		<-verifiers
		verifying.Add(-1)
		v.mu.Lock()
		defer v.mu.Unlock()
		if !v.abandoned {
			loop.Submit(func() {
				v.done, v.right = true, right
				co.Wake() // spurious at worst: whoever runs on it by now parks again
			})
		}
	}()
	x.down.Want(0)
	for !v.done {
		if co.Dying() || x.down.Broken() {
			v.mu.Lock()
			v.abandoned = true
			v.mu.Unlock()
			return 0, ClientAborted
		}
		co.Park()
	}
	if v.right {
		return policy.Pass, Forwarded
	}
	return policy.NeedPassword, Forwarded
}
