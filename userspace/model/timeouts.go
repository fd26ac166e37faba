package model

import "time"

// Timeouts of a route; zero means the proxy's own.
type Timeouts struct {
	Connect time.Duration // to a pod
	Send    time.Duration // between bytes to a pod
	Read    time.Duration // between bytes from a pod
}
