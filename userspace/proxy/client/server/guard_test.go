package server_test

import (
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestNodeUnreachable: requests of the proxy's own do not reach the node, whether its address
// or a name of it is in the configuration, unless the agent's flag allows it.
func TestNodeUnreachable(t *testing.T) {
	var asked atomic.Int32
	inside := pod(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	_, port, err := net.SplitHostPort(inside)
	if err != nil {
		t.Fatal(err)
	}
	web := speaker(t)
	services := []proxytest.Service{{Name: "default/web:80", Path: "/", Backends: []string{web}}}
	for path, authority := range map[string]string{"/address": inside, "/name": "localhost:" + port, "/mapped": "[::ffff:127.0.0.1]:" + port, "/none": "0.0.0.0:" + port} {
		to := &feedpb.Destination{Authority: authority, Path: "/"}
		services = append(services,
			proxytest.Service{Name: "default/auth:80", Path: path, Backends: []string{web}, Policy: &feedpb.Policy{Access: &feedpb.Access{External: &feedpb.ExternalAuth{To: to}}}},
			proxytest.Service{Name: "default/mirror:80", Path: "/mirror" + path, Backends: []string{web}, Policy: &feedpb.Policy{Mirrors: []*feedpb.Mirror{{To: to}}}})
	}
	p := proxytest.Start(t, services, nil)
	failed := &p.Worker.Metrics.Mirrored[exchange.CopyFailed]
	for _, path := range []string{"/address", "/name", "/mapped", "/none"} {
		has(t, shop(t, p, "GET "+path), "500 ", "external_failed")
		before := failed.Load()
		has(t, shop(t, p, "GET /mirror"+path), "200 OK")
		for end := time.Now().Add(20 * time.Second); failed.Load() == before; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: no copy has failed", path)
			}
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the node was asked %d times", n)
	}
	p.Apply(t, p.Publish(services, &feedpb.Settings{AllowedDestinations: []string{"127.0.0.0/8"}}))
	has(t, shop(t, p, "GET /address"), "200 OK")
	has(t, shop(t, p, "GET /none"), "500 ")
	if n := asked.Load(); n != 1 {
		t.Errorf("the node was asked %d times by who may", n)
	}
}
