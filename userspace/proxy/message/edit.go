package message

import "github.com/kerngate/kerngate/userspace/proxy/message/chars"

// Passes reports whether a field of this lower-case name goes on to the next hop.
func (h *Head) Passes(lower string) bool {
	for i := range h.Fields {
		if f := &h.Fields[i]; !f.HopByHop && len(f.Name) == len(lower) && chars.EqualTokens(f.Name, []byte(lower)) {
			return true
		}
	}
	return false
}

// Drop keeps all fields of this lower-case name from going on to the next hop. What the
// proxy itself read of them stands.
func (h *Head) Drop(lower string) {
	for i := range h.Fields {
		if f := &h.Fields[i]; len(f.Name) == len(lower) && chars.EqualTokens(f.Name, []byte(lower)) {
			f.HopByHop = true
		}
	}
}

// Add adds a field that goes on to the next hop. name is a token and value has no control
// characters; both must stay as they are for as long as the head is in use.
func (h *Head) Add(name string, value []byte) {
	f := h.newField()
	f.Name, f.Value, f.ID, f.HopByHop = view(name), value, FieldIDOf(view(name)), false
	h.Present |= 1 << f.ID
}
