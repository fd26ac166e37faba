// Package loader owns everything of Kerngate that lives in the kernel: it loads the
// programs, pins their maps, attaches them, takes over what an earlier agent left, and
// makes the maps hold what package state says. Nothing else imports cilium/ebpf.
//
// What it made survives it: maps, links and routes stay in force when the agent ends, so
// traffic goes on. Uninstall takes them away.
//
// The packages below it: datapath has the compiled programs and the types of their maps, pins the
// folder in which both outlive the agent, attach the interfaces and sockets where programs run,
// lists the prefix lists, inspect what onlookers read; registry, fabric and sieve compute what maps
// hold. This one has the Datapath, in which an agent has all of them at once.
package loader

import (
	"errors"
	"fmt"

	"github.com/rs/zerolog"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/attach"
	"github.com/kerngate/kerngate/loader/pins"
)

// DefaultBPFFS is where the maps and links are pinned.
const DefaultBPFFS = pins.DefaultBPFFS

// Options are what an agent decides at its start. Zero values mean the defaults.
type Options struct {
	BPFFS      string         // folder of the pins, on a bpf file system; DefaultBPFFS
	Interfaces []string       // uplinks that get kg_xdp
	XDPMode    attach.XDPMode // attach.XDPAuto
	L4Hook     attach.L4Hook  // attach.L4Auto

	// Let programs that listen on all addresses answer at ingress addresses too.
	OpenAddresses bool
	Lax           bool // let packets pass that no honest host sends; see bpf/strict.h
	Notrack       bool // connections that the proxy serves bypass connection tracking

	SkMsg SkMsg

	SynCookies SynCookies // SynCookiesAuto
	SynRate    int        // SYNs a second on one CPU that are taken for a flood; 0: DefaultSynRate

	// Packets between nodes.
	Node       string // this node's name
	TunnelPort uint16 // UDP port at which nodes hand each other packets; 0: they do not
	DSR        bool   // hand packets to pods of other nodes to their nodes
	Fabric     bool   // hand packets of other nodes' connections to them

	// Sizes of the maps. Maps that exist already keep theirs.
	MaxServices int // twice as many in kg_listeners, a quarter in kg_addresses
	MaxBackends int
	MaxSlots    int
	MaxPrefixes int // in each of kg_deny and kg_allow
	MaxSources  int // in kg_rate: two cells per source that is limited
	MaxFlows    int // in kg_flows: two per L4 connection; half of it in kg_loose, a quarter in kg_opening

	Log zerolog.Logger
}

// complete returns the options with defaults filled in, or what is wrong with them.
func (o Options) complete() (Options, error) {
	if o.BPFFS == "" {
		o.BPFFS = DefaultBPFFS
	}
	switch o.XDPMode {
	case "":
		o.XDPMode = attach.XDPAuto
	case attach.XDPAuto, attach.XDPNative, attach.XDPGeneric, attach.XDPOff:
	default:
		return o, fmt.Errorf("xdp mode %q is none of auto, native, generic, off", o.XDPMode)
	}
	switch o.L4Hook {
	case "":
		o.L4Hook = attach.L4Auto
	case attach.L4Auto, attach.L4XDP, attach.L4TC:
	default:
		return o, fmt.Errorf("l4 hook %q is none of auto, xdp, tc", o.L4Hook)
	}
	switch o.SynCookies {
	case "":
		o.SynCookies = SynCookiesAuto
	case SynCookiesAuto, SynCookiesAlways, SynCookiesOff:
	default:
		return o, fmt.Errorf("syn cookies %q is none of auto, always, off", o.SynCookies)
	}
	if o.SynRate == 0 {
		o.SynRate = DefaultSynRate
	}
	if o.SynRate < 10 || o.SynRate > 1<<24 {
		return o, fmt.Errorf("syn rate %d is not between 10 and %d", o.SynRate, 1<<24)
	}
	if (o.DSR || o.Fabric) && (o.TunnelPort == 0 || o.Node == "") {
		return o, errors.New("to hand packets to other nodes takes a port and the name of this node")
	}
	if !o.DSR && !o.Fabric {
		o.TunnelPort = 0
	}
	for _, size := range []struct {
		flag   string
		value  *int
		normal int
		most   int
	}{
		{"max-services", &o.MaxServices, abi.Services, 1 << 20},
		{"max-backends", &o.MaxBackends, abi.Backends, 1 << 20},
		{"max-slots", &o.MaxSlots, abi.Slots, 1 << 26},
		{"max-prefixes", &o.MaxPrefixes, abi.Prefixes, 1 << 24},
		{"max-sources", &o.MaxSources, abi.Rates, 1 << 26},
		{"max-flows", &o.MaxFlows, abi.Flows, 1 << 26},
	} {
		if *size.value == 0 {
			*size.value = size.normal
		}
		// Id 0 is never given away, so a table of one holds nothing.
		if *size.value < 2 || *size.value > size.most {
			return o, fmt.Errorf("--%s %d is not between 2 and %d", size.flag, *size.value, size.most)
		}
	}
	return o, nil
}

// ErrLocked says that another agent has these pins.
var ErrLocked = pins.ErrLocked
