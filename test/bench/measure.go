//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// sample is one round of one proxy.
type sample struct {
	requests int
	perProxy float64 // requests per second of the proxy's CPU time
	perTotal float64 // requests per second of busy CPU time of the machine
	rate     float64 // requests per second
	busy     float64 // share of its CPU that the proxy used
	p50, p99 time.Duration
}

// measure runs wrk once against a proxy.
func (b *bench) measure(p *contender, s scenario, duration time.Duration) (sample, error) {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		return sample{}, err
	}
	args := []string{"-t1", fmt.Sprintf("-c%d", s.connections), fmt.Sprintf("-d%.0fs", duration.Seconds()), "--latency",
		"-H", "Host: " + benchHost}
	if s.short {
		args = append(args, "-H", "Connection: close")
	}
	args = append(args, fmt.Sprintf("http://%s/%d", p.address, s.size))

	// A short run first, so that connections to the pods exist and buffers have their size.
	warm := append([]string{}, args...)
	warm[2] = "-d1s"
	if _, err := b.lab.Client.Run(lab.Command{Path: wrk, Args: warm, CPUs: b.rest}); err != nil {
		return sample{}, err
	}
	pids, err := p.processes()
	if err != nil {
		return sample{}, err
	}
	if len(pids) == 0 {
		return sample{}, errors.New("no process of it runs")
	}
	proxyBefore, err := cpuTime(pids)
	if err != nil {
		return sample{}, err
	}
	totalBefore, err := busyTime()
	if err != nil {
		return sample{}, err
	}
	begin := time.Now()
	out, err := b.lab.Client.Run(lab.Command{Path: wrk, Args: args, CPUs: b.rest})
	if err != nil {
		return sample{}, err
	}
	elapsed := time.Since(begin)
	proxyAfter, err := cpuTime(pids)
	if err != nil {
		return sample{}, err
	}
	totalAfter, err := busyTime()
	if err != nil {
		return sample{}, err
	}
	result, err := parseWrk(out)
	if err != nil {
		return sample{}, err
	}
	proxy, total := (proxyAfter - proxyBefore).Seconds(), (totalAfter - totalBefore).Seconds()
	if proxy <= 0 || total <= 0 {
		return sample{}, fmt.Errorf("no CPU time was used: proxy %f s, total %f s", proxy, total)
	}
	result.perProxy = float64(result.requests) / proxy
	result.perTotal = float64(result.requests) / total
	result.busy = proxy / elapsed.Seconds()
	return result, nil
}

var (
	wrkTotal   = regexp.MustCompile(`(\d+) requests in `)
	wrkRate    = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	wrkLatency = regexp.MustCompile(`(?m)^\s+(50|99)%\s+([\d.]+)(us|ms|s)\s*$`)
	wrkErrors  = regexp.MustCompile(`(?m)^\s*(Non-2xx or 3xx responses: \d+|Socket errors: .*)$`)
)

// parseWrk reads wrk's report. A run with errors is no measurement.
func parseWrk(out string) (sample, error) {
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

const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on

// cpuTime is user and system time of the processes, threads that ended included.
func cpuTime(pids []int) (time.Duration, error) {
	var ticks int64
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		// Behind the command's name: state is field 3 of proc(5), utime 14, stime 15.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		for _, field := range []int{14 - 3, 15 - 3} {
			n, err := strconv.ParseInt(fields[field], 10, 64)
			if err != nil {
				return 0, err
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * tick, nil
}

// busyTime is the time that CPUs of the machine did anything, since boot.
func busyTime() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal ...
	if len(fields) < 8 {
		return 0, errors.New("/proc/stat has no CPU times")
	}
	var ticks int64
	for _, field := range []int{1, 2, 3, 6, 7} {
		n, err := strconv.ParseInt(fields[field], 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// summary is a proxy's rounds of one scenario, as columns of a table.
type summary struct {
	name                 string
	perProxy, perTotal   [3]float64 // median, lowest, highest
	rate, busy, p50, p99 float64    // medians; latencies in seconds
}

func summarise(name string, samples []sample) summary {
	column := func(of func(sample) float64) [3]float64 {
		var values []float64
		for _, s := range samples {
			values = append(values, of(s))
		}
		middle, low, high := median(values)
		return [3]float64{middle, low, high}
	}
	return summary{
		name:     name,
		perProxy: column(func(s sample) float64 { return s.perProxy }),
		perTotal: column(func(s sample) float64 { return s.perTotal }),
		rate:     column(func(s sample) float64 { return s.rate })[0],
		busy:     column(func(s sample) float64 { return s.busy })[0],
		p50:      column(func(s sample) float64 { return s.p50.Seconds() })[0],
		p99:      column(func(s sample) float64 { return s.p99.Seconds() })[0],
	}
}

// markdown is the table of a scenario; the last columns compare Kerngate with each proxy.
func markdown(s scenario, summaries []summary) string {
	var text strings.Builder
	fmt.Fprintf(&text, "\n## %s\n\n", s.name)
	fmt.Fprint(&text, "| proxy | requests per proxy CPU-second | per total CPU-second | requests/s | proxy CPU used | p50 | p99 | Kerngate is (proxy CPU) | (total CPU) |\n"+
		"| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	kerngate := summaries[0]
	for i, m := range summaries {
		ratio, ratioTotal := "", ""
		if i > 0 {
			ratio = fmt.Sprintf("**%.2f x**", kerngate.perProxy[0]/m.perProxy[0])
			ratioTotal = fmt.Sprintf("%.2f x", kerngate.perTotal[0]/m.perTotal[0])
		}
		fmt.Fprintf(&text, "| %s | %s | %s | %.0f | %.0f %% | %s | %s | %s | %s |\n", m.name, withRange(m.perProxy), withRange(m.perTotal),
			m.rate, 100*m.busy, latency(m.p50), latency(m.p99), ratio, ratioTotal)
	}
	return text.String()
}

func withRange(v [3]float64) string { return fmt.Sprintf("%.0f (%.0f-%.0f)", v[0], v[1], v[2]) }

func latency(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d >= 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.2f ms", d.Seconds()*1e3)
}
