package kube

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/kerngate/kerngate/userspace/model"
)

// fabricService returns the Service whose endpoints are the nodes of the fabric.
func (o Options) fabricService() (name, bool) { return cutName(o.FabricService) }

// proxyService returns the Service whose endpoints' nodes share limits of requests.
func (o Options) proxyService() (name, bool) { return cutName(o.ProxyService) }

func cutName(text string) (name, bool) {
	namespace, object, ok := strings.Cut(text, "/")
	return name{namespace, object}, ok
}

// countProxies returns how many nodes have a ready endpoint of the Service, at least one: this.
func countProxies(endpoints []*discoveryv1.EndpointSlice) uint32 {
	members, _ := translateMembers(endpoints)
	n := uint32(0)
	for _, m := range members {
		if m.State == model.Serving {
			n++
		}
	}
	return max(n, 1)
}

// translateMembers returns the nodes of the fabric: those of the endpoints of its Service,
// which selects the pods of the DaemonSet. Their addresses are the nodes', as those pods
// use the nodes' network. What an endpoint says of itself is what its node may be given:
//
//   - ready: new connections;
//   - serving while it terminates: what it has;
//   - neither: what it has, if nobody else does, for it may come back, or be dead.
//
// Of several pods on a node, as during an upgrade, the best one counts.
func translateMembers(endpoints []*discoveryv1.EndpointSlice) ([]model.Member, problems) {
	var found problems
	members := map[string]*model.Member{}
	for _, slice := range endpoints {
		if slice.AddressType == discoveryv1.AddressTypeFQDN {
			continue
		}
		for i, endpoint := range slice.Endpoints {
			field := fmt.Sprintf("endpoints[%d]", i)
			if endpoint.NodeName == nil || *endpoint.NodeName == "" {
				found.add(refOf("EndpointSlice", slice), model.Refused, "NodeUnnamed", field+": nodeName is missing; nodes of the fabric are known by it")
				continue
			}
			address, err := memberAddress(endpoint.Addresses)
			if err != nil {
				found.add(refOf("EndpointSlice", slice), model.Refused, "EndpointInvalid", fmt.Sprintf("%s.addresses: %v", field, err))
				continue
			}
			m := members[*endpoint.NodeName]
			if m == nil {
				m = &model.Member{Name: *endpoint.NodeName, State: model.NotReady}
				members[m.Name] = m
			}
			m.Addresses = append(m.Addresses, address)
			m.State = min(m.State, memberState(endpoint.Conditions))
		}
	}
	var out []model.Member
	for _, node := range slices.Sorted(maps.Keys(members)) {
		m := members[node]
		m.Addresses = onePerFamily(m.Addresses)
		out = append(out, *m)
	}
	return out, found
}

func memberState(c discoveryv1.EndpointConditions) model.MemberState {
	switch ready, draining := conditions(c); {
	case ready:
		return model.Serving
	case draining:
		return model.Leaving
	}
	return model.NotReady
}

func memberAddress(addresses []string) (netip.Addr, error) {
	if len(addresses) == 0 {
		return netip.Addr{}, fmt.Errorf("there is none")
	}
	address, err := netip.ParseAddr(addresses[0])
	if address = address.Unmap(); err == nil && !IsNodeAddress(address) {
		err = fmt.Errorf("%s is not the address of a node", address)
	}
	return address, err
}

// IsNodeAddress reports whether other nodes could reach a node by the address.
func IsNodeAddress(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && !a.IsLinkLocalUnicast()
}

// onePerFamily sorts addresses and leaves the lowest of each family.
func onePerFamily(addresses []netip.Addr) []netip.Addr {
	slices.SortFunc(addresses, func(a, b netip.Addr) int { return cmp.Or(cmp.Compare(a.BitLen(), b.BitLen()), a.Compare(b)) })
	return slices.CompactFunc(addresses, func(a, b netip.Addr) bool { return a.BitLen() == b.BitLen() })
}
