package model

import "time"

// Retry says when a request is offered to another pod; with no condition never. A request whose body has been sent
// in part, or that had a response begun, never is; one that is not idempotent (RFC 9110
// section 9.2.2) only with NonIdempotent, or if it cannot have reached the pod.
type Retry struct {
	On            RetryOn
	NonIdempotent bool
	Tries         uint32        // pods that are asked, at most; 0: as many as the proxy allows
	Within        time.Duration // no further try begins after that time; 0: no limit
}

// RetryOn is a set of conditions.
type RetryOn uint16

const (
	RetryError         RetryOn = 1 << iota // no connection, or broken before a response
	RetryTimeout                           // none in time
	RetryInvalidHeader                     // a response that is no HTTP
	Retry500
	Retry502
	Retry503
	Retry504
	Retry403
	Retry404
	Retry429
)
