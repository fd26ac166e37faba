package config

import (
	"crypto/sha256"
	"fmt"
	"runtime"
	"sync"
	"weak"

	"google.golang.org/protobuf/proto"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/proxy/observe/usage"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// Split is a service that gets a part of a route's requests.
type Split struct {
	policy.Split
	Service  *Service // nil: the object names a service or port that does not exist
	Source   model.ObjectRef
	Usage    *usage.Line
	Policy   *policy.Policy // nil: the route's
	Upstream *Upstream      // nil: the route's
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
// is a *RefusedError if a split is at fault, which may be another object's than the route.
func (s *Snapshot) rules(h *feedpb.Host, r *feedpb.Route, t *Target, before *upstreams) (err error) {
	if t.Policy, err = s.policy(h, r, r.Policy); err != nil {
		return err
	}
	for _, c := range r.Splits {
		split, err := s.split(h, r, c, before)
		if err != nil {
			return &RefusedError{split.Source, err}
		}
		t.Splits = append(t.Splits, split)
	}
	return nil
}

// policy returns the policy that stands at a place of a host's list, nil for 0.
func (s *Snapshot) policy(h *feedpb.Host, r *feedpb.Route, place uint32) (*policy.Policy, error) {
	if place == 0 {
		return nil, nil
	}
	if int(place) > len(h.Policies) {
		return nil, fmt.Errorf("policy %d of %d", place, len(h.Policies))
	}
	return s.policies.take(h.Policies[place-1], r.Path, r.Regexp)
}

func (s *Snapshot) split(h *feedpb.Host, r *feedpb.Route, c *feedpb.Split, before *upstreams) (split Split, err error) {
	split = Split{Service: s.services[c.Service], Source: objectOf(c.SourceKind, c.Source)}
	split.Usage = s.Usage.Line(split.Source, split.Service.name())
	if c.Service != 0 && split.Service == nil {
		return split, fmt.Errorf("the split leads to service %d, which is not in the configuration", c.Service)
	}
	if split.Split, err = policy.CompileSplit(c); err != nil {
		return split, fmt.Errorf("split: %w", err)
	}
	if split.Policy, err = s.policy(h, r, c.Policy); err != nil {
		return split, fmt.Errorf("split: %w", err)
	}
	if c.Upstream != nil {
		if split.Upstream, err = s.upstreams.take(c.Upstream, before); err != nil {
			return split, fmt.Errorf("split: %w", err)
		}
	}
	return split, nil
}
