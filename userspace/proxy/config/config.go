// Package config turns what the agent sends over the feed into the immutable tables that
// workers read. Each Config makes a whole new Snapshot, sharing what did not change; the
// one in force is replaced by a pointer swap, and a Config that cannot be used leaves it
// as it is.
package config

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"sort"
	"strings"
	"weak"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/proxy/observe/usage"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
	"github.com/kerngate/kerngate/userspace/route"
)

// Target is what a route leads to.
type Target struct {
	Service  *Service        // nil: the object names a service or port that does not exist
	Source   model.ObjectRef // that asks for it
	Usage    *usage.Line     // where its requests are counted
	Upstream *Upstream       // how its pods are spoken to
	Policy   *policy.Policy  // nil: none
	Splits   []Split         // in order of precedence

	RedirectHTTPS bool // clear-text requests are sent to https
	ClearText     bool // served without TLS whatever certificate the host's clients must show

	locations *locations // nil: none
}

// Snapshot is one version of the configuration. It is never changed.
type Snapshot struct {
	Version  uint64
	Settings Settings
	Routes   *route.Table[Target]
	Default  *Service // answers what no route matches; nil: 404
	TLS      *TLS
	// Usage is the book that this snapshot's routes, and those after it, are counted in.
	Usage *usage.Book
	// DefaultUsage is where the requests that Default answers are counted.
	DefaultUsage *usage.Line
	// AffinityKey signs affinity cookies, 32 bytes: the same at every proxy, or until the
	// agent has sent one, this proxy's own.
	AffinityKey []byte
	// PassToken marks requests that have passed a proxy that has the same key.
	PassToken []byte
	services  map[uint32]*Service
	renewed   bool       // a service came again, and routes hold what it was
	ordered   []*Service // by id
	upstreams upstreams
	policies  *policies
}

// Empty returns the configuration before the first Config: no routes.
func Empty() *Snapshot {
	routes, err := route.New[Target](nil)
	if err != nil {
		panic(err) // no input, so no error
	}
	own := make([]byte, 32)
	rand.Read(own) // never fails
	s := &Snapshot{AffinityKey: own, PassToken: PassToken(own), Settings: DefaultSettings(), Routes: routes, services: map[uint32]*Service{}, Usage: usage.NewBook(usage.Most, 1),
		policies: &policies{known: map[digest]weak.Pointer[policy.Policy]{}}}
	if s.TLS, err = new(TLS).apply(&feedpb.Config{}, s); err != nil {
		panic(err) // no input either
	}
	return s
}

// RefusedError says which object a Config was refused for.
type RefusedError struct {
	Source model.ObjectRef // zero if none is to blame
	Err    error
}

func (e *RefusedError) Error() string { return fmt.Sprintf("refused %s: %v", e.Source, e.Err) }
func (e *RefusedError) Unwrap() error { return e.Err }

// Apply returns the snapshot that results from a Config. An error is a *RefusedError.
func (s *Snapshot) Apply(c *feedpb.Config) (*Snapshot, error) {
	next := *s
	next.Version = c.Version
	if c.Settings != nil {
		settings, err := settings(c.Settings)
		if err != nil {
			return nil, &RefusedError{Err: err}
		}
		next.Settings = settings
	}
	next.renewed = s.renewed && !c.Snapshot
	next.upstreams = s.upstreams.extend(c.Snapshot)
	if c.Snapshot || len(c.Services)+len(c.RemovedServices) > 0 {
		next.replaceServices(s, c)
	}
	next.Default = next.services[c.DefaultService]
	next.DefaultUsage = s.Usage.Line(model.ObjectRef{}, next.Default.name())
	if key := c.TicketKeys.GetAffinity(); len(key) > 0 {
		next.AffinityKey, next.PassToken = key, PassToken(key)
	}
	var err error
	if next.TLS, err = s.TLS.apply(c, &next); err != nil {
		return nil, err
	}

	hosts := make([]route.Host[Target], 0, len(c.Hosts))
	for _, h := range c.Hosts {
		host, err := next.host(h, &s.upstreams)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, host)
	}
	next.upstreams.resolve(&s.upstreams, next.TLS)
	if c.Snapshot {
		next.Routes, err = route.New(hosts)
	} else {
		next.Routes, err = s.Routes.With(hosts, c.RemovedHosts)
	}
	if err != nil {
		return nil, &RefusedError{Err: err} // each host was tried alone: none is to blame
	}
	return &next, nil
}

