package model

import "time"

// CheckKind is how a pod's health is asked for.
type CheckKind uint8

const (
	CheckHTTP CheckKind = iota // GET; 2xx and 3xx are healthy
	CheckTCP                   // a connection is enough
	CheckGRPC                  // grpc.health.v1.Health/Check answers SERVING
)

// HealthCheck asks each pod of a service in turn.
type HealthCheck struct {
	Kind      CheckKind
	Path      string // of CheckHTTP; of CheckGRPC the service's name, "" the server
	Host      string // of CheckHTTP, "": the pod's address
	Port      uint16 // 0: that of the backend
	Interval  time.Duration
	Timeout   time.Duration
	Unhealthy uint32 // failures in a row that take a pod out
	Healthy   uint32 // successes in a row that take it back
}

// Outlier takes a pod out for a while because of how it answers. Zero fields mean the
// proxy's defaults.
type Outlier struct {
	Off         bool
	Consecutive uint32        // failures in a row
	Ejection    time.Duration // of the first time; each further one takes as much longer
	MostPercent uint32        // of a service's pods that may be out at once
	// ServerErrors makes failures of answers of 500 and above, too.
	ServerErrors bool
}

// Bounds of one service at one proxy; 0: none.
type Bounds struct {
	Connections uint32 // requests in flight to one pod
	Pending     uint32 // requests that wait for one of them, 0: none waits; above: 503
}
