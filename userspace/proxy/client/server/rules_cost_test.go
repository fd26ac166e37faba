package server_test

import (
	"bytes"
	"testing"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// ruled is a proxy whose one route rewrites, sets three fields and limits a rate.
func ruled(t testing.TB) *proxytest.Proxy {
	return proxytest.Start(t, []proxytest.Service{{
		Name: "default/web:80", Path: "/some(/|$)(.*)", Regexp: true,
		Backends: []string{cheapPod(t, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nServer: pod\r\nContent-Length: 128\r\n\r\n"+string(make([]byte, 128)))},
		Policy: &feedpb.Policy{
			Rewrite: "/$2",
			Limits:  &feedpb.Limits{Rates: []*feedpb.Rate{{Requests: 1 << 30, PeriodMs: 1000, Burst: 1 << 20}}, Status: 503, Scope: "a"},
			ResponseHeaders: []*feedpb.HeaderRule{
				{Name: "X-Frame-Options", Value: "DENY"}, {Name: "X-Host", Value: "$host"}, {Name: "Server"},
			},
		},
	}}, nil)
}

var ruledRequest = []byte("GET /some/path?q=1 HTTP/1.1\r\nHost: host.example.com\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n")

// TestRuledAllocations: rules that only change heads and count allocate nothing either.
func TestRuledAllocations(t *testing.T) {
	c := ruled(t).Dial(t)
	in := make([]byte, 4096)
	exchange := func() {
		if _, err := c.Write(ruledRequest); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(in)
		if err != nil || !bytes.HasPrefix(in[:n], []byte("HTTP/1.1 200")) || !bytes.Contains(in[:n], []byte("X-Host: host.example.com\r\n")) {
			t.Fatalf("%q %v", in[:n], err)
		}
	}
	for range 100 {
		exchange()
	}
	if n := testing.AllocsPerRun(1000, exchange); n != 0 {
		t.Errorf("%v allocations per request, want 0", n)
	}
}

func BenchmarkRuledExchange(b *testing.B) {
	c := ruled(b).Dial(b)
	in := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		c.Write(ruledRequest)
		c.Read(in)
	}
}
