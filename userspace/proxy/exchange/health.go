package exchange

import (
	"net/http"

	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/pod/balance"
)

// noteHealth tells the monitor how an attempt ended: what the client did says nothing about
// the pod.
func (x *Exchange) noteHealth(p balance.Pick, reason Reason) {
	s := x.Outcome.Service
	if s == nil {
		return
	}
	failed := reason.UpstreamFault()
	if reason == UpstreamInvalid && http1.IsWords(x.Outcome.Detail) {
		return // a client can make an application say that, and must not have its pods ejected
	}
	if reason == Forwarded || reason == Intercepted {
		failed = s.Outlier.ServerErrors && x.Outcome.Status >= http.StatusInternalServerError
	} else if !failed {
		return
	}
	x.worker.Health.Ended(s, p.ID, p.Generation, failed)
}
