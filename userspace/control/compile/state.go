// Package compile turns the desired state (userspace/model) into its two forms: what the
// kernel maps must hold (loader/state) and what proxies are told over the feed. It is
// pure; ids come from whoever owns the maps.
package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/model"
)

// maxBackends is how many backends a published service can have: the count in its block
// is a 16-bit number.
const maxBackends = 1<<16 - 1

// Node is what does not come from objects but from the agent's flags.
type Node struct {
	Addresses []netip.Addr   // ingress addresses, also those without a listener
	L4Remote  bool           // L4 services may use pods of other nodes, whose replies come back through this one
	L4DSR     bool           // L4 services may use pods of other members, which answer by themselves
	Members   []model.Member // of the fabric; see With
	Deny      []netip.Prefix // sources to drop
	Allow     []netip.Prefix // exceptions from Deny
	Defence   state.Defence
}

// State returns what the maps must hold for the model on this node.
func State(m *model.Model, n Node) (state.State, []model.Problem) {
	n = n.With(m.Members)
	s := state.State{
		Addresses: slices.Clone(n.Addresses),
		Deny:      sortedUnique(slices.Concat(n.Deny, m.Defence.Deny), comparePrefixes),
		Allow:     sortedUnique(slices.Concat(n.Allow, m.Defence.Allow), comparePrefixes),
		Defence:   defence(n.Defence, m.Defence),
		Nodes:     n.nodes(),
	}
	for _, l := range m.Listeners {
		s.Addresses = append(s.Addresses, l.Address)
		at := state.Listener{Address: netip.AddrPortFrom(l.Address, l.Port), Protocol: state.TCP, Mode: state.L7}
		s.Listeners = append(s.Listeners, at)
		if l.HTTP3 {
			at.Protocol = state.UDP
			s.Listeners = append(s.Listeners, at)
		}
	}
	s.Addresses = sortedUnique(s.Addresses, netip.Addr.Compare)
	slices.SortFunc(s.Listeners, compareListeners)
	var problems []model.Problem
	for i := range m.Services {
		service, found := Service(&m.Services[i])
		s.Services = append(s.Services, service)
		problems = append(problems, found...)
	}
	problems = append(problems, addL4(&s, m.L4, n)...)
	// Names sort otherwise than keys: "a-b" comes before "a:80".
	slices.SortFunc(s.Services, func(a, b state.Service) int { return cmp.Compare(a.Name, b.Name) })
	return s, problems
}

// defence returns what objects say about one source, and the flags about the rest.
func defence(flags state.Defence, said model.Defence) state.Defence {
	if l := said.Packets; l.Set {
		flags.Packets = state.Limit{PerSecond: l.PerSecond, Burst: l.Burst}
	}
	if l := said.Connections; l.Set {
		flags.Connections = state.Limit{PerSecond: l.PerSecond, Burst: l.Burst}
	}
	return flags
}

func compareListeners(x, y state.Listener) int {
	return cmp.Or(x.Address.Compare(y.Address), cmp.Compare(x.Protocol, y.Protocol))
}

// Service returns what the maps must hold for one service.
func Service(s *model.Service) (state.Service, []model.Problem) {
	var problems []model.Problem
	out := state.Service{
		Name:        s.Key.String(),
		Algorithm:   state.P2C,
		PreferLocal: s.PreferLocal,
	}
	switch s.Algorithm {
	case model.RoundRobin:
		out.Algorithm = state.RoundRobin
	case model.EWMA:
		out.Algorithm = state.EWMA
	}
	backends := s.Backends
	if len(backends) > maxBackends {
		problems = append(problems, model.Problem{
			Object:   model.ObjectRef{Kind: "Service", Namespace: s.Key.Namespace, Name: s.Key.Name},
			Severity: model.Warning,
			Reason:   "TooManyEndpoints",
			Message:  fmt.Sprintf("port %s has %d endpoints; the first %d by address are used", s.Key.Port, len(backends), maxBackends),
		})
		backends = backends[:maxBackends]
	}
	for _, b := range backends {
		out.Backends = append(out.Backends, backend(b, state.TCP))
	}
	return out, problems
}

func backend(b model.Backend, protocol state.Protocol) state.Backend {
	return state.Backend{Address: b.Address, Protocol: protocol, Node: b.Node, Local: b.Local, Draining: b.Draining, Weight: b.Weight}
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

func sortedUnique[T comparable](in []T, compare func(a, b T) int) []T {
	out := slices.Clone(in)
	slices.SortFunc(out, compare)
	return slices.Compact(out)
}
