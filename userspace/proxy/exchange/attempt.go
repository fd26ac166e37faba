package exchange

import (
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/pod/balance"
)

// attempt is one try at having a pod answer.
type attempt struct {
	pick      balance.Pick
	counted   bool     // Balancer.Start was called, Finish is due
	up        Upstream // nil: there is no connection, or none any more
	firstByte int64    // loop time, 0: none has come

	// The request.
	ended  bool  // its end is queued
	sent   bool  // it is sent whole
	deaf   bool  // sending has failed; what the pod has said may still be read
	bytes  int64 // of its body
	upload reactor.Splice

	// The response.
	phase    phase
	interims message.Interims
	download reactor.Splice

	repeat repeat // which requests may be sent again, after a fault
}

type phase uint8

const (
	awaitHead phase = iota
	passBody
	finished // the end is queued
)

// try sends the request to one pod. It reports again if another pod may be asked.
func (x *Exchange) try(p balance.Pick, fresh bool) (reason Reason, again bool) {
	b := x.worker.Balancer
	x.attempt = attempt{pick: p}
	b.Start(p)
	x.attempt.counted = true
	began := x.worker.Loop.Now()
	reason, again = x.connect(p, fresh)
	if x.attempt.up != nil {
		reason, again = x.relay()
		if x.response.begun && reason.UpstreamFault() {
			// What the pod has sent goes to the client first: it lies in buffers of the pod's side.
			x.flushAll()
		}
		x.attempt.release()
	}
	var latency time.Duration
	if x.attempt.firstByte > 0 {
		latency = time.Duration(x.attempt.firstByte - began)
		x.Outcome.First = x.attempt.firstByte
	}
	x.attempt.counted = false
	b.Finish(p, reason.UpstreamFault(), latency)
	if s := x.choice.service; s.MaxConnections > 0 {
		x.worker.Queue.next(s.ID)
	}
	x.noteHealth(p, reason)
	x.noteAttempt(began, reason)
	if reason.UpstreamFault() {
		x.worker.Metrics.fault(&x.Outcome, reason)
	}
	return reason, again
}

// release ends it: what is held of the pod is given back.
func (a *attempt) release() {
	a.up.Close()
	a.up = nil
	a.upload.Close()
	a.download.Close()
}
