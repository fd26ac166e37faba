package tracing

import (
	"fmt"

	"github.com/kerngate/kerngate/userspace/text/otlp"
)

// Settings of tracing. nil: requests are not traced, and what they carry passes as it is.
type Settings struct {
	Endpoint string // URL of the collector, for OTLP over HTTP
	Trust    bool   // traces that clients say their requests belong to are continued
	sampled  uint64 // of 1<<63 requests that begin a trace
}

// Compile checks settings. An empty endpoint is none.
func Compile(endpoint string, ratio float64, trust bool) (*Settings, error) {
	if endpoint == "" {
		return nil, nil
	}
	if _, err := otlp.ParseEndpoint(endpoint); err != nil {
		return nil, err
	}
	if !(ratio >= 0 && ratio <= 1) {
		return nil, fmt.Errorf("trace ratio %v: want 0 to 1", ratio)
	}
	return &Settings{Endpoint: endpoint, Trust: trust, sampled: uint64(ratio * (1 << 63))}, nil
}

// Samples decides about a request that begins a trace; random is any number.
func (s *Settings) Samples(random uint64) bool { return random>>1 < s.sampled }
