package model

import (
	"cmp"
	"fmt"
	"net/netip"
)

// Published says at which addresses an object is published: what the list of addresses in its
// status is to be.
type Published struct {
	Object    ObjectRef
	Addresses []netip.Addr // not changed; objects share them
}

// Finding is what translation has found out about an object, as a condition of its status.
type Finding struct {
	Object ObjectRef
	Parent ObjectRef // what the object asks to be published by, such as a Gateway; zero: there is none
	// Section is the listener that is meant: of the object, if it has no parent, else of the parent
	// as the object names it. "": the whole. Port is that of the parent, if the object names one.
	Section    string
	Port       uint16
	Generation int64  // metadata.generation of the object when this was found; 0: not noted
	Condition  string // its type
	True       bool
	Reason     string // CamelCase, stable
	Message    string
}

// Compare orders by object, parent, section, port and condition.
func (f Finding) Compare(other Finding) int {
	return cmp.Or(f.Object.Compare(other.Object), f.Parent.Compare(other.Parent), cmp.Compare(f.Section, other.Section),
		cmp.Compare(f.Port, other.Port), cmp.Compare(f.Condition, other.Condition))
}

// String returns the finding on one line.
func (f Finding) String() string {
	text := f.Object.String()
	if f.Parent != (ObjectRef{}) {
		text += " at " + f.Parent.String()
	}
	if f.Section != "" {
		text += " listener " + f.Section
	}
	if f.Port != 0 {
		text += fmt.Sprintf(" port %d", f.Port)
	}
	return fmt.Sprintf("%s: %s=%t %s: %s", text, f.Condition, f.True, f.Reason, f.Message)
}

// Attached says of a listener of a Gateway which kinds of routes it takes and how many are attached.
type Attached struct {
	Gateway  ObjectRef
	Listener string
	Kinds    []string
	Routes   int
}

// Compare orders by Gateway and listener.
func (a Attached) Compare(other Attached) int {
	return cmp.Or(a.Gateway.Compare(other.Gateway), cmp.Compare(a.Listener, other.Listener))
}

// Statuses are what the status of objects is to say. What an object does not have here, its status
// does not say either.
type Statuses struct {
	Published []Published // those of one kind oldest first
	Findings  []Finding   // sorted
	Attached  []Attached  // sorted
}

// ConditionPublished is the type of the condition that says of a Service of the load balancer class
// whether all of its ports are published; where they are, ReasonPublished is the reason, else that of
// the problem.
const (
	ConditionPublished = "kerngate.dev/Published"
	ReasonPublished    = "Published"
)
