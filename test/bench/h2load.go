//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// h2load asks over HTTP/2 and TLS, with several requests at a time on each connection.
type h2load struct {
	size        int // bytes of the body
	connections int
	streams     int // per connection
	grpc        bool
}

// emptyMessage is a gRPC message without fields: not compressed, length 0.
const emptyMessage = "\x00\x00\x00\x00\x00"

func (h h2load) command(b *bench, p *contender, d time.Duration) (lab.Command, error) {
	path, err := exec.LookPath("h2load")
	if err != nil {
		return lab.Command{}, err
	}
	log := b.latencyLog()
	if err := os.RemoveAll(log); err != nil {
		return lab.Command{}, err
	}
	args := []string{"-t1", fmt.Sprintf("-c%d", h.connections), fmt.Sprintf("-m%d", h.streams), fmt.Sprintf("-D%.0f", d.Seconds()),
		"--log-file=" + log, "--connect-to=" + p.secure.String()}
	if !h.grpc {
		args = append(args, fmt.Sprintf("https://%s/%d", benchHost, h.size))
		return lab.Command{Path: path, Args: args}, nil
	}
	message := filepath.Join(b.lab.Dir, "empty.grpc")
	args = append(args, "-d"+message, "-Hcontent-type: application/grpc", "-Hte: trailers",
		fmt.Sprintf("https://%s/grpc.health.v1.Health/Check", grpcHost))
	return lab.Command{Path: path, Args: args}, os.WriteFile(message, []byte(emptyMessage), 0o644)
}

func (b *bench) latencyLog() string { return filepath.Join(b.lab.Dir, "h2load.log") }

var (
	h2loadRate = regexp.MustCompile(`finished in [^,]+, ([\d.]+) req/s`)
	h2loadDone = regexp.MustCompile(`requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout`)
)

func (h2load) parse(b *bench, out string) (sample, error) {
	log, err := os.ReadFile(b.latencyLog())
	if err != nil {
		return sample{}, err
	}
	return parseH2load(out, string(log))
}

// parseH2load reads h2load's report and its log, a line per response: start, status,
// microseconds. A run with errors is no measurement.
func parseH2load(out, log string) (sample, error) {
	rate, done := h2loadRate.FindStringSubmatch(out), h2loadDone.FindStringSubmatch(out)
	if rate == nil || done == nil {
		return sample{}, fmt.Errorf("h2load's output is not understood:\n%s", out)
	}
	if done[2] != "0" || done[3] != "0" || done[4] != "0" {
		return sample{}, fmt.Errorf("h2load: %s", done[0])
	}
	var s sample
	s.requests, _ = strconv.Atoi(done[1])
	s.rate, _ = strconv.ParseFloat(rate[1], 64)
	var took []int
	for line := range strings.Lines(log) {
		columns := strings.Fields(line)
		if len(columns) < 3 || columns[1] != "200" {
			return s, fmt.Errorf("h2load: a response is %q, want status 200", strings.TrimSpace(line))
		}
		n, err := strconv.Atoi(columns[2])
		if err != nil {
			return s, err
		}
		took = append(took, n)
	}
	if s.requests == 0 || len(took) == 0 {
		return s, fmt.Errorf("h2load measured nothing:\n%s", out)
	}
	slices.Sort(took)
	s.p50 = time.Duration(took[len(took)/2]) * time.Microsecond
	s.p99 = time.Duration(took[len(took)*99/100]) * time.Microsecond
	return s, nil
}
