package exchange

import (
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
)

// alarm wakes the exchange's coroutine.
type alarm struct {
	timer reactor.Timer
	early reactor.Timer // wakes it for a look
	rang  bool          // the timer has run out
	wake  func()        // for Loop.Submit
}

// init is called once in the life of x.
func (a *alarm) init(x *Exchange) {
	a.wake = func() {
		x.turns.request.Woken()
		x.turns.response.Woken()
		if x.co != nil {
			x.co.Wake()
		}
	}
	a.early.Init(func() {
		if x.co != nil {
			x.co.Wake()
		}
	})
	a.timer.Init(func() {
		a.rang = true
		if x.co != nil {
			x.co.Wake()
		}
	})
}

// arm sets the alarm.
func (x *Exchange) arm(d time.Duration) {
	x.alarm.rang = false
	x.worker.Loop.Set(&x.alarm.timer, d)
}
