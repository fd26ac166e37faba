package exchange

import (
	"runtime"
	"sync"

	"github.com/kerngate/kerngate/userspace/proxy/rules/limit"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// Passwords are verified on goroutines of their own: a bcrypt hash takes up to a second,
// which a reactor does not have. Half of the processors at most do so at a time, so that
// somebody who tries passwords cannot slow everybody else down. Namespaces take turns, and a
// verification that no request waits for any more is skipped: clients of a namespace that is
// attacked wait behind the attack, and those of others do not.
var passwords = verifiers{shares: limit.Shares{Most: maxVerifying}, most: max(runtime.GOMAXPROCS(0)/2, 1)}

// maxVerifying bounds those that wait or run.
const maxVerifying = 256

// verifiers verify passwords.
type verifiers struct {
	shares limit.Shares
	most   int // at a time

	mu      sync.Mutex
	running int
	waiting map[string][]*verification // by namespace
	turns   []string                   // of those with somebody waiting, whose turn it is first
}

// verification is a password that is being verified for an exchange.
type verification struct {
	run func() bool
	by  string
	// tell gets the outcome. It is not called for what was abandoned.
	tell func(right bool)

	mu        sync.Mutex
	abandoned bool // nobody waits any more, and the loop may be gone

	done, right bool // of the loop's thread
}

func (v *verification) abandon() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.abandoned = true
}

func (v *verification) isAbandoned() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.abandoned
}

// add has a password verified in its turn. It reports false if there is no room.
func (p *verifiers) add(v *verification) bool {
	if !p.shares.Take(v.by) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == nil {
		p.waiting = map[string][]*verification{}
	}
	if len(p.waiting[v.by]) == 0 {
		p.turns = append(p.turns, v.by)
	}
	p.waiting[v.by] = append(p.waiting[v.by], v)
	if p.running < p.most {
		p.running++
		go p.work() // ends when nobody waits
	}
	return true
}

func (p *verifiers) work() {
	for {
		v := p.next()
		if v == nil {
			return
		}
		if !v.isAbandoned() {
			right := v.run()
			v.mu.Lock()
			if !v.abandoned {
				v.tell(right)
			}
			v.mu.Unlock()
		}
		p.shares.Return(v.by)
	}
}

// next takes whose turn it is, nil if nobody waits: then one less runs.
func (p *verifiers) next() *verification {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.turns) == 0 {
		p.running--
		return nil
	}
	by := p.turns[0]
	p.turns = p.turns[1:]
	list := p.waiting[by]
	v := list[0]
	if list = list[1:]; len(list) == 0 {
		delete(p.waiting, by)
	} else {
		p.waiting[by] = list
		p.turns = append(p.turns, by)
	}
	return v
}

// verify has a password verified and waits for the outcome. A reason other than Forwarded
// says that there is none.
func (x *Exchange) verify(check *policy.Check) (policy.Verdict, Reason) {
	co, loop := x.co, x.worker.Loop
	v := &verification{run: check.Run, by: x.Outcome.Source.Namespace}
	v.tell = func(right bool) {
		loop.Submit(func() {
			v.done, v.right = true, right
			co.Wake() // spurious at worst: whoever runs on it by now parks again
		})
	}
	if !passwords.add(v) {
		return 0, Overloaded
	}
	x.down.Want(0)
	for !v.done {
		if co.Dying() || x.down.Broken() {
			v.abandon()
			return 0, ClientAborted
		}
		co.Park()
	}
	if v.right {
		return policy.Pass, Forwarded
	}
	return policy.NeedPassword, Forwarded
}
