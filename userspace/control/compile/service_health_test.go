package compile

import (
	"net/netip"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
)

func TestServicePolicies(t *testing.T) {
	key := model.ServiceKey{Namespace: "a", Name: "b", Port: "80"}
	l4 := model.L4Service{
		L4Key:     model.L4Key{Service: key, Protocol: model.TCP, Source: model.ObjectRef{Kind: "Service", Namespace: "a", Name: "b"}},
		Listeners: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.10:5432")},
	}
	m := func(h *model.HealthCheck) *model.Model {
		four := l4
		four.Health = h
		return &model.Model{
			Hosts: []model.Host{{Routes: []model.Route{{Path: "/", Service: key, Upstream: model.Upstream{Protocol: model.HTTP2, GRPC: true, TLS: &model.UpstreamTLS{}}}}}},
			Services: []model.Service{{Key: key, Health: h, SlowStart: time.Second,
				Outlier: model.Outlier{Consecutive: 3, Ejection: time.Minute, MostPercent: 20, ServerErrors: true}}},
			L4: []model.L4Service{four},
		}
	}
	ids := func(name string) (state.ServiceID, bool) {
		id, ok := map[string]state.ServiceID{"a/b:80": 3, "a/b:80/tcp4": 4}[name]
		return id, ok
	}
	without := Route(m(nil), ids, Common{}, nil, nil, nil)
	if c := without.Snapshot(1); len(c.Services) != 1 || c.Services[0].Health != nil {
		t.Errorf("services are %v, want one that is not asked: proxies need not know the L4 service", c.Services)
	}
	check := &model.HealthCheck{Kind: model.CheckGRPC, Path: "shop", Interval: 2 * time.Second, Timeout: time.Second, Unhealthy: 3, Healthy: 1}
	with := Route(m(check), ids, Common{}, nil, without, nil)
	c, changed := without.Delta(with, 2)
	if !changed || len(c.Hosts) != 0 || len(c.Services) != 2 {
		t.Fatalf("a check that was added changes %v", c)
	}
	want := &feedpb.Service{Id: 3, Name: "a/b:80", SlowStartMs: 1000,
		Outlier: &feedpb.Outlier{Consecutive: 3, EjectionMs: 60000, MostPercent: 20, ServerErrors: true},
		Health: &feedpb.HealthCheck{Kind: feedpb.HealthCheck_GRPC, Path: "shop", IntervalMs: 2000, TimeoutMs: 1000, Unhealthy: 3, Healthy: 1,
			Upstream: &feedpb.Upstream{Protocol: feedpb.Upstream_HTTP2, Grpc: true, Tls: &feedpb.UpstreamTLS{}}}}
	if !proto.Equal(c.Services[0], want) {
		t.Errorf("service is\n%v, want\n%v", c.Services[0], want)
	}
	if four := c.Services[1]; four.Name != "a/b:80/tcp4" || four.Health == nil || four.Health.Upstream != nil || !four.Outlier.Off {
		t.Errorf("L4 service is %v", four)
	}
	if c, changed := with.Delta(Route(m(check), ids, Common{}, nil, with, nil), 3); changed {
		t.Errorf("the same again changes %v", c)
	}
}
