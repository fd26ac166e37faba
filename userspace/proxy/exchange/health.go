package exchange

import (
	"net/http"

	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/pod/balance"
	"github.com/kerngate/kerngate/userspace/proxy/pod/upstream"
)

// noteHealth tells the monitor how an attempt ended: what the client did says nothing about
// the pod.
func (x *Exchange) noteHealth(p balance.Pick, reason Reason) {
	s := x.Outcome.Service
	if s == nil {
		return
	}
	failed := reason.UpstreamFault()
	if x.aboutRequest(reason) {
		return
	}
	if reason == Forwarded || reason == Intercepted {
		failed = s.Outlier.ServerErrors && x.Outcome.Status >= http.StatusInternalServerError
	} else if !failed {
		return
	}
	x.worker.Health.Ended(s, p.ID, p.Generation, failed)
}

// aboutRequest reports whether a failure may be about this request and not about the pod: what a
// client can make an application do, as often as it likes, must not have its pods ejected. A pod
// that resets one stream of a connection is there and answers; gRPC's servers do so with each call
// whose deadline has passed, and clients say what that is.
func (x *Exchange) aboutRequest(reason Reason) bool {
	switch reason {
	case UpstreamInvalid:
		return message.IsWords(x.Outcome.Detail)
	case UpstreamReset:
		return true
	case UpstreamAborted:
		return upstream.IsCode(x.Outcome.Detail)
	case UpstreamTimeout:
		return x.late()
	}
	return false
}
