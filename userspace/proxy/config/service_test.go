package config

import (
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

func TestService(t *testing.T) {
	speaks := &feedpb.Upstream{Protocol: feedpb.Upstream_HTTP2, Grpc: true}
	first, err := Empty().Apply(&feedpb.Config{Version: 1, Snapshot: true, Services: []*feedpb.Service{
		{Id: 7, Name: "a/plain:80"},
		{Id: 3, Name: "a/checked:80", SlowStartMs: 1500, MaxConnections: 4, MaxPending: 5,
			Health:  &feedpb.HealthCheck{Kind: feedpb.HealthCheck_GRPC, Path: "shop", IntervalMs: 2000, Upstream: speaks},
			Outlier: &feedpb.Outlier{Consecutive: 3, MostPercent: 400, ServerErrors: true}},
		{Id: 4, Name: "a/newer:80", Health: &feedpb.HealthCheck{Kind: 9}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	services := first.Services()
	if len(services) != 3 || services[0].ID != 3 || services[2].ID != 7 {
		t.Fatalf("services are %v, want them by id", services)
	}
	if plain := first.Service(7); plain.Health != nil || plain.Outlier != DefaultOutlier {
		t.Errorf("a service of which nothing is said has check %v and outlier %v", plain.Health, plain.Outlier)
	}
	if newer := first.Service(4); newer.Health != nil {
		t.Errorf("a kind of check that is not known became %v, want none", newer.Health)
	}
	checked := services[0]
	if want := (Outlier{Consecutive: 3, Ejection: DefaultOutlier.Ejection, MostPercent: 100, ServerErrors: true}); checked.Outlier != want {
		t.Errorf("outlier is %+v, want %+v", checked.Outlier, want)
	}
	if checked.SlowStart != 1500*time.Millisecond || checked.MaxConnections != 4 || checked.MaxPending != 5 {
		t.Errorf("service is %+v", checked)
	}
	h := checked.Health
	if h == nil || h.Kind != CheckGRPC || h.Interval != 2*time.Second || h.Timeout != checkTimeout || h.Unhealthy != checkUnhealthy || h.Healthy != checkHealthy {
		t.Fatalf("health check is %+v", h)
	}
	// A later configuration that does not mention the service keeps what it is asked by.
	second, err := first.Apply(&feedpb.Config{Version: 2, RemovedServices: []uint32{7}})
	if err != nil {
		t.Fatal(err)
	}
	if len(second.Services()) != 2 || second.Services()[0] != checked || second.Transport(h.Upstream) == nil || !second.Transport(h.Upstream).HTTP2 {
		t.Errorf("after a change of others the service is %+v, spoken to by %+v", second.Services()[0], second.Transport(h.Upstream))
	}
}
