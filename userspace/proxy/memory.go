package proxy

import (
	"runtime"
	"runtime/debug"
	"time"
)

// trimTime is how long memory that is given back waits for a worker.
const trimTime = time.Second

// giveBack has the workers let go of what a crowd that has left has used, and gives that to the
// kernel.
func (p *Proxy) giveBack() {
	late := time.After(trimTime)
	for _, w := range p.running() {
		done := make(chan struct{})
		w.loop.Submit(func() {
			w.loop.Trim()
			close(done)
		})
		select {
		case <-done:
		case <-w.done:
		case <-late: // it hangs: what others have let go of is worth it, too
		}
	}
	runtime.GC() // what a sync.Pool holds goes with the second collection, which the next line is
	debug.FreeOSMemory()
}
