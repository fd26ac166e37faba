//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
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

// load is a way to ask a proxy.
type load interface {
	// command asks for that long.
	command(b *bench, p *contender, d time.Duration) (lab.Command, error)
	// parse reads what the command has written: requests, rate, latencies.
	parse(b *bench, out string) (sample, error)
}

// measure runs a load once against a proxy.
func (b *bench) measure(p *contender, l load, duration time.Duration) (sample, error) {
	if p.enter != nil {
		if err := p.enter(); err != nil {
			return sample{}, err
		}
	}
	// A short run first, so that connections to the pods exist and buffers have their size.
	if _, err := b.run(p, l, time.Second); err != nil {
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
	out, err := b.run(p, l, duration)
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
	result, err := l.parse(b, out)
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

// run runs the load's command on the client.
func (b *bench) run(p *contender, l load, d time.Duration) (string, error) {
	c, err := l.command(b, p, d)
	if err != nil {
		return "", err
	}
	c.CPUs = b.rest
	return b.lab.Client.Run(c)
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
	cost                 [3]float64 // of a request, beside a plain one: median, lowest, highest; 0: not compared
}

// cost is the proxy's CPU time of a request, beside that of a plain one of the same round.
func cost(samples, plain []sample) [3]float64 {
	var ratios []float64
	for i, s := range samples {
		ratios = append(ratios, plain[i].perProxy/s.perProxy)
	}
	middle, low, high := median(ratios)
	return [3]float64{middle, low, high}
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

// markdown is the table of a scenario; the last columns compare the first with each other.
func markdown(s scenario, summaries []summary) string {
	var text strings.Builder
	fmt.Fprintf(&text, "\n## %s\n\n", s.name)
	unit := s.unit()
	fmt.Fprintf(&text, "| proxy | %[1]s per proxy CPU-second | per total CPU-second | %[1]s/s | proxy CPU used | p50 | p99 | %[2]s is (proxy CPU) | (total CPU) |\n"+
		"| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n", unit, summaries[0].name)
	first := summaries[0]
	for i, m := range summaries {
		ratio, ratioTotal := "", ""
		if i > 0 {
			ratio = fmt.Sprintf("**%.2f x**", first.perProxy[0]/m.perProxy[0])
			ratioTotal = fmt.Sprintf("%.2f x", first.perTotal[0]/m.perTotal[0])
		}
		fmt.Fprintf(&text, "| %s | %s | %s | %.0f | %.0f %% | %s | %s | %s | %s |\n", m.name, withRange(m.perProxy), withRange(m.perTotal),
			m.rate, 100*m.busy, latency(m.p50), latency(m.p99), ratio, ratioTotal)
	}
	if s.plain != nil {
		var costs []string
		for _, m := range summaries {
			costs = append(costs, fmt.Sprintf("%s **%.2f x** (%.2f-%.2f)", m.name, m.cost[0], m.cost[1], m.cost[2]))
		}
		fmt.Fprintf(&text, "\nA request's proxy CPU time beside that of one without all this, in the same rounds: %s.\n", strings.Join(costs, ", "))
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
