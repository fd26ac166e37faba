package balance

import (
	"sync/atomic"

	"github.com/kerngate/kerngate/loader/state"
)

// healthy reports whether nothing speaks against the backend. Where every backend of a
// service is ill, requests go to them all the same: a pod that may answer is better than
// none.
func (b *Balancer) healthy(id state.BackendID) bool {
	return int(id) < len(b.loads) && atomic.LoadUint32(&b.loads[id].Health) == 0
}
