package exchange

import (
	"time"

	"github.com/kerngate/kerngate/loader/state"
)

// tlsLog bounds how often failures of TLS to pods are logged: the access log has a token for
// each, and what the token leaves out is the same for most of them.
type tlsLog struct {
	pods map[state.BackendID]*tlsFailures
}

// tlsFailures are those of one pod.
type tlsFailures struct {
	at   int64 // loop time of the last line
	left int   // failures since, that have none
}

const (
	tlsLogEvery = 30 * time.Second // per pod and worker
	tlsLogPods  = 1024             // that are told apart
)

// take counts a failure at loop time now, and reports whether it is logged, and how many were
// not since the last that was.
func (l *tlsLog) take(pod state.BackendID, now int64) (left int, ok bool) {
	f := l.pods[pod]
	if f == nil {
		if l.pods == nil || len(l.pods) >= tlsLogPods {
			l.pods = map[state.BackendID]*tlsFailures{}
		}
		l.pods[pod] = &tlsFailures{at: now}
		return 0, true
	}
	if now-f.at < int64(tlsLogEvery) {
		f.left++
		return 0, false
	}
	left, f.left, f.at = f.left, 0, now
	return left, true
}

// logTLS logs why there is no TLS connection to the pod that was picked.
func (x *Exchange) logTLS(token string, cause error) {
	left, ok := x.worker.tlsLog.take(x.attempt.pick.ID, x.worker.Loop.Now())
	if !ok {
		return
	}
	e := x.worker.Log.Warn().Err(cause).Str("reason", token).Stringer("pod", x.attempt.pick.Address)
	if s := x.Outcome.Service; s != nil {
		e = e.Str("service", s.Name)
	}
	if x.Outcome.Source.Kind != "" {
		e = e.Stringer("object", x.Outcome.Source)
	}
	if left > 0 {
		e = e.Int("not_logged", left)
	}
	e.Msg("TLS handshake with a pod failed; see backend-protocol and the proxy-ssl annotations of the Ingress")
}
