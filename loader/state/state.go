// Package state is what the kernel maps must hold, as plain values. userspace/control/compile
// produces it; package loader makes the maps equal to it.
package state

import "net/netip"

// ServiceID, BackendID and WorkerID are indices into the maps; 0 is "none".
type (
	ServiceID uint32
	BackendID uint32
	WorkerID  uint32
)

// Protocol is an IP protocol number.
type Protocol uint8

const (
	TCP Protocol = 6
	UDP Protocol = 17
)

// Mode is what happens to connections of a listener. The values are enum kg_mode.
type Mode uint32

const (
	L7 Mode = 1
	L4 Mode = 2
)

// Listener is one published address, port and protocol.
type Listener struct {
	Address  netip.AddrPort
	Protocol Protocol
	Mode     Mode
	Service  string // Service.Name, L4 only; all of its backends are of Address's family
}

// Algorithm values are enum kg_algorithm.
type Algorithm uint16

const (
	P2C        Algorithm = 0
	RoundRobin Algorithm = 1
	Maglev     Algorithm = 2 // L4: by the hash of a flow, consistent when backends change
	EWMA       Algorithm = 3 // L7: by latency; for proxies alone
)

// Service is a named group of backends. Its id is the loader's business.
type Service struct {
	Name        string // "namespace/name:port", unique, shorter than 256 bytes
	Algorithm   Algorithm
	PreferLocal bool
	LocalOnly   bool           // never a backend of another node
	Affinity    bool           // Maglev: all flows of a client address go to one backend
	Sources     []netip.Prefix // Maglev: clients that are taken; nil: all
	Backends    []Backend      // sorted by Address
}

// Backend is one pod's port. Two services that name the same address, port and protocol
// share one entry in kg_backends, and so its load.
type Backend struct {
	Address  netip.AddrPort
	Protocol Protocol
	Node     string
	Local    bool
	Draining bool
	Weight   uint16 // 0 counts as 1
}

// NodeState values are enum kg_node_state.
type NodeState uint32

const (
	NodeServing  NodeState = 1
	NodeDraining NodeState = 2 // keeps its connections, gets no new ones
	NodeUnready  NodeState = 3 // the same, and may be dead
)

// Node is a node that runs Kerngate, this one among them.
type Node struct {
	Name      string
	Addresses []netip.Addr // where other nodes hand it packets; one of a family counts
	State     NodeState
}

// MostPerSecond is the greatest limit that can be kept.
const MostPerSecond = 10_000_000

// Limit is how many of something a source may send.
type Limit struct {
	PerSecond uint32 // 0: no limit
	Burst     uint32 // at once; 0: as many as in a second
}

// Defence is what one source may send to the ingress addresses.
type Defence struct {
	Packets     Limit
	Connections Limit // new ones: TCP's SYN, first datagrams
	PrefixV4    uint8 // bits of an address that make the source; 0: 32
	PrefixV6    uint8 // 0: 64
}

// State is the whole of what the maps must hold.
type State struct {
	Addresses []netip.Addr   // ingress addresses, sorted
	Listeners []Listener     // sorted by Address, Protocol
	Services  []Service      // sorted by Name
	Deny      []netip.Prefix // sources whose packets to an ingress address are dropped
	Allow     []netip.Prefix // exceptions from Deny
	Defence   Defence
	Nodes     []Node // sorted by Name
}
