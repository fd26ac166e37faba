package balance

import (
	"time"

	"github.com/kerngate/kerngate/loader/state"
)

const (
	rampBits = 16
	rampFull = 1 << rampBits
	// rampLeast is the share that a backend begins with: a tenth, as in Envoy, so that it
	// gets anything to warm up by.
	rampLeast = rampFull / 10
)

// ramp says how far the backends of a group have come.
type ramp struct {
	group  *Group
	now    int64
	window time.Duration
}

// ramp returns one without a group if all backends of the group have been there for the whole window.
func (g *Group) ramp(now int64, window time.Duration) ramp {
	if g.newest == 0 || now-g.newest >= int64(window) {
		return ramp{}
	}
	return ramp{g, now, window}
}

// share returns the part of its own share that a backend gets, of rampFull.
func (r ramp) share(id state.BackendID) uint32 {
	at, ok := r.group.places[id]
	if !ok {
		return rampFull
	}
	m := &r.group.Members[at]
	if age := r.now - m.since; m.since != 0 && age < int64(r.window) {
		return max(rampLeast, uint32(float64(age)/float64(r.window)*rampFull))
	}
	return rampFull
}
