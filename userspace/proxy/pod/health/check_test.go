package health_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"unsafe"

	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/view"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

func generation(v *view.View, number uint32) unsafe.Pointer {
	return unsafe.Pointer(&v.Generations[number%abi.Generations])
}

// What pods speak, and what of it a check of each kind makes of them.
func TestCheckKinds(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	t.Cleanup(plain.Close)
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || r.Proto != "HTTP/1.1" {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(secure.Close)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	calls, status := newGRPC(t)
	status.SetServingStatus("shop", grpc_health_v1.HealthCheckResponse_SERVING)
	status.SetServingStatus("closed", grpc_health_v1.HealthCheckResponse_NOT_SERVING)

	overTLS := &feedpb.Upstream{Tls: &feedpb.UpstreamTLS{}}
	for _, c := range []struct {
		name    string
		address string
		check   *feedpb.HealthCheck
		well    bool
	}{
		{"HTTP", plain.Listener.Addr().String(), &feedpb.HealthCheck{Path: "/"}, true},
		{"HTTP over TLS", secure.Listener.Addr().String(), &feedpb.HealthCheck{Path: "/", Upstream: overTLS}, true},
		{"HTTP to a pod that wants TLS", secure.Listener.Addr().String(), &feedpb.HealthCheck{Path: "/"}, false},
		{"TLS to a pod that has none", plain.Listener.Addr().String(), &feedpb.HealthCheck{Path: "/", Upstream: overTLS}, false},
		{"HTTP to a pod that says nothing", silent.Addr().String(), &feedpb.HealthCheck{Path: "/"}, false},
		{"TCP", silent.Addr().String(), &feedpb.HealthCheck{Kind: feedpb.HealthCheck_TCP}, true},
		{"TCP to nobody", "127.0.0.1:1", &feedpb.HealthCheck{Kind: feedpb.HealthCheck_TCP}, false},
		{"another port", "127.0.0.1:1", &feedpb.HealthCheck{Kind: feedpb.HealthCheck_TCP, Port: uint32(silent.Addr().(*net.TCPAddr).Port)}, true},
		{"gRPC", calls, &feedpb.HealthCheck{Kind: feedpb.HealthCheck_GRPC}, true},
		{"gRPC, a service", calls, &feedpb.HealthCheck{Kind: feedpb.HealthCheck_GRPC, Path: "shop"}, true},
		{"gRPC, one that does not serve", calls, &feedpb.HealthCheck{Kind: feedpb.HealthCheck_GRPC, Path: "closed"}, false},
		{"gRPC, one that is not known", calls, &feedpb.HealthCheck{Kind: feedpb.HealthCheck_GRPC, Path: "unknown"}, false},
		{"gRPC to a pod that speaks HTTP", plain.Listener.Addr().String(), &feedpb.HealthCheck{Kind: feedpb.HealthCheck_GRPC}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, checked(1, c.check))
			id := n.publish(1, []string{c.address})
			m := n.start(t, 1, always)
			if c.well {
				eventually(t, "checks that pass", func() bool { return m.Metrics.Passed.Load() >= 3 })
			} else {
				eventually(t, "verdict", func() bool { return n.verdict(1, id) == abi.HealthCheck })
			}
			if passed, failed := m.Metrics.Passed.Load(), m.Metrics.Failed.Load(); c.well && failed > 0 || !c.well && passed > 0 {
				t.Errorf("%d checks passed and %d failed", passed, failed)
			}
		})
	}
}

func TestGRPCPodRecovers(t *testing.T) {
	address, status := newGRPC(t)
	n := newNode(t, checked(1, &feedpb.HealthCheck{Kind: feedpb.HealthCheck_GRPC, Path: "shop"}))
	status.SetServingStatus("shop", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	other, always2 := newGRPC(t)
	always2.SetServingStatus("shop", grpc_health_v1.HealthCheckResponse_SERVING)
	id := n.publish(1, []string{address, other})
	n.start(t, 1, always)
	eventually(t, "verdict", func() bool { return n.health(1, id) == abi.HealthCheck })
	status.SetServingStatus("shop", grpc_health_v1.HealthCheckResponse_SERVING)
	eventually(t, "recovery", func() bool { return n.health(1, id) == 0 })
}

// newGRPC runs grpc-go with its own health service.
func newGRPC(t *testing.T) (string, *grpchealth.Server) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, status := grpc.NewServer(), grpchealth.NewServer()
	grpc_health_v1.RegisterHealthServer(s, status)
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().String(), status
}
