package exchange

import (
	"errors"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
)

// spliceFrom is how much of a body must be left for splice(2) to pay: below, its two
// system calls per piece cost more than the copy. Measured, see docs/performance.md.
const spliceFrom = 128 << 10

// spliceable reports whether the rest of the response's body is worth splicing.
func (x *Exchange) spliceable() bool {
	if x.attempt.phase != passBody || x.noPipe || x.tunnel.on || x.packing.stream != nil || x.response.replacing != nil || x.paced() {
		return false
	}
	from, n := x.attempt.up.Source()
	return from != nil && n >= spliceFrom && x.down.Sink() != nil
}

func (x *Exchange) openDownload() bool {
	from, n := x.attempt.up.Source()
	if x.attempt.download.Open(from, x.down.Sink(), n) != nil {
		x.noPipe = true // no pipe to be had: copy instead
		return false
	}
	return true
}

// spliceResponse moves the rest of the response's body.
func (x *Exchange) spliceResponse(before bool) (moved bool, reason Reason, ok bool) {
	if x.restsResponse() {
		return before, 0, true
	}
	sent := x.attempt.download.Sent
	moved, err := x.attempt.download.Move(reactor.Quantum)
	x.turns.response.AddSpliced(x.worker.Loop, x.attempt.download.Sent-sent)
	x.down.Sent(x.attempt.download.Sent - sent)
	x.attempt.up.Took(x.attempt.download.Sent - sent)
	moved = moved || before
	if err != nil {
		var e *reactor.SpliceError
		if errors.As(err, &e) && e.Source {
			return moved, UpstreamAborted, false
		}
		return moved, ClientAborted, false
	}
	if x.attempt.download.Done() {
		x.attempt.download.Close()
		x.end()
		return true, 0, true
	}
	return moved, 0, true
}

// openUpload starts to splice the rest of the request's body if that is worth it.
func (x *Exchange) openUpload() bool {
	if x.noPipe || x.tunnel.on || x.mirroring.on || x.body.store.unread() {
		return false
	}
	from, n := x.down.Source()
	if from == nil || n < spliceFrom {
		return false
	}
	to := x.attempt.up.Sink()
	if to == nil {
		return false
	}
	if x.body.store.open {
		x.body.store.pass(&x.worker.Loop.Buffers) // what was held is sent, and what follows passes it by: no rewind
	}
	if x.attempt.upload.Open(from, to, n) != nil {
		x.noPipe = true
		return false
	}
	return true
}

// spliceRequest moves the rest of the request's body.
func (x *Exchange) spliceRequest(before bool) (moved bool, reason Reason, ok bool) {
	if x.restsRequest() {
		return before, 0, true
	}
	sent := x.attempt.upload.Sent
	moved, err := x.attempt.upload.Move(reactor.Quantum)
	x.turns.request.AddSpliced(x.worker.Loop, x.attempt.upload.Sent-sent)
	x.down.Took(x.attempt.upload.Sent - sent)
	x.body.slow.spliced += x.attempt.upload.Sent - sent
	moved = moved || before
	if err != nil {
		var e *reactor.SpliceError
		if errors.As(err, &e) && e.Source {
			return moved, ClientAborted, false
		}
		// The pod may have answered before it closed: see what it said.
		x.attempt.upload.Close()
		x.attempt.sent, x.attempt.ended, x.attempt.deaf = true, true, true
		return moved, 0, true
	}
	if x.attempt.upload.Done() {
		x.attempt.upload.Close()
		x.attempt.sent, x.attempt.ended = true, true
		return true, 0, true
	}
	return moved, 0, true
}
