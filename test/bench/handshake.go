//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// handshakes makes TLS connections and nothing else, by the client of test/bench/client.
type handshakes struct {
	host   string
	resume bool
}

// handshakers is how many connections are begun at a time.
const handshakers = 16

func (h handshakes) command(b *bench, p *contender, d time.Duration) (lab.Command, error) {
	return lab.Command{
		Path: filepath.Join(b.bin, "client"), Env: []string{"GOMAXPROCS=1", "GOGC=400"},
		Args: []string{"-mode=handshake", "-address=" + p.secure.String(), "-host=" + h.host,
			fmt.Sprintf("-connections=%d", handshakers), fmt.Sprintf("-duration=%s", d), fmt.Sprintf("-resume=%t", h.resume)},
	}, nil
}

func (handshakes) parse(_ *bench, out string) (sample, error) {
	var r struct {
		Handshakes int
		Seconds    float64
		P50, P99   time.Duration
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.Handshakes == 0 || r.Seconds <= 0 {
		return sample{}, fmt.Errorf("the client's report is not understood: %q", out)
	}
	return sample{requests: r.Handshakes, rate: float64(r.Handshakes) / r.Seconds, p50: r.P50, p99: r.P99}, nil
}
