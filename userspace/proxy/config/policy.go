package config

import (
	"crypto/sha256"
	"fmt"
	"runtime"
	"sync"
	"weak"

	"google.golang.org/protobuf/proto"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/observe/usage"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// Canary is a service that gets a part of a route's requests.
type Canary struct {
	policy.Canary
	Service *Service // nil: the Ingress names a service or port that does not exist
	Source  string   // "namespace/name" of the Ingress
	Usage   *usage.Line
}

// policies are those in use by any Snapshot, so that equal rules are one Policy, and a
// Policy outlives the Snapshot that it came with: what it has learned (verified passwords)
// stays. One that nobody uses is forgotten with its memory.
type policies struct {
	mu    sync.Mutex
	known map[digest]weak.Pointer[policy.Policy]
}

type digest [sha256.Size]byte

// take returns the Policy of a route with these rules.
func (s *policies) take(rules *feedpb.Policy, path string, regexp bool) (*policy.Policy, error) {
	if !policy.PerRoute(rules) {
		path, regexp = "", false
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(rules)
	if err != nil {
		return nil, err
	}
	key := digest(sha256.Sum256(fmt.Appendf(raw, "\x00%t%s", regexp, path)))
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.known[key].Value(); p != nil {
		return p, nil
	}
	p, err := policy.Compile(rules, path, regexp)
	if err != nil {
		return nil, err
	}
	w := weak.Make(p)
	s.known[key] = w
	runtime.AddCleanup(p, func(key digest) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.known[key] == w { // not made anew meanwhile
			delete(s.known, key)
		}
	}, key)
	return p, nil
}

// rules adds to a target what its route wants beyond being sent to its service. The error
// is a *RefusedError if a canary is at fault, which is another object than the route's.
func (s *Snapshot) rules(h *feedpb.Host, r *feedpb.Route, t *Target) (err error) {
	if r.Policy > 0 {
		if int(r.Policy) > len(h.Policies) {
			return fmt.Errorf("policy %d of %d", r.Policy, len(h.Policies))
		}
		if t.Policy, err = s.policies.take(h.Policies[r.Policy-1], r.Path, r.Regexp); err != nil {
			return err
		}
	}
	for _, c := range r.Canaries {
		canary := Canary{Service: s.services[c.Service], Source: c.Source}
		canary.Usage = s.Usage.Line(c.Source, canary.Service.name())
		if c.Service != 0 && canary.Service == nil {
			return &RefusedError{c.Source, fmt.Errorf("the canary leads to service %d, which is not in the configuration", c.Service)}
		}
		if canary.Canary, err = policy.CompileCanary(c); err != nil {
			return &RefusedError{c.Source, fmt.Errorf("canary: %w", err)}
		}
		t.Canaries = append(t.Canaries, canary)
	}
	return nil
}
