package model

import (
	"fmt"
	"net/netip"
	"strings"
)

// Defence is what objects say about whose packets to the ingress addresses are dropped.
type Defence struct {
	Deny  []netip.Prefix // sorted
	Allow []netip.Prefix // exceptions from Deny, sorted

	// What one source may send; the agent's flags say what these do not.
	Packets     SourceLimit
	Connections SourceLimit
}

// SourceLimit is what one source may send.
type SourceLimit struct {
	Set       bool
	PerSecond uint32 // 0: any number
	Burst     uint32 // at once; 0: as many as in a second
}

func (l SourceLimit) dump(b *strings.Builder, what string) {
	if l.Set {
		fmt.Fprintf(b, "source %s per-second=%d burst=%d\n", what, l.PerSecond, l.Burst)
	}
}

func (d Defence) dump(b *strings.Builder) {
	for _, p := range d.Deny {
		fmt.Fprintf(b, "deny %s\n", p)
	}
	for _, p := range d.Allow {
		fmt.Fprintf(b, "allow %s\n", p)
	}
	d.Packets.dump(b, "packets")
	d.Connections.dump(b, "connections")
}
