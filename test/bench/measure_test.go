//go:build linux

package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const wrkReport = `Running 3s test @ http://203.0.113.10:80/128
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.52ms  650.58us  12.40ms   90.06%
    Req/Sec    42.58k     1.54k   45.47k    70.00%
  Latency Distribution
     50%    1.43ms
     75%    1.62ms
     90%    1.99ms
     99%  950.00us
  127132 requests in 3.00s, 33.95MB read
Requests/sec:  42364.63
Transfer/sec:     11.31MB
`

func TestParseWrk(t *testing.T) {
	got, err := (wrk{}).parse(nil, wrkReport)
	if err != nil || got.requests != 127132 || got.rate != 42364.63 || got.p50 != 1430*time.Microsecond || got.p99 != 950*time.Microsecond {
		t.Errorf("got %+v, %v", got, err)
	}
}

// A round with failed requests must not end up as a good figure.
func TestParseWrkRefusesErrors(t *testing.T) {
	for _, trouble := range []string{
		"  Socket errors: connect 0, read 3, write 0, timeout 0\n",
		"  Non-2xx or 3xx responses: 127132\n",
	} {
		if got, err := (wrk{}).parse(nil, strings.Replace(wrkReport, "Requests/sec", trouble+"Requests/sec", 1)); err == nil {
			t.Errorf("with %q: %+v, want an error", trouble, got)
		}
	}
	if _, err := (wrk{}).parse(nil, "unable to connect"); err == nil {
		t.Error("no report at all: want an error")
	}
}

const h2loadReport = `starting benchmark...
finished in 3.01s, 41234.33 req/s, 7.20MB/s
requests: 123703 total, 123703 started, 123703 done, 123703 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 123703 2xx, 0 3xx, 0 4xx, 0 5xx
`

func TestParseH2load(t *testing.T) {
	log := "1700000000000000\t200\t5200\n1700000000000001\t200\t100\n1700000000000002\t200\t300\n"
	got, err := parseH2load(h2loadReport, log)
	if err != nil || got.requests != 123703 || got.rate != 41234.33 || got.p50 != 300*time.Microsecond || got.p99 != 5200*time.Microsecond {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, c := range map[string][2]string{
		"failed requests":  {strings.Replace(h2loadReport, "0 failed", "3 failed", 1), log},
		"another status":   {h2loadReport, log + "1700000000000003\t503\t10\n"},
		"a failed stream":  {h2loadReport, log + "1700000000000003\t-1\t10\n"},
		"no log":           {h2loadReport, ""},
		"no report at all": {"cannot connect", log},
	} {
		if got, err := parseH2load(c[0], c[1]); err == nil {
			t.Errorf("%s: %+v, want an error", name, got)
		}
	}
}

func TestParseHandshakes(t *testing.T) {
	got, err := (handshakes{}).parse(nil, `{"Handshakes":3000,"Seconds":1.5,"P50":2000000,"P99":9000000}`+"\n")
	if err != nil || got.requests != 3000 || got.rate != 2000 || got.p50 != 2*time.Millisecond || got.p99 != 9*time.Millisecond {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := (handshakes{}).parse(nil, `{"Handshakes":0,"Seconds":1.5}`); err == nil {
		t.Errorf("no handshake: %+v, want an error", got)
	}
}

func TestCostIsThatOfTheSameRound(t *testing.T) {
	samples, plain := []sample{{perProxy: 10}, {perProxy: 20}, {perProxy: 40}}, []sample{{perProxy: 11}, {perProxy: 24}, {perProxy: 80}}
	if got := cost(samples, plain); got != [3]float64{1.2, 1.1, 2} {
		t.Errorf("got %v", got)
	}
	s := scenario{name: "rules", load: wrk{}, plain: wrk{}}
	if got := markdown(s, []summary{{name: "us", cost: [3]float64{1.2, 1.1, 2}}, {name: "them", cost: [3]float64{3, 2, 4}}}); !strings.Contains(got, ": us **1.20 x** (1.10-2.00), them **3.00 x** (2.00-4.00).") {
		t.Error(got)
	}
}

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		values            []float64
		middle, low, high float64
	}{
		{[]float64{3}, 3, 3, 3},
		{[]float64{9, 1, 5}, 5, 1, 9},
		{[]float64{4, 1, 2, 3}, 2.5, 1, 4},
	} {
		if m, l, h := median(tc.values); m != tc.middle || l != tc.low || h != tc.high {
			t.Errorf("median(%v) = %v, %v, %v", tc.values, m, l, h)
		}
	}
}

// This process's own CPU time grows while it works.
func TestCPUTime(t *testing.T) {
	before, err := cpuTime([]int{os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	// As the kernel counts it: on a busy machine 100 ms of work take longer than that.
	worked := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	for end := worked() + 100*time.Millisecond; worked() < end; {
	}
	after, err := cpuTime([]int{os.Getpid()})
	if err != nil || after-before < 50*time.Millisecond || after-before > 5*time.Second {
		t.Errorf("100 ms of work: %s -> %s, %v", before, after, err)
	}
}
