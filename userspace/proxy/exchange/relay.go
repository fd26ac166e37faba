package exchange

import (
	"io"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
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
		if x.attempt.phase == finished && !x.down.Pending() && (x.attempt.sent || !x.tunnel.on) {
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
	x.attempt.up.Begin()
	x.attempt.ended = !x.Request.HasBody()
}

// moveRequest sends as much of the request as there is and the pod takes. It reports false
// if the exchange is over for the given reason.
func (x *Exchange) moveRequest() (moved bool, reason Reason, ok bool) {
	if x.attempt.sent {
		return false, 0, true
	}
	for {
		if x.attempt.upload.IsOpen() {
			return x.spliceRequest(moved)
		}
		starved := false
		if !x.attempt.ended && !x.attempt.up.Pending() && !x.restsRequest() && x.openUpload() {
			continue
		}
		if !x.attempt.ended && x.restsRequest() {
			starved = true
		} else if !x.attempt.ended && !x.attempt.up.Blocked() {
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
				x.attempt.ended = true
				x.sendCopies()
				x.attempt.up.End(x.requestTrailers())
			case err == reactor.ErrWouldBlock:
				starved = true
			default:
				return moved, x.clientFault(err), false
			}
		}
		if x.attempt.up.Pending() {
			switch err := x.attempt.up.Flush(); {
			case err == nil:
				moved = true
			case err == reactor.ErrWouldBlock:
				return moved, 0, true
			default:
				// The pod may have answered before it closed: see what it said.
				x.attempt.sent, x.attempt.ended, x.attempt.deaf = true, true, true
				return moved, 0, true
			}
		}
		switch {
		case x.attempt.ended && x.tunnel.on && !x.tunnel.closed:
			x.tunnel.closed = true
			x.attempt.up.CloseWrite()
			x.attempt.sent = true
			return true, 0, true
		case x.attempt.ended:
			x.attempt.sent = true
			x.bodySent()
			return moved, 0, true
		case starved:
			return moved, 0, true
		}
	}
}

// takeBody queues a piece of the request's body. It reports false if the body is too large.
func (x *Exchange) takeBody(p []byte) bool {
	x.attempt.bytes += int64(len(p))
	if x.bounds().tooLarge(x.attempt.bytes) && !x.tunnel.on {
		return false
	}
	if x.tunnel.webSocket {
		x.tunnel.toPod.pass(p)
	}
	if m := &x.mirroring; m.on && !m.keep(p, x.attempt.bytes == int64(len(p))) {
		x.worker.Metrics.Mirrored[CopyTooLong].Add(uint64(len(x.rules.policy.Mirrors)))
	}
	x.attempt.up.WriteBody(p)
	return true
}

