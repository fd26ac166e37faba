package config

import (
	"errors"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

func apply(t *testing.T, s *Snapshot, c *feedpb.Config) *Snapshot {
	t.Helper()
	next, err := s.Apply(c)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// leads returns the name of the service that answers.
func leads(s *Snapshot, host, path string) string {
	r, ok := s.Routes.Match([]byte(host), []byte(path), nil)
	if !ok {
		return ""
	}
	if r.Value.Service == nil {
		return "missing"
	}
	return r.Value.Service.Name
}

func TestSnapshotThenDeltas(t *testing.T) {
	one := apply(t, Empty(), &feedpb.Config{
		Version: 1, Snapshot: true,
		Services: []*feedpb.Service{{Id: 1, Name: "d/a:80"}, {Id: 2, Name: "d/b:80"}},
		Hosts: []*feedpb.Host{
			{Name: "a", Routes: []*feedpb.Route{{Path: "/", Service: 1, Source: "d/i"}}},
			{Name: "b", Routes: []*feedpb.Route{{Path: "/", Service: 2, Source: "d/i"}, {Path: "/gone", Source: "d/i"}}},
		},
		DefaultService: 2,
		Settings:       &feedpb.Settings{IdleTimeoutMs: 1000},
	})
	if leads(one, "a", "/x") != "d/a:80" || leads(one, "b", "/gone") != "missing" || one.Default.Name != "d/b:80" {
		t.Fatal("snapshot not in force")
	}
	if one.Settings.IdleTimeout != time.Second || one.Settings.HeadTimeout != DefaultSettings().HeadTimeout {
		t.Errorf("settings %+v", one.Settings)
	}
	two := apply(t, one, &feedpb.Config{
		Version: 2, RemovedHosts: []string{"a"}, RemovedServices: []uint32{1},
		Services: []*feedpb.Service{{Id: 3, Name: "d/c:80"}},
		Hosts:    []*feedpb.Host{{Name: "c", Routes: []*feedpb.Route{{Path: "/", Service: 3}}}},
	})
	if leads(two, "a", "/") != "" || leads(two, "b", "/") != "d/b:80" || leads(two, "c", "/") != "d/c:80" || two.Settings.IdleTimeout != time.Second {
		t.Error("delta not in force")
	}
	if leads(one, "a", "/x") != "d/a:80" || leads(one, "c", "/") != "" {
		t.Error("the snapshot before was changed")
	}
}

// TestRefusal: what cannot be used is refused with the Ingress to blame, and leaves all as
// it was.
func TestRefusal(t *testing.T) {
	s := apply(t, Empty(), &feedpb.Config{Version: 1, Snapshot: true, Services: []*feedpb.Service{{Id: 1, Name: "d/a:80"}},
		Hosts: []*feedpb.Host{{Name: "a", Routes: []*feedpb.Route{{Path: "/", Service: 1, Source: "d/good"}}}}})
	for name, h := range map[string]*feedpb.Host{
		"unknown service":              {Name: "b", Routes: []*feedpb.Route{{Path: "/", Service: 9, Source: "d/bad"}}},
		"bad path":                     {Name: "b", Routes: []*feedpb.Route{{Path: "no-slash", Service: 1, Source: "d/bad"}}},
		"same path twice":              {Name: "b", Routes: []*feedpb.Route{{Path: "/x", Service: 1, Source: "d/bad"}, {Path: "/x", Service: 1, Source: "d/bad"}}},
		"path of another":              {Name: "b", Routes: []*feedpb.Route{{Path: "/x", Service: 1, Source: "d/good"}, {Path: "/x", Service: 1, Source: "d/bad"}, {Path: "/y", Service: 1, Source: "d/good"}}},
		"bad expression behind others": {Name: "b", Routes: []*feedpb.Route{{Path: "/long", Service: 1, Source: "d/good"}, {Path: "/(", Regexp: true, Service: 1, Source: "d/bad"}, {Path: "/", Service: 1, Source: "d/good"}}},
		"bad split":                    {Name: "b", Routes: []*feedpb.Route{{Path: "/", Service: 1, Source: "d/good", Splits: []*feedpb.Split{{Service: 1, Source: "d/bad", Pattern: "("}}}}},
	} {
		_, err := s.Apply(&feedpb.Config{Version: 2, Hosts: []*feedpb.Host{h}})
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Source.String() != "Ingress d/bad" {
			t.Errorf("%s: %v, want a refusal that names d/bad", name, err)
		}
	}
	if leads(s, "a", "/") != "d/a:80" || leads(s, "b", "/") != "" {
		t.Error("a refused configuration left traces")
	}
}

// TestSettingsRefused: prefixes that mean nothing are refused; they must not become "trust
// nobody", or anybody, silently.
func TestSettingsRefused(t *testing.T) {
	good := apply(t, Empty(), &feedpb.Config{Version: 1, Settings: &feedpb.Settings{
		TrustedProxies: []string{"10.0.0.0/8"}, ProxyHeaderFrom: []string{"192.0.2.1"}, TunnelTimeoutMs: 5000,
	}})
	if len(good.Settings.TrustedProxies) != 1 || len(good.Settings.ProxyHeaderFrom) != 1 || good.Settings.TunnelTimeout != 5*time.Second {
		t.Errorf("settings %+v", good.Settings)
	}
	for _, s := range []*feedpb.Settings{{TrustedProxies: []string{"10.0.0.0/8", "ten"}}, {ProxyHeaderFrom: []string{"10.0.0.0/40"}}} {
		var refused *RefusedError
		if _, err := good.Apply(&feedpb.Config{Version: 2, Settings: s}); !errors.As(err, &refused) {
			t.Errorf("%v: %v, want a refusal", s, err)
		}
	}
}
