package server_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// hosted is a proxy of so many hosts with five paths each, a third of them wildcards and a
// third with expressions for paths.
func hosted(b *testing.B, n int) *proxytest.Proxy {
	p := one(b, cheapPod(b, "HTTP/1.1 200 OK\r\nContent-Length: 128\r\n\r\n"+string(make([]byte, 128))))
	c := &feedpb.Config{Version: 2, Snapshot: true, Services: []*feedpb.Service{{Id: 1, Name: "default/web:80"}}}
	for i := range n {
		h := &feedpb.Host{Name: fmt.Sprintf("host%d.example.com", i)}
		if i%3 == 1 {
			h.Name = "*." + h.Name
		}
		for j := range 5 {
			r := &feedpb.Route{Path: fmt.Sprintf("/path%d", j), Service: 1, Source: fmt.Sprintf("default/web-%d", i)}
			if i%3 == 2 {
				r.Path, r.Regexp = r.Path+"(/|$)(.*)", true
			}
			h.Routes = append(h.Routes, r)
		}
		c.Hosts = append(c.Hosts, h)
	}
	next, err := config.Empty().Apply(c)
	if err != nil {
		b.Fatal(err)
	}
	p.Config.Store(next)
	return p
}

// BenchmarkHosts tells what a whole request costs the proxy's thread with 10 hosts and with
// 10,000, in turns, and the ratio of these.
func BenchmarkHosts(b *testing.B) {
	sizes := []int{10, 10_000}
	for kind, name := range []string{"exact", "wildcard", "regexp"} {
		b.Run(name, func(b *testing.B) {
			var turns []func() time.Duration
			for _, n := range sizes {
				turns = append(turns, turn(b, n, kind))
			}
			spent := make([]time.Duration, len(sizes))
			for b.Loop() {
				for i := range sizes {
					spent[i] += turns[i]()
				}
			}
			for i, n := range sizes {
				b.ReportMetric(float64(spent[i].Nanoseconds())/float64(b.N)/turnRequests, fmt.Sprintf("ns/request-%d", n))
			}
			b.ReportMetric(float64(spent[1])/float64(spent[0]), "ratio")
		})
	}
}

const turnRequests = 1000

// turn returns what sends requests to many of the hosts of one kind, and tells the CPU time
// of the proxy's thread.
func turn(b *testing.B, n, kind int) func() time.Duration {
	p := hosted(b, n)
	c := p.Dial(b)
	var requests [][]byte
	for i := range turnRequests {
		host := i * 7919 % (n / 3) * 3
		name := fmt.Sprintf("host%d.example.com", host+kind)
		if kind == 1 {
			name = "x." + name
		}
		requests = append(requests, fmt.Appendf(nil, "GET /path3/some/where HTTP/1.1\r\nHost: %s\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n", name))
	}
	clock := func() (now time.Duration) {
		p.OnLoop(func() {
			var t unix.Timespec
			if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
				b.Error(err)
			}
			now = time.Duration(t.Nano())
		})
		return now
	}
	in := make([]byte, 4096)
	return func() time.Duration {
		began := clock()
		for _, r := range requests {
			c.Write(r)
			if size, err := c.Read(in); err != nil || string(in[9:12]) != "200" {
				b.Fatalf("%q %v", in[:size], err)
			}
		}
		return clock() - began
	}
}
