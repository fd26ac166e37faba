package model

import (
	"fmt"
	"net/netip"
)

// MemberState is what a node of the fabric does.
type MemberState uint8

const (
	Serving  MemberState = 1 // takes new connections
	Leaving  MemberState = 2 // keeps the connections that it has
	NotReady MemberState = 3 // the same, but it may be dead
)

// String returns "serving", "draining" or "not ready".
func (s MemberState) String() string {
	switch s {
	case Serving:
		return "serving"
	case Leaving:
		return "draining"
	}
	return "not ready"
}

// Member is a node that runs Kerngate, and to which others can hand packets.
type Member struct {
	Name      string       // of the node
	Addresses []netip.Addr // sorted, at most one of each family
	State     MemberState
}

// String returns the member as a line of text.
func (m Member) String() string { return fmt.Sprintf("%s %v %s", m.Name, m.Addresses, m.State) }
