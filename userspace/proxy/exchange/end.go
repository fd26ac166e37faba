package exchange

import (
	"net/http"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// refuse answers with a response of the proxy's own and sends it.
func (x *Exchange) refuse(reason Reason, detail string) {
	x.refuseWith(reason.Status(), reason, detail)
}

func (x *Exchange) refuseWith(status int, reason Reason, detail string) {
	x.Outcome.Detail = detail
	x.Outcome.Reason, x.Outcome.Status = reason, status
	if reason != Shed && x.intercepts(status) && x.page(status) {
		return
	}
	if x.speaksGRPC() {
		x.replyGRPC(reason, detail)
		x.Outcome.Status = http.StatusOK
	} else {
		x.down.Reply(status, reason, detail)
	}
	x.flushAll()
}

// flushAll waits until the client has taken what is queued.
func (x *Exchange) flushAll() {
	x.arm(x.conf.Settings.ResponseTimeout)
	for {
		switch err := x.down.Flush(); {
		case err == nil:
			return
		case err != reactor.ErrWouldBlock || x.alarm.rang || x.co.Dying():
			x.down.Abort()
			return
		}
		x.down.Want(reactor.Writable)
		x.co.Park()
	}
}

// Refused prepares an exchange for a request that is not carried out, because its head was
// refused or did not come whole, with the outcome that log and metrics are to have. The front
// end answers the client itself.
func (x *Exchange) Refused(w *Worker, down Downstream, r *message.Request, c *Connection, reason Reason, status int, detail string) {
	r.ResetRefused()
	x.Init(w, down, r, c)
	x.Outcome.Reason, x.Outcome.Status, x.Outcome.Detail = reason, status, detail
}

// Send waits until the client has taken what the front end has queued itself, after Refused.
func (x *Exchange) Send(co *reactor.Coroutine) {
	x.co = co
	x.flushAll()
	x.worker.Loop.Clear(&x.alarm.timer)
	x.co = nil
}

// finish settles what an attempt came to.
func (x *Exchange) finish(reason Reason) {
	if reason == Intercepted {
		x.Outcome.Reason = reason
		switch status := x.Outcome.Status; {
		case x.page(status):
		case len(x.rules.asks) > 0:
			x.challenge(reason, x.rules.asks, nil)
		default:
			x.refuseWith(status, reason, "")
		}
		return
	}
	if reason != Forwarded && !x.response.begun {
		if reason == ClientAborted {
			x.down.Abort()
			x.Outcome.Reason, x.Outcome.Status = reason, reason.Status()
			return
		}
		status := reason.Status()
		if reason == BadRequest && x.reply.badRequest != 0 {
			status = x.reply.badRequest
		}
		x.refuseWith(status, reason, x.Outcome.Detail)
		return
	}
	x.Outcome.Reason = reason
	switch {
	case reason == Forwarded:
	case x.endGRPC(reason):
		x.flushAll()
	default:
		x.down.Abort()
	}
}

// abandon lets go of what a crashed exchange held of others.
func (x *Exchange) abandon() {
	x.worker.Loop.Drop(&x.alarm.timer)
	x.worker.Loop.Drop(&x.alarm.early)
	if x.choice.place != nil {
		x.worker.Queue.leave(x.choice.service.ID, x)
	}
	x.endTunnel()
	x.packing.end(x.worker)
	x.endChoice()
	x.endRules()
	x.body.store.forget()
	if x.attempt.up != nil {
		x.attempt.up.Abandon()
		x.attempt.up = nil
	}
	if x.attempt.counted {
		x.attempt.counted = false
		x.worker.Balancer.Finish(x.attempt.pick, false, 0)
	}
}
