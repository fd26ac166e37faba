package exchange

import (
	"errors"
	"io"

	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/reactor"
)

var errHeadTooLarge = errors.New("response head too large")

// exchange moves the request to the pod and its response to the client.
func (x *Exchange) exchange() (reason Reason, again bool) {
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
			return reason, false
		}
	}
}

// begin queues the request's head.
func (x *Exchange) begin() {
	x.out.Open(&x.up.Conn)
	x.in = x.worker.Loop.Buffers.Small()
	x.r, x.w = 0, 0
	x.phase = awaitHead
	x.response.Reset()
	r := x.Request
	x.reqChunked = r.Chunked
	x.chunkOpen = false
	x.out.Extend(x.appendHead(x.out.Tail()))
	x.reqEnded = !r.Chunked && r.ContentLength <= 0
	x.reqDone = false
	x.bodyBytes = 0
	x.upFailed, x.filled = false, false
}

// mayRepeat reports whether a request that the pod left unanswered may be sent again: the
// connection was a reused one that the pod closed as we used it, the method is idempotent
// (RFC 9110 section 9.2.2) and its body is still at hand.
func (x *Exchange) mayRepeat(reason Reason) bool {
	return reason == UpstreamClosed && x.up.Reused && !x.gotBytes && !x.responded &&
		x.Request.MethodID.Idempotent() && x.down.RewindBody()
}

// room is what framing needs around a piece of body.
const room = 64

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
		if !x.reqEnded && !x.out.Pending() && x.openUpload() {
			continue
		}
		if !x.reqEnded && !x.out.Blocked() && x.out.Room() > room {
			p, err := x.down.ReadBody()
			switch {
			case err == nil:
				moved = true
				if reason, ok := x.queueBody(p); !ok {
					return moved, reason, false
				}
				continue
			case err == io.EOF:
				moved = true
				x.queueEnd()
			case err == reactor.ErrWouldBlock:
				starved = true
			default:
				return moved, x.clientFault(err), false
			}
		}
		if x.out.Pending() {
			switch err := x.out.Flush(); {
			case err == nil:
				moved = true
			case err == reactor.ErrWouldBlock:
				return moved, 0, true
			default:
				// The pod may have answered before it closed: see what it said.
				x.reqDone, x.reqEnded = true, true
				x.out.Reset()
				x.upFailed = true
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
			return moved, 0, true
		case starved:
			return moved, 0, true
		}
	}
}

func (x *Exchange) queueBody(p []byte) (Reason, bool) {
	x.bodyBytes += int64(len(p))
	if x.tooLarge(x.bodyBytes) && !x.tunnel {
		return BodyTooLarge, false
	}
	if x.webSocket {
		x.toPod.pass(p)
	}
	if x.reqChunked {
		dst := x.out.Tail()
		if x.chunkOpen {
			dst = append(dst, '\r', '\n')
		}
		x.out.Extend(http1.AppendChunkHeader(dst, len(p)))
		x.chunkOpen = true
	}
	x.out.Send(p)
	return 0, true
}

func (x *Exchange) queueEnd() {
	x.reqEnded = true
	if x.reqChunked {
		dst := x.out.Tail()
		if x.chunkOpen {
			dst = append(dst, '\r', '\n')
		}
		x.out.Extend(http1.AppendLastChunk(dst, x.down.Trailers()))
	}
}

