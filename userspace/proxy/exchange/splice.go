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
	if x.phase != passBody || x.noSplice || x.tunnel || x.packed != nil || x.rules.replacing != nil || x.paced() {
		return false
	}
	from, n := x.up.Source()
	return from != nil && n >= spliceFrom && x.down.Sink() != nil
}

func (x *Exchange) openDownload() bool {
	from, n := x.up.Source()
	if x.download.Open(from, x.down.Sink(), n) != nil {
		x.noSplice = true // no pipe to be had: copy instead
		return false
	}
	return true
}

// spliceResponse moves the rest of the response's body.
func (x *Exchange) spliceResponse(before bool) (moved bool, reason Reason, ok bool) {
	if x.restsResponse() {
		return before, 0, true
	}
	sent := x.download.Sent
	moved, err := x.download.Move(reactor.Quantum)
	x.turns.response.AddSpliced(x.worker.Loop, x.download.Sent-sent)
	x.down.Sent(x.download.Sent - sent)
	x.up.Took(x.download.Sent - sent)
	moved = moved || before
	if err != nil {
		var e *reactor.SpliceError
		if errors.As(err, &e) && e.Source {
			return moved, UpstreamAborted, false
		}
		return moved, ClientAborted, false
	}
	if x.download.Done() {
		x.download.Close()
		x.end()
		return true, 0, true
	}
	return moved, 0, true
}

// openUpload starts to splice the rest of the request's body if that is worth it.
func (x *Exchange) openUpload() bool {
	if x.noSplice || x.tunnel || x.rules.copying || x.body.unread() {
		return false
	}
	from, n := x.down.Source()
	if from == nil || n < spliceFrom {
		return false
	}
	to := x.up.Sink()
	if to == nil {
		return false
	}
	if x.body.open {
		x.freeBody() // what was held is sent, and what follows passes it by: no rewind
	}
	if x.upload.Open(from, to, n) != nil {
		x.noSplice = true
		return false
	}
	return true
}

// spliceRequest moves the rest of the request's body.
func (x *Exchange) spliceRequest(before bool) (moved bool, reason Reason, ok bool) {
	if x.restsRequest() {
		return before, 0, true
	}
	sent := x.upload.Sent
	moved, err := x.upload.Move(reactor.Quantum)
	x.turns.request.AddSpliced(x.worker.Loop, x.upload.Sent-sent)
	x.down.Took(x.upload.Sent - sent)
	x.slow.spliced += x.upload.Sent - sent
	moved = moved || before
	if err != nil {
		var e *reactor.SpliceError
		if errors.As(err, &e) && e.Source {
			return moved, ClientAborted, false
		}
		// The pod may have answered before it closed: see what it said.
		x.upload.Close()
		x.reqDone, x.reqEnded, x.upFailed = true, true, true
		return moved, 0, true
	}
	if x.upload.Done() {
		x.upload.Close()
		x.reqDone, x.reqEnded = true, true
		return true, 0, true
	}
	return moved, 0, true
}
