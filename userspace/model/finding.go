package model

import (
	"cmp"
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
	Object    ObjectRef
	Parent    ObjectRef // what the object asks to be published by, such as a Gateway; zero: there is none
	Condition string    // its type
	True      bool
	Reason    string // CamelCase, stable
	Message   string
}

// Compare orders by object, parent and condition.
func (f Finding) Compare(other Finding) int {
	return cmp.Or(f.Object.Compare(other.Object), f.Parent.Compare(other.Parent), cmp.Compare(f.Condition, other.Condition))
}

// Statuses are what the status of objects is to say. What an object does not have here, its status
// does not say either.
type Statuses struct {
	Published []Published // those of one kind oldest first
	Findings  []Finding   // sorted
}

// ConditionPublished is the type of the condition that says of a Service of the load balancer class
// whether all of its ports are published; where they are, ReasonPublished is the reason, else that of
// the problem.
const (
	ConditionPublished = "kerngate.dev/Published"
	ReasonPublished    = "Published"
)
