//go:build linux

package main

import (
	"os"
	"strings"
	"testing"
	"time"
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
	got, err := parseWrk(wrkReport)
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
		if got, err := parseWrk(strings.Replace(wrkReport, "Requests/sec", trouble+"Requests/sec", 1)); err == nil {
			t.Errorf("with %q: %+v, want an error", trouble, got)
		}
	}
	if _, err := parseWrk("unable to connect"); err == nil {
		t.Error("no report at all: want an error")
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
	for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); {
	}
	after, err := cpuTime([]int{os.Getpid()})
	if err != nil || after-before < 50*time.Millisecond || after-before > 5*time.Second {
		t.Errorf("100 ms of work: %s -> %s, %v", before, after, err)
	}
}
