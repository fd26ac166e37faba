package config

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

func policyConfig(rules *feedpb.Policy, routes ...*feedpb.Route) *feedpb.Config {
	for _, r := range routes {
		r.Source = "ns/i"
	}
	return &feedpb.Config{Snapshot: true, Services: []*feedpb.Service{{Id: 1, Name: "ns/a:80"}}, Hosts: []*feedpb.Host{
		{Name: "a.example", Routes: routes, Policies: []*feedpb.Policy{rules}},
	}}
}

// TestPolicies: equal rules are one Policy, now and in later versions, unless the path is
// part of them.
func TestPolicies(t *testing.T) {
	match := func(s *Snapshot, path string) *Target {
		r, ok := s.Routes.Match([]byte("a.example"), []byte(path), nil)
		if !ok {
			t.Fatalf("%s has no route", path)
		}
		return &r.Value
	}
	rules := &feedpb.Policy{Unlogged: true}
	s, err := Empty().Apply(policyConfig(rules, &feedpb.Route{Path: "/a", Service: 1, Policy: 1}, &feedpb.Route{Path: "/b", Service: 1, Policy: 1}, &feedpb.Route{Path: "/c", Service: 1}))
	if err != nil {
		t.Fatal(err)
	}
	if match(s, "/a").Policy == nil || match(s, "/a").Policy != match(s, "/b").Policy || match(s, "/c").Policy != nil {
		t.Error("two routes with one policy do not share it")
	}
	next, err := s.Apply(policyConfig(rules, &feedpb.Route{Path: "/z", Service: 1, Policy: 1}))
	if err != nil {
		t.Fatal(err)
	}
	if match(next, "/z").Policy != match(s, "/a").Policy {
		t.Error("the next version has another policy of the same rules")
	}
	rules = &feedpb.Policy{Rewrite: "/$1"}
	s, err = next.Apply(policyConfig(rules, &feedpb.Route{Path: "/a(.*)", Regexp: true, Service: 1, Policy: 1}, &feedpb.Route{Path: "/b(.*)", Regexp: true, Service: 1, Policy: 1}))
	if err != nil {
		t.Fatal(err)
	}
	if match(s, "/a1").Policy == match(s, "/b1").Policy {
		t.Error("rewrites of two paths share a policy")
	}
	all := s.policies
	runtime.KeepAlive(next)
	s, next = nil, nil
	for range 100 {
		runtime.GC()
		all.mu.Lock()
		n := len(all.known)
		all.mu.Unlock()
		if n == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("policies that nobody uses are kept")
}

func TestPolicyRefused(t *testing.T) {
	for want, c := range map[string]*feedpb.Config{
		"policy 2 of 1":      policyConfig(&feedpb.Policy{}, &feedpb.Route{Path: "/", Service: 1, Policy: 2}),
		"access: allow":      policyConfig(&feedpb.Policy{Access: &feedpb.Access{Allow: []string{"x"}}}, &feedpb.Route{Path: "/", Service: 1, Policy: 1}),
		"the split leads to": policyConfig(&feedpb.Policy{}, &feedpb.Route{Path: "/", Service: 1, Splits: []*feedpb.Split{{Service: 9, Source: "ns/c"}}}),
		"split: error pars":  policyConfig(&feedpb.Policy{}, &feedpb.Route{Path: "/", Service: 1, Splits: []*feedpb.Split{{Service: 1, Source: "ns/c", Pattern: "("}}}),
		"missing closing )":  policyConfig(&feedpb.Policy{}, &feedpb.Route{Path: "/(", Regexp: true, Service: 1}),
	} {
		_, err := Empty().Apply(c)
		source := "ns/i"
		if strings.Contains(want, "split") {
			source = "ns/c" // an object of its own is to blame, and not the host's main Ingress
		}
		refused, ok := err.(*RefusedError)
		if !ok || refused.Source.FullName() != source || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