// replaceServices makes the services of those of the last snapshot and those of a Config.
func (s *Snapshot) replaceServices(last *Snapshot, c *feedpb.Config) {
	s.services = make(map[uint32]*Service, len(last.services)+len(c.Services))
	if !c.Snapshot {
		maps.Copy(s.services, last.services)
		for _, id := range c.RemovedServices {
			delete(s.services, id)
		}
	}
	for _, svc := range c.Services {
		_, known := s.services[svc.Id]
		s.renewed = s.renewed || known
		s.services[svc.Id] = s.service(svc, &last.upstreams)
	}
	s.ordered = sortServices(s.services)
}

// Service returns a service, nil if it is not in the configuration.
func (s *Snapshot) Service(id state.ServiceID) *Service { return s.services[uint32(id)] }

// Current returns the service that a route led to when it came, as it is now: routes do not come
// again when only their service has changed.
func (s *Snapshot) Current(svc *Service) *Service {
	if s.renewed {
		if now := s.services[uint32(svc.ID)]; now != nil {
			return now
		}
	}
	return svc
}

func (s *Snapshot) host(h *feedpb.Host, before *upstreams) (route.Host[Target], error) {
	host := route.Host[Target]{Name: h.Name, Routes: make([]route.Route[Target], 0, len(h.Routes))}
	shared := make([]*locations, len(h.Locations))
	for _, r := range h.Routes {
		t := Target{Service: s.services[r.Service], Source: objectOf(r.SourceKind, r.Source), RedirectHTTPS: r.RedirectHttps, ClearText: r.ClearText}
		t.Usage = s.Usage.Line(t.Source, t.Service.name())
		if r.Service != 0 && t.Service == nil {
			return host, &RefusedError{t.Source, fmt.Errorf("host %q path %q leads to service %d, which is not in the configuration", h.Name, r.Path, r.Service)}
		}
		var err error
		if t.Upstream, err = s.upstreams.take(r.Upstream, before); err != nil {
			return host, &RefusedError{t.Source, fmt.Errorf("host %q path %q: %w", h.Name, r.Path, err)}
		}
		if err := s.rules(h, r, &t, before); err != nil {
			source := t.Source
			var split *RefusedError
			if errors.As(err, &split) { // perhaps of another object
				source, err = split.Source, split.Err
			}
			return host, &RefusedError{source, fmt.Errorf("host %q path %q: %w", h.Name, r.Path, err)}
		}
		if t.locations, err = s.locations(h, r, shared); err != nil {
			return host, &RefusedError{t.Source, fmt.Errorf("host %q path %q: %w", h.Name, r.Path, err)}
		}
		when, err := conditions(r.When)
		if err != nil {
			return host, &RefusedError{t.Source, fmt.Errorf("host %q path %q: %w", h.Name, r.Path, err)}
		}
		host.Routes = append(host.Routes, route.Route[Target]{Path: r.Path, Exact: r.Exact, Regexp: r.Regexp, When: when, Value: t})
	}
	if err := checkRoutes(host); err != nil {
		return host, err
	}
	return host, nil
}

// checkRoutes compiles a host's routes, alone, so that a refusal names the object behind
// the route at fault.
func checkRoutes(host route.Host[Target]) error {
	compiles := func(n int) error {
		_, err := route.New([]route.Host[Target]{{Name: host.Name, Routes: host.Routes[:n]}})
		return err
	}
	err := compiles(len(host.Routes))
	if err == nil {
		return nil
	}
	// The shortest list of routes that fails ends with the one at fault: what is wrong with
	// a list stays wrong however it goes on.
	n := sort.Search(len(host.Routes), func(n int) bool { return compiles(n) != nil })
	if n == 0 {
		return &RefusedError{blame(host.Routes), err} // the host's name itself
	}
	return &RefusedError{host.Routes[n-1].Value.Source, compiles(n)}
}

// blame returns the object behind the first of the routes, zero if there is none.
func blame(routes []route.Route[Target]) model.ObjectRef {
	if len(routes) == 0 {
		return model.ObjectRef{}
	}
	return routes[0].Value.Source
}

// objectOf reads how the feed names an object. An agent of an earlier version knows Ingresses alone,
// and names no kind.
func objectOf(kind, source string) model.ObjectRef {
	if source == "" {
		return model.ObjectRef{}
	}
	namespace, name, _ := strings.Cut(source, "/")
	return model.ObjectRef{Kind: cmp.Or(kind, "Ingress"), Namespace: namespace, Name: name}
}

func conditions(c *feedpb.Conditions) (*route.Conditions, error) {
	comparisons := func(list []*feedpb.Comparison) (out []model.Comparison) {
		for _, one := range list {
			out = append(out, model.Comparison{Name: one.Name, Value: one.Value, Regexp: one.Regexp})
		}
		return out
	}
	return route.NewConditions(model.Conditions{Scheme: c.GetScheme(), Method: c.GetMethod(), Headers: comparisons(c.GetHeaders()), Query: comparisons(c.GetQuery())})
}
