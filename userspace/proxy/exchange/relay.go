package exchange

import (
	"io"

	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
)

// relay moves the request to the pod and its response to the client. It reports again if
// the pod has left the request as it was, so that it may be sent once more.
func (x *Exchange) relay() (reason Reason, again bool) {
	x.begin()
	for {
		sent, reason, ok := x.moveRequest()
		if !ok {
			return reason, false
		}
		got, reason, ok := x.moveResponse()
		if !ok {
			return reason, x.mayRepeat(reason)
		}
		if x.phase == finished && !x.down.Pending() && (x.reqDone || !x.tunnel) {
			return Forwarded, false
		}
		if sent || got {
			continue
		}
		if reason, ok := x.park(); !ok {
			return reason, reason == UpstreamTimeout && x.mayRepeat(reason)
		}
	}
}

// begin queues the request's head.
func (x *Exchange) begin() {
	x.phase, x.interims, x.repeat = awaitHead, http1.Interims{}, repeatNone
	x.up.Begin()
	x.reqEnded = !x.Request.HasBody()
	x.reqDone, x.upFailed = false, false
	x.bodyBytes = 0
}

// moveRequest sends as much of the request as there is and the pod takes. It reports false
// if the exchange is over for the given reason.
func (x *Exchange) moveRequest() (moved bool, reason Reason, ok bool) {
	if x.reqDone {
		return false, 0, true
	}
	for {
		if x.upload.IsOpen() {
			return x.spliceRequest(moved)
		}
		starved := false
		if !x.reqEnded && !x.up.Pending() && !x.restsRequest() && x.openUpload() {
			continue
		}
		if !x.reqEnded && x.restsRequest() {
			starved = true
		} else if !x.reqEnded && !x.up.Blocked() {
			p, err := x.readBody()
			switch {
			case err == nil:
				moved = true
				x.turns.request.Add(x.worker.Loop, len(p))
				if !x.takeBody(p) {
					return moved, BodyTooLarge, false
				}
				continue
			case err == io.EOF:
				moved = true
				x.reqEnded = true
				x.sendCopies()
				x.up.End(x.requestTrailers())
			case err == reactor.ErrWouldBlock:
				starved = true
			default:
				return moved, x.clientFault(err), false
			}
		}
		if x.up.Pending() {
			switch err := x.up.Flush(); {
			case err == nil:
				moved = true
			case err == reactor.ErrWouldBlock:
				return moved, 0, true
			default:
				// The pod may have answered before it closed: see what it said.
				x.reqDone, x.reqEnded, x.upFailed = true, true, true
				return moved, 0, true
			}
		}
		switch {
		case x.reqEnded && x.tunnel && !x.upClosed:
			x.upClosed = true
			x.up.CloseWrite()
			x.reqDone = true
			return true, 0, true
		case x.reqEnded:
			x.reqDone = true
			x.bodySent()
			return moved, 0, true
		case starved:
			return moved, 0, true
		}
	}
}

// takeBody queues a piece of the request's body. It reports false if the body is too large.
func (x *Exchange) takeBody(p []byte) bool {
	x.bodyBytes += int64(len(p))
	if x.tooLarge(x.bodyBytes) && !x.tunnel {
		return false
	}
	if x.webSocket {
		x.toPod.pass(p)
	}
	x.copyBody(p)
	x.up.WriteBody(p)
	return true
}

func (x *Exchange) clientFault(err error) Reason {
	switch e := err.(type) {
	case *http1.Error:
		x.Outcome.Detail, x.badStatus = e.Reason, e.Status
		return BadRequest
	case *spoolFault:
		x.Outcome.Detail = e.detail
		return SpoolFailed
	}
	return ClientAborted
}

// moveResponse passes on as much of the response as there is and the client takes. It
// reports false if the exchange is over for the given reason.
func (x *Exchange) moveResponse() (moved bool, reason Reason, ok bool) {
	for {
		if x.download.IsOpen() {
			return x.spliceResponse(moved)
		}
		if x.phase == finished && !x.down.Pending() {
			return moved, 0, true
		}
		if x.down.Blocked() || x.phase == finished {
			switch err := x.down.Flush(); {
			case err == nil:
				moved = true
				if x.phase == finished && x.tunnel {
					x.down.CloseWrite()
				}
				continue
			case err == reactor.ErrWouldBlock:
				return moved, 0, true
			default:
				return moved, ClientAborted, false
			}
		}
		if x.spliceable() {
			switch err := x.down.Flush(); {
			case err == reactor.ErrWouldBlock:
				return moved, 0, true
			case err != nil:
				return moved, ClientAborted, false
			}
			if x.openDownload() {
				continue
			}
		}
		if x.holdsBack() || x.restsPacking() || x.restsResponse() {
			if x.down.Pending() {
				if err := x.down.Flush(); err != nil && err != reactor.ErrWouldBlock {
					return moved, ClientAborted, false
				}
			}
			return moved, 0, true
		}
		switch err := x.receive(); {
		case err == nil:
			moved = true
		case err == reactor.ErrWouldBlock:
			// Nothing more to come for now: what is queued goes out.
			if x.down.Pending() {
				if err := x.down.Flush(); err != nil && err != reactor.ErrWouldBlock {
					return moved, ClientAborted, false
				}
			}
			return moved, 0, true
		default:
			return moved, x.podFault(err), false
		}
	}
}

