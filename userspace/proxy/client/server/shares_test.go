package server_test

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestAuthShares: a namespace whose authentication service does not answer does not use up what
// others need to ask theirs.
func TestAuthShares(t *testing.T) {
	release := make(chan struct{})
	var asleep atomic.Int32
	sleeper := pod(t, func(http.ResponseWriter, *http.Request) { asleep.Add(1); <-release })
	awake := pod(t, func(http.ResponseWriter, *http.Request) {})
	web := speaker(t)
	to := func(service uint32) *feedpb.Policy {
		return &feedpb.Policy{Access: &feedpb.Access{External: &feedpb.ExternalAuth{To: &feedpb.Destination{Service: service, Authority: "gate.test", Path: "/"}}}}
	}
	of := func(source string) func(*feedpb.Host, *feedpb.Route) {
		return func(_ *feedpb.Host, r *feedpb.Route) { r.Source = source }
	}
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "greedy/gate:80", Path: "/gate1", Backends: []string{sleeper}},
		{Name: "honest/gate:80", Path: "/gate2", Backends: []string{awake}},
		{Name: "greedy/web:80", Path: "/greedy", Backends: []string{web}, Policy: to(1), Change: of("greedy/web")},
		{Name: "honest/web:80", Path: "/honest", Backends: []string{web}, Policy: to(2), Change: of("honest/web")},
	}, nil)
	defer close(release)
	// One connection for each, since a request waits for the one before it.
	const many = 1100
	refused := make(chan struct{}, many)
	for range many {
		c := p.Dial(t)
		if _, err := io.WriteString(c, "GET /greedy HTTP/1.1\r\nHost: shop.test\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		go func() { // ends with the connection
			if n, _ := c.Read(make([]byte, 1)); n == 1 {
				refused <- struct{}{}
			}
		}()
	}
	// Half of the room is for others: as many are refused.
	for n := range many - 1024/2 {
		select {
		case <-refused:
		case <-time.After(30 * time.Second):
			t.Fatalf("%d of %d are refused, %d are asked", n, many, asleep.Load())
		}
	}
	has(t, shop(t, p, "GET /honest"), "200 OK")
}
