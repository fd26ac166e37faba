package compile

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/model"
)

// maxL4Backends leaves each backend enough slots of the largest table for an even share.
const maxL4Backends = 1000

// addL4 adds what L4 services need: addresses, listeners, and of each service a group of
// backends per family, since the kernel does not translate between families. A listener of
// the HTTP proxy goes before one of an L4 service.
func addL4(s *state.State, services []model.L4Service, n Node) (problems []model.Problem) {
	type key struct {
		address  netip.AddrPort
		protocol state.Protocol
	}
	// The translation gives nobody what another has; this holds also for a model made otherwise.
	taken := map[key]bool{}
	for _, l := range s.Listeners {
		taken[key{l.Address, l.Protocol}] = true
	}
	for i := range services {
		groups, found := L4Service(&services[i], n)
		s.Services = append(s.Services, groups...)
		problems = append(problems, found...)
		for _, address := range services[i].Listeners {
			l := state.Listener{
				Address: address, Protocol: state.Protocol(services[i].Protocol), Mode: state.L4,
				Service: l4Name(services[i].L4Key, address.Addr().Is4()),
			}
			if taken[key{l.Address, l.Protocol}] {
				problems = append(problems, model.Problem{
					Object: services[i].Source, Severity: model.Refused, Reason: "ListenerConflict",
					Message: fmt.Sprintf("%s/%s is the proxy's own: choose another port, or --http-port and --https-port", address, services[i].Protocol),
				})
				continue
			}
			taken[key{l.Address, l.Protocol}] = true
			s.Listeners = append(s.Listeners, l)
			s.Addresses = append(s.Addresses, address.Addr())
		}
	}
	s.Addresses = sortedUnique(s.Addresses, netip.Addr.Compare)
	slices.SortFunc(s.Listeners, compareListeners)
	return problems
}

// L4Service returns what the maps must hold for an L4 service: a group of backends for
// each family that it has listeners of.
func L4Service(s *model.L4Service, n Node) (groups []state.Service, problems []model.Problem) {
	for _, v4 := range []bool{true, false} {
		if !slices.ContainsFunc(s.Listeners, func(l netip.AddrPort) bool { return l.Addr().Is4() == v4 }) {
			continue
		}
		group := state.Service{
			Name: l4Name(s.L4Key, v4), Algorithm: state.Maglev,
			LocalOnly: s.LocalOnly || !n.L4Remote && !n.L4DSR, Affinity: s.Affinity, Sources: s.Sources,
		}
		for _, b := range s.Backends {
			if b.Address.Addr().Is4() == v4 && (n.reaches(b) || s.LocalOnly || !n.L4DSR) {
				group.Backends = append(group.Backends, backend(b, state.Protocol(s.Protocol)))
			}
		}
		if len(group.Backends) > maxL4Backends {
			problems = append(problems, model.Problem{
				Object: s.Source, Severity: model.Warning, Reason: "TooManyEndpoints",
				Message: fmt.Sprintf("port %s has %d endpoints; the first %d by address are used", s.Service.Port, len(group.Backends), maxL4Backends),
			})
			group.Backends = group.Backends[:maxL4Backends]
		}
		groups = append(groups, group)
	}
	return groups, problems
}

// l4Name is the name of a group in the maps: "namespace/name:port/tcp4". A ConfigMap's
// differs from a Service's, which may publish the same port with other settings.
func l4Name(k model.L4Key, v4 bool) string {
	family := "6"
	if v4 {
		family = "4"
	}
	name := k.Service.String() + "/" + k.Protocol.String() + family
	if k.Source.Kind != "Service" {
		name += "/" + k.Source.Name
	}
	return name
}
