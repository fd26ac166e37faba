package server_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/observe/usage"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestUsage: requests are counted with their Ingress and Service, canaries with theirs, and
// what rules refuse with the Ingress that has the rules.
func TestUsage(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	alive := pod(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "hello")
	})
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "d/main:80", Host: "a", Path: "/", Backends: []string{alive}},
		{Name: "d/canary:80", Host: "a", Canary: &feedpb.Split{Source: "default/canary", Header: "X-Canary"}, Backends: []string{alive}},
		{Name: "d/closed:80", Host: "a", Path: "/closed", Backends: []string{alive}, Policy: &feedpb.Policy{
			Access: &feedpb.Access{Deny: []string{"127.0.0.0/8"}},
		}},
		{Name: "d/ill:80", Host: "a", Path: "/ill", Backends: []string{dead, alive}},
		{Name: "d/unused:80", Host: "a", Path: "/unused", Backends: []string{alive}},
	}, &feedpb.Settings{AccessLogSample: 1})
	for range 3 {
		talk(t, p, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody")
	}
	talk(t, p, "GET / HTTP/1.1\r\nHost: a\r\nX-Canary: always\r\nConnection: close\r\n\r\n")
	talk(t, p, "GET /closed HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	talk(t, p, "GET / HTTP/1.1\r\nHost: nobody\r\nConnection: close\r\n\r\n")
	for range 20 {
		talk(t, p, "GET /ill HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	}

	book := p.Config.Load().Usage
	find := func(service string) *usage.Account {
		for _, a := range book.Accounts() {
			if a.Service == service {
				return a
			}
		}
		t.Fatalf("nothing is counted for %s", service)
		return nil
	}
	status := func(class int) func(*usage.Cell) *atomic.Uint64 {
		return func(c *usage.Cell) *atomic.Uint64 { return &c.Status[class] }
	}
	for _, c := range []struct {
		service string
		what    string
		want    uint64
		of      func(*usage.Cell) *atomic.Uint64
	}{
		{"d/main:80", "2xx", 3, status(2)},
		{"d/main:80", "received", 12, func(c *usage.Cell) *atomic.Uint64 { return &c.Received }},
		{"d/main:80", "forwarded", 3, func(c *usage.Cell) *atomic.Uint64 { return &c.Ended[exchange.Forwarded] }},
		{"d/canary:80", "2xx", 1, status(2)},
		{"d/closed:80", "4xx", 1, status(4)},
		{"d/closed:80", "denied", 1, func(c *usage.Cell) *atomic.Uint64 { return &c.Ended[exchange.SourceDenied] }},
		{"d/ill:80", "2xx", 20, status(2)},
	} {
		waitFor(t, func() bool { return find(c.service).Sum(c.of) == c.want })
	}
	if a := find("d/canary:80"); a.Object.String() != "Ingress default/canary" {
		t.Errorf("the canary is counted for %s", a.Object)
	}
	faults := find("d/ill:80").Sum(func(c *usage.Cell) *atomic.Uint64 { return &c.Faults[exchange.ConnectFailed] })
	retries := find("d/ill:80").Sum(func(c *usage.Cell) *atomic.Uint64 { return &c.Retries })
	if faults == 0 || faults != retries || retries != p.Metrics.Retries.Load() {
		t.Errorf("%d attempts failed and %d were made good, %d of the whole proxy", faults, retries, p.Metrics.Retries.Load())
	}
	if n := len(book.Accounts()); n != 4 {
		t.Errorf("%d accounts: one that nobody asks takes no room", n)
	}
	// Routes that come anew, as whole configuration and as part of one, go on counting.
	for i, whole := range []bool{true, false} {
		config := &feedpb.Config{Version: uint64(2 + i), Snapshot: whole, Hosts: []*feedpb.Host{{Name: "a", Routes: []*feedpb.Route{
			{Path: "/", Service: 1, Source: "default/test"},
		}}}}
		if whole {
			config.Services = []*feedpb.Service{{Id: 1, Name: "d/main:80"}}
		}
		next, err := p.Config.Load().Apply(config)
		if err != nil {
			t.Fatal(err)
		}
		p.Config.Store(next)
		talk(t, p, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		waitFor(t, func() bool { return find("d/main:80").Sum(status(2)) == uint64(4+i) })
	}
	waitFor(t, func() bool {
		return strings.Contains(p.Log.String(), fmt.Sprintf("%q:%q", "reason", exchange.SourceDenied))
	})
}