// receive takes the next piece of the response and queues it for the client.
func (x *Exchange) receive() error {
	if x.phase == awaitHead {
		r, err := x.up.ReadHead()
		if err != nil {
			return err
		}
		return x.head(r)
	}
	p, err := x.up.ReadBody()
	x.turns.response.Add(x.worker.Loop, len(p))
	if x.rules.replacing != nil {
		p = x.rules.replacing.Next(p, err == io.EOF)
	}
	if x.packed != nil {
		err = x.pack(p, err)
	} else if len(p) > 0 {
		if x.webSocket {
			x.toClient.pass(p)
		}
		x.down.WriteBody(p)
		x.rules.pacing.sent += uint64(len(p))
	}
	if err == io.EOF {
		x.end()
		return nil
	}
	return err
}

// head acts on a response head.
func (x *Exchange) head(r *http1.Response) error {
	if x.firstByte == 0 {
		x.firstByte = x.worker.Loop.Clock()
	}
	x.Outcome.Status = r.Status
	switch {
	case r.Status == 101:
		if !x.upgrades() || !x.asksFor(r.Upgrade) {
			return &fault{reason: UpstreamInvalid, detail: "unasked_upgrade"}
		}
		x.responded = true
		x.down.Respond(r)
		x.down.Tunnel()
		x.up.Tunnel()
		x.reqDone, x.reqEnded = false, false
		x.beginTunnel(r.Upgrade)
		x.phase = passBody
		return nil
	case r.Interim():
		if !x.interims.Take(x.worker.Loop.Clock()) {
			return &fault{reason: UpstreamInvalid, detail: "too_many_interim_responses"}
		}
		if x.Request.Minor > 0 {
			x.down.Inform(r)
		}
		return nil
	}
	if x.retriesStatus(r.Status) {
		return errRetriedStatus
	}
	if x.intercepts(r.Status) {
		x.noteChallenge(r)
		return &fault{reason: Intercepted}
	}
	x.responded = true
	x.bodySent()
	x.rules.pacing = pacing{began: x.worker.Loop.Clock()}
	x.editResponse(r)
	x.makeRoomForTrailers(r)
	x.keep(r)
	if x.grpc {
		x.noteGRPC(r.Fields)
		x.openEnded = r.Body == http1.BodyChunked
	}
	x.substitute(r)
	x.compress(r)
	if r.Present.Has(http1.FieldTrailer) && !x.passesTrailers() {
		r.Drop("trailer")
	}
	x.down.Respond(r)
	x.phase = passBody
	return nil
}

// end queues the end of the response, and gives the connection to the pod back for reuse
// if the request is complete, too.
func (x *Exchange) end() {
	trailers := x.up.Trailers()
	if x.grpc {
		x.noteGRPC(trailers)
	}
	x.down.End(x.responseTrailers(trailers))
	x.phase = finished
	if x.tunnel && !x.down.Pending() {
		x.down.CloseWrite()
	}
	if x.reqDone && !x.upFailed {
		x.up.Finish()
	}
}

// park waits until either side can go on. It reports false if the exchange is over.
func (x *Exchange) park() (Reason, bool) {
	s := &x.conf.Settings
	var up, down reactor.Interest
	timeout := x.patience(x.readTimeout())
	late := UpstreamTimeout
	if !x.reqDone {
		switch {
		case x.up.Pending():
			up |= reactor.Writable
			timeout = x.patience(x.sendTimeout())
		case x.body.file.waits():
			timeout, late = x.patience(s.BodyTimeout), SpoolFailed
		default:
			down |= reactor.Readable
			timeout, late = x.bodyTimeout(), ClientTimeout
		}
	}
	if x.down.Pending() {
		down |= reactor.Writable
		timeout, late = s.ResponseTimeout, ClientAborted
	}
	if !x.down.Blocked() && x.phase != finished {
		up |= reactor.Readable
	}
	if x.upload.IsOpen() {
		down, up = x.upload.Wants()
		if up != 0 {
			timeout, late = x.patience(x.sendTimeout()), UpstreamTimeout
		}
		if !x.down.Blocked() {
			up |= reactor.Readable
		}
	}
	if x.download.IsOpen() {
		from, to := x.download.Wants()
		up, down = up|from, down|to
		if to != 0 {
			late = ClientAborted
		}
	}
	if x.tunnel {
		timeout, late = s.TunnelTimeout, UpstreamTimeout
	}
	held := x.rules.pacing.wait > 0 && x.phase == passBody
	if held && up&reactor.Readable != 0 {
		up &^= reactor.Readable
		timeout = min(timeout, x.rules.pacing.wait)
	}
	may, ended := x.mayAsk()
	if may {
		down |= reactor.Readable // its end, too
	}
	ended = ended && timeout > probeAfter
	if ended {
		timeout = probeAfter
	}
	x.arm(timeout)
	x.down.Want(down)
	x.up.Want(up)
	since := x.worker.Loop.Now()
	x.co.Park()
	slow := late == ClientTimeout && x.waitedForBody(since, x.bodyBytes)
	switch {
	case x.co.Dying(), x.down.Broken():
		return ClientAborted, false
	case x.tunnel && (x.timedOut || x.leaving):
		x.sayGoodbye()
		return Forwarded, false
	case x.timedOut && ended:
		x.askClient()
		return 0, true
	case x.timedOut && held && timeout == x.rules.pacing.wait:
		return 0, true
	case x.timedOut:
		return late, false
	case slow:
		return ClientTimeout, false
	}
	return 0, true
}