func (x *Exchange) clientFault(err error) Reason {
	if e, ok := err.(*http1.Error); ok {
		x.Outcome.Detail = e.Reason
		return BadRequest
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
		if x.r < x.w || x.phase == passBody && x.framing == http1.BodyNone {
			progress, reason, ok := x.use()
			if !ok {
				return moved, reason, false
			}
			if progress {
				moved = true
				continue
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
		n, err := x.receive()
		switch {
		case err == nil:
			moved = true
			if !x.gotBytes {
				x.gotBytes, x.firstByte = true, x.worker.Loop.Clock()
			}
			x.w += n
		case err == reactor.ErrWouldBlock:
			// Nothing more to come for now: what is queued goes out.
			if x.down.Pending() {
				if err := x.down.Flush(); err != nil && err != reactor.ErrWouldBlock {
					return moved, ClientAborted, false
				}
			}
			return moved, 0, true
		case err == errHeadTooLarge:
			x.Outcome.Detail = "head_too_large"
			return moved, UpstreamInvalid, false
		default:
			if reason, ok := x.upstreamEnded(err); !ok {
				return moved, reason, false
			}
			moved = true
		}
	}
}

// receive reads from the pod behind in[r:w].
func (x *Exchange) receive() (int, error) {
	if x.phase == passBody && x.r == x.w {
		// Nothing in the buffer is borrowed (moveResponse) or parsed any more.
		x.r, x.w = 0, 0
		if len(x.in) < reactor.LargeBuffer && (x.framing != http1.BodyLength || x.remaining > int64(len(x.in))) && x.filled {
			x.worker.Loop.Buffers.Put(x.in)
			x.in = x.worker.Loop.Buffers.Large()
		}
	}
	if x.w == len(x.in) {
		if x.r == 0 {
			return 0, errHeadTooLarge
		}
		x.w = copy(x.in, x.in[x.r:x.w])
		x.r = 0
		if x.phase == awaitHead {
			x.response.Reset()
		}
	}
	n, err := x.up.TryRead(x.in[x.w:])
	x.filled = n == len(x.in)-x.w
	return n, err
}

// use consumes what was received. It reports progress, or false if more is needed.
func (x *Exchange) use() (progress bool, reason Reason, ok bool) {
	if x.phase == awaitHead {
		n, err := x.response.Parse(x.in[x.r:x.w], x.worker.ResponseLimits, x.Request.MethodID)
		if err != nil {
			if e, ok := err.(*http1.Error); ok {
				x.Outcome.Detail = e.Reason
			}
			return false, UpstreamInvalid, false
		}
		if n == 0 {
			return false, 0, true
		}
		x.r += n
		return x.head()
	}
	switch x.framing {
	case http1.BodyNone:
		x.end(nil)
	case http1.BodyLength:
		p := x.in[x.r:min(x.w, x.r+int(min(x.remaining, reactor.LargeBuffer)))]
		x.r += len(p)
		x.remaining -= int64(len(p))
		x.down.WriteBody(p)
		if x.remaining == 0 {
			x.end(nil)
		}
	case http1.BodyChunked:
		p, n, done, err := x.decoder.Decode(x.in[x.r:x.w])
		if err != nil {
			if e, ok := err.(*http1.Error); ok {
				x.Outcome.Detail = e.Reason
			}
			return false, UpstreamAborted, false
		}
		x.r += n
		if len(p) > 0 {
			x.down.WriteBody(p)
		}
		if done {
			x.end(x.decoder.Trailers())
		} else if n == 0 {
			return false, 0, true
		}
	case http1.BodyUntilClose:
		if x.webSocket {
			x.toClient.pass(x.in[x.r:x.w])
		}
		x.down.WriteBody(x.in[x.r:x.w])
		x.r = x.w
	}
	return true, 0, true
}

// head acts on a complete response head.
func (x *Exchange) head() (bool, Reason, bool) {
	r := &x.response
	x.Outcome.Status = r.Status
	switch {
	case r.Status == 101:
		if !x.upgrades() {
			x.Outcome.Detail = "unasked_upgrade"
			return false, UpstreamInvalid, false
		}
		x.responded = true
		x.down.Respond(r)
		x.down.Tunnel()
		x.reqDone, x.reqEnded, x.reqChunked = false, false, false
		x.beginTunnel(r.Upgrade)
		x.phase, x.framing = passBody, http1.BodyUntilClose
		return true, 0, true
	case r.Interim():
		if x.Request.Minor > 0 {
			x.down.Inform(r)
		}
		r.Reset()
		return true, 0, true
	}
	x.framing = r.Body
	switch {
	case r.Body == http1.BodyChunked:
		x.decoder.Reset()
	case r.Body == http1.BodyLength && r.ContentLength == 0:
		x.framing = http1.BodyNone
	}
	x.remaining = r.ContentLength
	x.responded = true
	x.down.Respond(r)
	x.phase = passBody
	return true, 0, true
}

// end queues the end of the response, and gives the connection to the pod back for reuse
// if both messages on it are complete.
func (x *Exchange) end(trailers []http1.Field) {
	x.down.End(trailers)
	x.phase = finished
	if x.reqDone && !x.upFailed && x.response.KeepAlive && x.framing != http1.BodyUntilClose && x.r == x.w {
		x.up.Release()
		x.up = nil
	}
}

// upstreamEnded acts on the end or failure of the pod's side of the connection.
func (x *Exchange) upstreamEnded(err error) (Reason, bool) {
	switch {
	case x.phase == passBody && x.framing == http1.BodyUntilClose && err == io.EOF:
		x.end(nil)
		if x.tunnel && !x.down.Pending() {
			x.down.CloseWrite()
		}
		return 0, true
	case x.phase == awaitHead && !x.gotBytes:
		return UpstreamClosed, false
	default:
		return UpstreamAborted, false
	}
}

// park waits until either side can go on. It reports false if the exchange is over.
func (x *Exchange) park() (Reason, bool) {
	s := &x.conf.Settings
	var up, down reactor.Interest
	timeout := s.ResponseTimeout
	late := UpstreamTimeout
	if !x.reqDone {
		if x.out.Pending() {
			up |= reactor.Writable
		} else {
			down |= reactor.Readable
			timeout, late = s.BodyTimeout, ClientTimeout
		}
	}
	if x.down.Pending() {
		down |= reactor.Writable
		timeout, late = s.ResponseTimeout, ClientAborted
	}
	if x.up != nil && !x.down.Blocked() && x.phase != finished {
		up |= reactor.Readable
	}
	if x.upload.IsOpen() {
		down, up = x.upload.Wants()
		if up != 0 {
			timeout, late = s.ResponseTimeout, UpstreamTimeout
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
	x.arm(timeout)
	x.down.Want(down)
	if x.up != nil {
		x.up.Want(up)
	}
	x.co.Park()
	switch {
	case x.co.Dying(), x.down.Broken():
		return ClientAborted, false
	case x.tunnel && (x.timedOut || x.leaving):
		x.sayGoodbye()
		return Forwarded, false
	case x.timedOut:
		return late, false
	}
	return 0, true
}
