package model

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
)

// Transport is the IP protocol number of TCP or UDP.
type Transport uint8

const (
	TCP Transport = 6
	UDP Transport = 17
)

// String returns "tcp" or "udp".
func (p Transport) String() string {
	if p == UDP {
		return "udp"
	}
	return "tcp"
}

// L4Service is one port of a Service to which the kernel forwards packets: no proxy has
// part in it.
type L4Service struct {
	L4Key
	Listeners []netip.AddrPort // published, sorted
	LocalOnly bool             // never pods of other nodes
	Affinity  bool             // all of a client's connections to one pod, while that is ready
	Sources   []netip.Prefix   // clients that are taken, sorted; nil: all
	Backends  []Backend        // by Address, of both families
	Health    *HealthCheck     // nil: pods are not asked
}

// L4Key identifies an L4Service: a port, and who asked for it to be published.
type L4Key struct {
	Service  ServiceKey
	Protocol Transport
	Source   ObjectRef // Service, or the ConfigMap that names it
}

// CompareL4 orders keys.
func CompareL4(a, b L4Key) int {
	return cmp.Or(
		cmp.Compare(a.Service.String(), b.Service.String()),
		cmp.Compare(a.Protocol, b.Protocol),
		cmp.Compare(a.Source.String(), b.Source.String()),
	)
}

// Dump returns the service and its backends as text.
func (s L4Service) Dump() string {
	var b strings.Builder
	fmt.Fprintf(&b, "l4 %s %s (%s)", s.Service, s.Protocol, s.Source)
	if s.LocalOnly {
		b.WriteString(" local-only")
	}
	if s.Affinity {
		b.WriteString(" affinity")
	}
	if s.Sources != nil {
		fmt.Fprintf(&b, " sources=%v", s.Sources)
	}
	b.WriteByte('\n')
	for _, l := range s.Listeners {
		fmt.Fprintf(&b, "  listener %s\n", l)
	}
	dumpHealth(&b, s.Health, Outlier{})
	dumpBackends(&b, s.Backends)
	return b.String()
}
