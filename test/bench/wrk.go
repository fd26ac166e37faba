//go:build linux

package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// wrk asks over HTTP/1.1.
type wrk struct {
	size        int // bytes of the body
	connections int
	short       bool // a connection for each request
	tls         bool
	rules       bool // by way of rulesHost
}

func (w wrk) command(_ *bench, p *contender, d time.Duration) (lab.Command, error) {
	path, err := exec.LookPath("wrk")
	host, prefix := benchHost, "/"
	if w.rules {
		host, prefix = rulesHost, "/app/"
	}
	args := []string{"-t1", fmt.Sprintf("-c%d", w.connections), fmt.Sprintf("-d%.0fs", d.Seconds()), "--latency",
		"-H", "Host: " + host}
	if w.short {
		args = append(args, "-H", "Connection: close")
	}
	if w.tls {
		args = append(args, fmt.Sprintf("https://%s%s%d", p.secure, prefix, w.size))
	} else {
		args = append(args, fmt.Sprintf("http://%s%s%d", p.plain, prefix, w.size))
	}
	return lab.Command{Path: path, Args: args}, err
}

var (
	wrkTotal   = regexp.MustCompile(`(\d+) requests in `)
	wrkRate    = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	wrkLatency = regexp.MustCompile(`(?m)^\s+(50|99)%\s+([\d.]+)(us|ms|s)\s*$`)
	wrkErrors  = regexp.MustCompile(`(?m)^\s*(Non-2xx or 3xx responses: \d+|Socket errors: .*)$`)
)

// parse reads wrk's report. A run with errors is no measurement.
func (wrk) parse(_ *bench, out string) (sample, error) {
	if found := wrkErrors.FindString(out); found != "" {
		return sample{}, fmt.Errorf("wrk: %s", strings.TrimSpace(found))
	}
	var s sample
	total, rate := wrkTotal.FindStringSubmatch(out), wrkRate.FindStringSubmatch(out)
	if total == nil || rate == nil {
		return s, fmt.Errorf("wrk's output is not understood:\n%s", out)
	}
	s.requests, _ = strconv.Atoi(total[1])
	s.rate, _ = strconv.ParseFloat(rate[1], 64)
	for _, line := range wrkLatency.FindAllStringSubmatch(out, -1) {
		latency, err := time.ParseDuration(line[2] + line[3])
		if err != nil {
			return s, err
		}
		if line[1] == "50" {
			s.p50 = latency
		} else {
			s.p99 = latency
		}
	}
	if s.requests == 0 || s.p99 == 0 {
		return s, fmt.Errorf("wrk measured nothing:\n%s", out)
	}
	return s, nil
}
