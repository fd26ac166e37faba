package compile

import (
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/model"
)

// With returns the node's settings with the members of the fabric as they are now: those of
// the source, unless the flags name them.
func (n Node) With(members []model.Member) Node {
	if n.Members == nil {
		n.Members = members
	}
	return n
}

// nodes returns what the maps must hold of the members.
func (n Node) nodes() (out []state.Node) {
	for _, m := range n.Members {
		out = append(out, state.Node{Name: m.Name, Addresses: m.Addresses, State: state.NodeState(m.State)})
	}
	return out
}

// reaches reports whether packets of L4 services may go to a backend: to those of this node,
// of other members with DSR, of any node with plain routing.
func (n Node) reaches(b model.Backend) bool {
	if b.Local || n.L4Remote {
		return true
	}
	if n.L4DSR {
		for _, m := range n.Members {
			if m.Name == b.Node {
				return true
			}
		}
	}
	return false
}
