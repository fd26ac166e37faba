package model

import "time"

// Timeouts of a route; zero means the proxy's own.
type Timeouts struct {
	Connect time.Duration // to a pod
	Send    time.Duration // between bytes to a pod
	Read    time.Duration // between bytes from a pod
}

// Condition is what may make the proxy offer a request to another pod. It is a set.
type Condition uint16

const (
	OnError   Condition = 1 << iota // no connection, or one that broke before a response
	OnTimeout                       // of a connection or of a response
	OnInvalid                       // an empty or invalid response
	On500                           // status 500, and so on
	On502
	On503
	On504
	On403
	On404
	On429
	OnNonIdempotent // also requests that may not be repeated safely
)

// Retry says when and how often a request is offered to another pod.
type Retry struct {
	When    Condition     // empty: never
	Tries   uint32        // the first one included, 0: as many as the proxy makes by itself
	Timeout time.Duration // after which no further try begins, 0: none
}
