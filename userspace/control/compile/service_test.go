package compile

import (
	"testing"
	"time"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/model"
)

// TestServiceSettings: what is said of a service reaches the proxies, and again when it
// changes, and only then.
func TestServiceSettings(t *testing.T) {
	key := model.ServiceKey{Namespace: "d", Name: "web", Port: "80"}
	ids := func(string) (state.ServiceID, bool) { return 7, true }
	m := &model.Model{
		Hosts: []model.Host{{Name: "a", Routes: []model.Route{{Path: "/", Service: key}}}},
		Services: []model.Service{{
			Key: key, SlowStart: 30 * time.Second, Bounds: model.Bounds{Connections: 5, Pending: 6},
			Outlier: model.Outlier{Consecutive: 3, Ejection: time.Second, MostPercent: 50},
			Health:  &model.HealthCheck{Kind: model.CheckGRPC, Path: "shop", Interval: time.Second, Unhealthy: 2},
		}},
	}
	one := Route(m, ids, Common{}, nil, nil, nil)
	s := one.Snapshot(1).Services
	if len(s) != 1 || s[0].Id != 7 || s[0].Name != "d/web:80" || s[0].SlowStartMs != 30000 || s[0].MaxConnections != 5 || s[0].MaxPending != 6 ||
		s[0].Outlier.Consecutive != 3 || s[0].Outlier.EjectionMs != 1000 || s[0].Outlier.MostPercent != 50 ||
		s[0].Health.Path != "shop" || s[0].Health.IntervalMs != 1000 || s[0].Health.Unhealthy != 2 {
		t.Fatalf("%v", s)
	}
	if c, changed := one.Delta(Route(m, ids, Common{}, nil, one, nil), 2); changed {
		t.Errorf("the same again changes %v", c)
	}
	m.Services[0].SlowStart = time.Minute
	if c, changed := one.Delta(Route(m, ids, Common{}, nil, one, nil), 2); !changed || len(c.Services) != 1 || c.Services[0].SlowStartMs != 60000 {
		t.Errorf("another slow start changes %v", c)
	}
}
