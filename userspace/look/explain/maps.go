package explain

import (
	"net/netip"
	"time"
)

// Maps is what the kernel maps of a node hold, as plain values: what kerngatectl shows
// and what an explanation is drawn from. Nil slices mean empty maps.
type Maps struct {
	ABI         uint32       `json:"abi"`
	Serving     uint32       `json:"serving"` // generation that gets new connections, 0: none
	Listeners   []Listener   `json:"listeners"`
	Generations []Generation `json:"generations"`
	Services    []Service    `json:"services"`
	Backends    []Backend    `json:"backends"`
	Deny        []Prefix     `json:"deny"`
	Allow       []Prefix     `json:"allow"`
	Counters    []Counter    `json:"counters"`
}

// Listener is one published address, port and protocol.
type Listener struct {
	Address  netip.AddrPort `json:"address"`
	Protocol string         `json:"protocol"`          // "TCP" or "UDP"
	Mode     string         `json:"mode"`              // "L7" or "L4"
	Service  string         `json:"service,omitempty"` // L4
}

// Generation is one proxy as the kernel sees it.
type Generation struct {
	Number  uint32   `json:"number"`
	State   string   `json:"state"` // starting, serving, draining
	Workers []Worker `json:"workers"`
}

// Worker is one reactor of a proxy.
type Worker struct {
	ID          uint32 `json:"id"`
	Connections uint32 `json:"connections"`
	Pending     uint32 `json:"pending"`
	Accepted    uint64 `json:"accepted"`
	BusyMS      uint64 `json:"busyMillis"` // since it last waited for events, 0: waiting
	Hung        bool   `json:"hung"`       // so long that the kernel passes it over
	Sockets     int    `json:"sockets"`    // of its listening sockets in kg_sockets, -1: not known
}

// Service is one entry of kg_services.
type Service struct {
	ID          uint32   `json:"id"`
	Name        string   `json:"name"`
	Algorithm   string   `json:"algorithm"`
	PreferLocal bool     `json:"preferLocal,omitempty"`
	LocalOnly   bool     `json:"localOnly,omitempty"`  // L4: no pods of other nodes
	Affinity    bool     `json:"affinity,omitempty"`   // L4: a client's connections stay together
	Restricted  bool     `json:"restricted,omitempty"` // L4: some sources alone
	Block       Block    `json:"block"`
	Backends    []uint32 `json:"backends"` // ids in the order of the block's slots
}

// Block is where a service's backend ids stand in kg_slots.
type Block struct {
	Offset     uint32 `json:"offset"`
	Count      uint16 `json:"count"`
	Generation uint16 `json:"generation"` // raised by each publication
}

// Backend is one entry of kg_backends with its load, added up over the generations.
type Backend struct {
	ID        uint32         `json:"id"`
	Address   netip.AddrPort `json:"address"`
	Protocol  string         `json:"protocol"`
	Local     bool           `json:"local,omitempty"`
	Draining  bool           `json:"draining,omitempty"`
	Weight    uint16         `json:"weight"`
	InFlight  uint64         `json:"inFlight"`
	Requests  uint64         `json:"requests"` // by the proxies that exist now
	Failures  uint64         `json:"failures"`
	LatencyUS uint32         `json:"latencyMicros"` // moving average of time to first byte
	Ill       []string       `json:"ill,omitempty"` // "ejected", "check": what the serving proxy has found
	IllFor    time.Duration  `json:"illForNanos,omitempty"`
	Ignored   bool           `json:"illIgnored,omitempty"` // too many are ill: it gets requests all the same
}

// Prefix is one entry of kg_deny or kg_allow.
type Prefix struct {
	Prefix netip.Prefix `json:"prefix"`
	Source string       `json:"source"` // "config", "operator" or "config,operator"
}

// Counter is one reason for which a kernel program ended, and how often.
type Counter struct {
	Program string `json:"program"`
	Reason  string `json:"reason"`
	Count   uint64 `json:"count"`
}

// generation returns the serving generation.
func (m *Maps) generation() *Generation {
	for i := range m.Generations {
		if m.Serving != 0 && m.Generations[i].Number == m.Serving {
			return &m.Generations[i]
		}
	}
	return nil
}

func (m *Maps) service(name string) *Service {
	for i := range m.Services {
		if m.Services[i].Name == name {
			return &m.Services[i]
		}
	}
	return nil
}

func (m *Maps) backend(id uint32) *Backend {
	for i := range m.Backends {
		if m.Backends[i].ID == id {
			return &m.Backends[i]
		}
	}
	return nil
}
