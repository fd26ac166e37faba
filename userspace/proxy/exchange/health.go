package exchange

import (
	"net/http"

	"github.com/kerngate/kerngate/userspace/proxy/balance"
)

// noteHealth tells the monitor how an attempt ended: what the client did says nothing about
// the pod.
func (x *Exchange) noteHealth(p balance.Pick, reason Reason) {
	s := x.Outcome.Service
	if s == nil {
		return
	}
	failed := reason.UpstreamFault()
	if reason == Forwarded || reason == Intercepted {
		failed = s.Outlier.ServerErrors && x.Outcome.Status >= http.StatusInternalServerError
	} else if !failed {
		return
	}
	x.worker.Health.Ended(s, p.ID, p.Generation, failed)
}