func (x *Exchange) clientFault(err error) Reason {
	switch e := err.(type) {
	case *message.Error:
		x.Outcome.Detail, x.reply.badRequest = e.Reason, e.Status
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
		if x.attempt.download.IsOpen() {
			return x.spliceResponse(moved)
		}
		if x.attempt.phase == finished && !x.down.Pending() {
			return moved, 0, true
		}
		if x.down.Blocked() || x.attempt.phase == finished {
			switch err := x.down.Flush(); {
			case err == nil:
				moved = true
				if x.attempt.phase == finished && x.tunnel.on {
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
	if x.attempt.phase == awaitHead {
		r, err := x.attempt.up.ReadHead()
		if err != nil {
			return err
		}
		return x.takeHead(r)
	}
	p, err := x.attempt.up.ReadBody()
	x.turns.response.Add(x.worker.Loop, len(p))
	if x.response.replacing != nil {
		p = x.response.replacing.Next(p, err == io.EOF)
	}
	if x.packing.stream != nil {
		p, err = x.packing.pack(p, err, x.worker.Loop.Now())
	}
	if len(p) > 0 {
		if x.tunnel.webSocket {
			x.tunnel.toClient.pass(p)
		}
		x.down.WriteBody(p)
		x.response.pacing.sent += uint64(len(p))
	}
	if err == io.EOF {
		x.end()
		return nil
	}
	return err
}

// takeHead acts on a response head.
func (x *Exchange) takeHead(r *message.Response) error {
	if x.attempt.firstByte == 0 {
		x.attempt.firstByte = x.worker.Loop.Clock()
	}
	x.Outcome.Status = r.Status
	switch {
	case r.Status == 101:
		if !upgrades(x.Request) || !asksFor(x.Request, r.Upgrade) {
			return &fault{reason: UpstreamInvalid, detail: "unasked_upgrade"}
		}
		x.response.begun = true
		x.down.Respond(r)
		x.down.Tunnel()
		x.attempt.up.Tunnel()
		x.attempt.sent, x.attempt.ended = false, false
		x.beginTunnel(r.Upgrade)
		x.attempt.phase = passBody
		return nil
	case r.Interim():
		if !x.attempt.interims.Take(x.worker.Loop.Clock()) {
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
	x.response.begun = true
	x.bodySent()
	x.response.pacing = pacing{began: x.worker.Loop.Clock()}
	x.editResponse(r)
	x.makeRoomForTrailers(r)
	x.keep(r)
	if x.call.on {
		x.Outcome.noteGRPC(r.Fields)
		x.call.openEnded = r.Body == message.BodyChunked
	}
	x.substitute(r)
	x.compress(r)
	if r.Present.Has(message.FieldTrailer) && !x.passesTrailers() {
		r.Drop("trailer")
	}
	x.down.Respond(r)
	x.attempt.phase = passBody
	return nil
}

// end queues the end of the response, and gives the connection to the pod back for reuse
// if the request is complete, too.
func (x *Exchange) end() {
	trailers := x.attempt.up.Trailers()
	if x.call.on {
		x.Outcome.noteGRPC(trailers)
	}
	x.down.End(x.responseTrailers(trailers))
	x.attempt.phase = finished
	if x.tunnel.on && !x.down.Pending() {
		x.down.CloseWrite()
	}
	if x.attempt.sent && !x.attempt.deaf {
		x.attempt.up.Finish()
	}
}

// park waits until either side can go on. It reports false if the exchange is over.
func (x *Exchange) park() (Reason, bool) {
	s, b := &x.conf.Settings, x.bounds()
	var up, down reactor.Interest
	timeout := b.patience(b.readTimeout())
	late := UpstreamTimeout
	if !x.attempt.sent {
		switch {
		case x.attempt.up.Pending():
			up |= reactor.Writable
			timeout = b.patience(b.sendTimeout())
		case x.body.store.file.waits():
			timeout, late = b.patience(s.BodyTimeout), SpoolFailed
		default:
			down |= reactor.Readable
			timeout, late = b.bodyTimeout(x.call.on || x.response.begun), ClientTimeout
		}
	}
	if x.down.Pending() {
		down |= reactor.Writable
		timeout, late = s.ResponseTimeout, ClientAborted
	}
	if !x.down.Blocked() && x.attempt.phase != finished {
		up |= reactor.Readable
	}
	if x.attempt.upload.IsOpen() {
		down, up = x.attempt.upload.Wants()
		if up != 0 {
			timeout, late = b.patience(b.sendTimeout()), UpstreamTimeout
		}
		if !x.down.Blocked() {
			up |= reactor.Readable
		}
	}
	if x.attempt.download.IsOpen() {
		from, to := x.attempt.download.Wants()
		up, down = up|from, down|to
		if to != 0 {
			late = ClientAborted
		}
	}
	if x.tunnel.on {
		timeout, late = s.TunnelTimeout, UpstreamTimeout
	}
	reads := x.down.Pending() || x.attempt.download.IsOpen() && down&reactor.Writable != 0
	if reads && x.takesTooLittle() {
		return ClientSlow, false
	}
	held := x.response.pacing.wait > 0 && x.attempt.phase == passBody
	if held && up&reactor.Readable != 0 {
		up &^= reactor.Readable
		timeout = min(timeout, x.response.pacing.wait)
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
	x.attempt.up.Want(up)
	since := x.worker.Loop.Now()
	x.co.Park()
	slow := late == ClientTimeout && x.waitedForBody(since, x.attempt.bytes)
	if reads {
		x.waitedForReader(since)
	}
	switch {
	case x.co.Dying(), x.down.Broken():
		return ClientAborted, false
	case x.tunnel.on && (x.alarm.rang || x.tunnel.leaving):
		x.sayGoodbye()
		return Forwarded, false
	case x.alarm.rang && ended:
		x.askClient()
		return 0, true
	case x.alarm.rang && held && timeout == x.response.pacing.wait:
		return 0, true
	case x.alarm.rang:
		return late, false
	case slow:
		return ClientTimeout, false
	}
	return 0, true
}
