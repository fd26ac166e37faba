// Package exchange is the pipeline that every request goes through, whatever protocol it
// came in by: route, pick a pod, connect, move the request there and the response back.
//
// A front end (package server for HTTP/1.1) makes an Exchange per request and implements
// Downstream for it. One coroutine moves the bytes of both directions; whichever side
// would block, the other goes on, so that early responses, slow bodies and upgrades need
// no code of their own. No more than one buffer per direction is held.
package exchange

import (
	"container/list"
	"net/http"
	"net/netip"
	"time"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/observe/usage"
	"github.com/kerngate/kerngate/userspace/proxy/pod/balance"
	"github.com/kerngate/kerngate/userspace/proxy/pod/upstream"
	"github.com/kerngate/kerngate/userspace/proxy/rules/compress"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// Downstream is the client's side of one exchange. Nothing in it blocks.
type Downstream interface {
	// ReadBody returns the next piece of the request's body, which stays valid until the
	// call after. io.EOF: the body has ended. reactor.ErrWouldBlock: later.
	// *http1.Error: the body is not valid. Anything else: the client is gone.
	ReadBody() ([]byte, error)
	// Trailers returns the fields after the body, once ReadBody has returned io.EOF.
	Trailers() []http1.Field
	// RewindBody makes ReadBody start again, if all that was read is still there.
	RewindBody() bool

	// Inform queues an interim response (1xx, not 101).
	Inform(r *http1.Response)
	// Respond queues the head of the pod's final response, or of a 101.
	Respond(r *http1.Response)
	// Reply queues a whole response of the proxy's own.
	Reply(status int, reason Reason, detail string)
	// WriteBody queues a piece of the body, which must stay as it is until Flush returns
	// nil. Only while Blocked is false.
	WriteBody(p []byte)
	// End queues the end of the body.
	End(trailers []http1.Field)
	// Flush sends what is queued: nil when all of it is sent, else reactor.ErrWouldBlock
	// or the connection's error.
	Flush() error
	// Pending reports whether something queued is not sent yet; Blocked, whether a
	// borrowed piece is among it.
	Pending() bool
	Blocked() bool
	// Abort gives the response up: the client must be able to tell that it is not whole.
	Abort()

	// Source returns the socket from which the next n bytes of the request's body may be
	// taken past ReadBody, and Took says that it was done. nil: not possible.
	Source() (c *reactor.Conn, n int64)
	Took(n int64)
	// Sink returns the socket to which body may be sent past WriteBody once Pending is
	// false, and Sent says how much was. nil: not possible.
	Sink() *reactor.Conn
	Sent(n int64)

	// Tunnel makes ReadBody and WriteBody move raw bytes, after a 101.
	Tunnel()
	// CloseWrite tells the client that a tunnel's other side has ended.
	CloseWrite()

	// Want says what wakes the exchange's coroutine while it is parked.
	Want(reactor.Interest)
	// Broken reports whether the client's connection was reset.
	Broken() bool
}

// Exchange is one request and its response. It is reused; Init comes before each use.
type Exchange struct {
	worker *Worker
	co     *reactor.Coroutine
	down   Downstream
	conf   *config.Snapshot

	// What the front end fills in.
	Request    *http1.Request
	Connection *Connection

	timer    reactor.Timer
	timedOut bool

	// The pod's side.
	up        Upstream // nil between attempts
	http1     upstream.HTTP1
	http2     upstream.HTTP2
	transport *config.Transport
	pick      balance.Pick
	upload    reactor.Splice
	download  reactor.Splice
	phase     phase
	interims  http1.Interims
	repeat    repeat
	reqDone   bool // the request is sent whole
	reqEnded  bool // its end is queued
	upFailed  bool // sending to the pod failed; what it said may still be read
	noSplice  bool // no pipe was to be had
	responded bool // a final response was begun towards the client
	tunnel    bool
	webSocket bool // the tunnel is one
	passes    int  // how often the request has passed a proxy of the cluster
	asked     bool // an interim response has asked if the client is there
	leaving   bool // the tunnel is to end: the worker is going away
	upClosed  bool // tunnel: the client's end was passed on
	toPod     frames
	toClient  frames
	counted   bool // Balancer.Start was called, Finish is due
	bodyBytes int64
	body      bodyStore
	slow      slowBody
	firstByte int64          // loop time
	grpc      bool           // the request is a call of gRPC, or its pods speak that
	callsGRPC bool           // it is one
	deadline  time.Duration  // of the call, 0: none
	own       http1.Response // the answer to a call that fails here
	openEnded bool           // the head of its response did not say how long the body is

	tried   [maxTries]state.BackendID
	tries   int
	scratch []byte // normalised path
	// received is the path as the client has sent it, resolved what is forwarded in its place.
	received, resolved []byte
	origin             origin
	outgoing           outgoing
	values             []byte // of added
	// trailers are those of the request that go on; none do behind a body that was gathered.
	trailers []http1.Field
	gathered bool
	answer   []http1.Added
	// location is where the client is sent, if the reason is to send it somewhere.
	location []byte
	id       [maxRequestID]byte
	idLen    int
	ownID    [32]byte
	ownIDed  bool // ownID is made
	rules    rules
	choice   choice
	trace    traced
	place    *list.Element // in the line of those that wait for a pod; nil: it does not
	hashed   []byte        // room for what a hash is taken of

	// Of a response that is compressed.
	packed    *compress.Stream // nil: it is not
	prompt    bool             // nothing is held back while the pod pauses
	packTurn  int64            // the loop's turn in which
	packedNow int              // so many bytes were compressed
	goOn      func()           // wakes the coroutine
	turns     turns

	badStatus int  // what a body that is not valid is answered with
	unlogged  bool // a rule keeps it out of the access log

	// Crowded is set once by a front end whose connections may have several requests at a time. It
	// reports whether the client's has more than it may have at the moment: then no connection to
	// a pod is opened for this one.
	Crowded func() bool

	// Outcome, valid until Init.
	Outcome Outcome
}

// Outcome is what is known of an exchange at its end, for log and metrics.
type Outcome struct {
	Start    int64 // loop time of the request's head
	Reason   Reason
	Detail   string // the parser's token
	Status   int
	Service  *config.Service
	Source   model.ObjectRef // that has the route
	Usage    *usage.Line     // nil: no route
	Upstream netip.AddrPort
	Tries    int
	Received int64 // bytes of the request's body
	First    int64 // loop time of the response's first byte, 0 if none
	GRPC     GRPCStatus
}

type phase uint8

const (
	awaitHead phase = iota
	passBody
	finished // the end is queued
)

// Init prepares for a request that came in at loop time start.
func (x *Exchange) Init(w *Worker, down Downstream, r *http1.Request, c *Connection) {
	x.worker, x.down, x.Request, x.Connection = w, down, r, c
	x.conf = w.Config.Load()
	x.tries, x.idLen, x.ownIDed, x.responded, x.tunnel, x.upClosed, x.noSplice = 0, 0, false, false, false, false, false
	x.trace.on = false
	x.slow, x.asked = slowBody{}, false
	x.badStatus, x.gathered, x.received = 0, false, nil
	x.bodyBytes, x.webSocket, x.leaving, x.unlogged = 0, false, false, false
	x.Outcome = Outcome{Start: w.Loop.Now()}
	x.identify()
}

// Setup is called once in the life of an Exchange, before its first Init.
func (x *Exchange) Setup() {
	x.timer.Init(func() {
		x.timedOut = true
		if x.co != nil {
			x.co.Wake()
		}
	})
	x.goOn = func() {
		x.turns.request.Woken()
		x.turns.response.Woken()
		if x.co != nil {
			x.co.Wake()
		}
	}
}

// Serve carries the exchange out. On return everything is queued towards the client and
// sent, or the client is lost; Outcome says which.
func (x *Exchange) Serve(co *reactor.Coroutine) {
	x.co = co
	target, reason := x.admit()
	if x.worker.Overload.Sheds(x.worker.Rand.Uint64) {
		target, reason = config.Target{}, Shed
	}
	if !x.readPasses() {
		target, reason = config.Target{}, Loop
	}
	x.identifyCall(target.Upstream)
	x.beginTrace()
	// What the connection may not carry, and what goes to https first, no rule sees.
	ruled := x.rules.policy != nil && (reason == Forwarded || reason == NoService)
	switch {
	case ruled && !x.obey(): // a rule has answered
	case target.Service == nil:
		x.refuse(reason, x.Outcome.Detail)
	default:
		x.transport = x.conf.Transport(target.Upstream)
		x.addFields()
		x.passTrace()
		if !x.endsHere() && (!ruled || x.edit()) {
			x.beginCopies()
			x.forward(target.Service)
		}
	}
	x.endCompression()
	x.endChoice()
	x.endTrace()
	x.endRules()
	x.restorePath()
	x.endBody()
	x.worker.Loop.Clear(&x.timer)
	x.endTunnel()
	x.co = nil
}

// maxTurns is how often a request may be routed again, as in nginx.
const maxTurns = 10

// route finds what answers the request. Steps of the rules that it meets may send it to
// another path, whose rules then hold.
func (x *Exchange) route() (config.Target, Reason) {
	path := x.Request.Path
	if x.Request.PathNeedsNormalise {
		var err error
		if path, err = http1.NormalisePath(x.scratch[:0], path); err != nil {
			x.Outcome.Detail = http1.Token(err)
			return config.Target{}, BadPath
		}
		x.scratch = path[:0]
		x.resolve()
	}
	for turn := 0; ; turn++ {
		r, ok := x.conf.Routes.Match(x.Request.Host, path, http1.ForRoute{Head: x.Request})
		if !ok && turn > 0 { // the default service is for what clients ask for themselves
			x.rules.policy = nil
			return config.Target{}, NoRoute
		}
		if !ok {
			break
		}
		x.Outcome.Source, x.Outcome.Usage = r.Value.Source, r.Value.Usage
		target, ok := config.At(r, path)
		if !ok {
			x.rules.policy, x.Outcome.Detail = nil, http1.Token(http1.ErrPathCost)
			return config.Target{}, BadPath
		}
		x.beginRules(&target, path, turn > 0)
		if target.Policy.HasSteps() {
			switch q := &x.rules.request; target.Policy.Steps(q, turn == 0) {
			case policy.RouteAgain:
				if turn == maxTurns {
					x.rules.policy = nil
					return config.Target{}, RewriteLoop
				}
				path = q.Normal
				continue
			case policy.Refused:
				x.rules.policy, x.Outcome.Detail = nil, "rewrite"
				return config.Target{}, BadPath
			}
		}
		if x.split(&target); target.Service == nil {
			return config.Target{}, NoService
		}
		x.Outcome.Service = target.Service
		return target, Forwarded
	}
	if x.conf.Routes.TooCostly(x.Request.Host, path) {
		x.Outcome.Detail = http1.Token(http1.ErrPathCost)
		return config.Target{}, BadPath
	}
	if x.conf.Default == nil {
		return config.Target{}, NoRoute
	}
	x.Outcome.Service, x.Outcome.Usage = x.conf.Default, x.conf.DefaultUsage
	return config.Target{Service: x.conf.Default, Upstream: config.ClearText.Upstream}, Forwarded
}

// resolve has everybody, pods, rules and services that decide, read the path that routes are
// matched with.
func (x *Exchange) resolve() {
	x.received = x.Request.Path
	path := http1.ResolvePath(x.resolved[:0], x.received)
	if len(path) < len(x.received) {
		x.resolved = append(x.resolved[:0], path...) // most often in its place already
		path = x.resolved
	}
	x.Request.Path = path
}

// restorePath puts back what the client has sent, for the log.
func (x *Exchange) restorePath() {
	if x.received != nil {
		x.Request.Path, x.received = x.received, nil
	}
}

func (x *Exchange) tooLarge(n int64) bool {
	most := x.maxBody()
	return most > 0 && n > most
}

// attempt sends the request to one pod. It reports again if another pod may be asked.
func (x *Exchange) attempt(p balance.Pick, fresh bool) (reason Reason, again bool) {
	b := x.worker.Balancer
	x.pick, x.firstByte = p, 0
	b.Start(p)
	x.counted = true
	began := x.worker.Loop.Now()
	reason, again = x.connect(p, fresh)
	if x.up != nil {
		reason, again = x.relay()
		if x.responded && reason.UpstreamFault() {
			// What the pod has sent goes to the client first: it lies in buffers of the pod's side.
			x.flushAll()
		}
		x.release()
	}
	var latency time.Duration
	if x.firstByte > 0 {
		latency = time.Duration(x.firstByte - began)
		x.Outcome.First = x.firstByte
	}
	x.counted = false
	b.Finish(p, reason.UpstreamFault(), latency)
	if s := x.choice.service; s.MaxConnections > 0 {
		x.worker.Queue.next(s.ID)
	}
	x.noteHealth(p, reason)
	x.noteAttempt(began, reason)
	if reason.UpstreamFault() {
		x.worker.Metrics.fault(&x.Outcome, reason)
	}
	return reason, again
}

// release ends the attempt.
func (x *Exchange) release() {
	x.up.Close()
	x.up = nil
	x.upload.Close()
	x.download.Close()
}

func (x *Exchange) arm(d time.Duration) {
	x.timedOut = false
	x.worker.Loop.Set(&x.timer, d)
}

// refuse answers with a response of the proxy's own and sends it.
func (x *Exchange) refuse(reason Reason, detail string) {
	x.refuseWith(reason.Status(), reason, detail)
}

func (x *Exchange) refuseWith(status int, reason Reason, detail string) {
	x.Outcome.Detail = detail
	x.Outcome.Reason, x.Outcome.Status = reason, status
	if reason != Shed && x.intercepts(status) && x.page(status) {
		return
	}
	if x.speaksGRPC() {
		x.replyGRPC(reason, detail)
		x.Outcome.Status = http.StatusOK
	} else {
		x.down.Reply(status, reason, detail)
	}
	x.flushAll()
}

// flushAll waits until the client has taken what is queued.
func (x *Exchange) flushAll() {
	x.arm(x.conf.Settings.ResponseTimeout)
	for {
		switch err := x.down.Flush(); {
		case err == nil:
			return
		case err != reactor.ErrWouldBlock || x.timedOut || x.co.Dying():
			x.down.Abort()
			return
		}
		x.down.Want(reactor.Writable)
		x.co.Park()
	}
}

// Refused prepares an exchange for a request that is not carried out, because its head was
// refused or did not come whole, with the outcome that log and metrics are to have. The front
// end answers the client itself.
func (x *Exchange) Refused(w *Worker, down Downstream, r *http1.Request, c *Connection, reason Reason, status int, detail string) {
	r.ResetRefused()
	x.Init(w, down, r, c)
	x.Outcome.Reason, x.Outcome.Status, x.Outcome.Detail = reason, status, detail
}

// Crash notes that a fault of the proxy ended the exchange. It reports false if none was under
// way, so that there is no request to log.
func (x *Exchange) Crash() bool {
	if x.co == nil {
		return false
	}
	x.Outcome.Reason = Crashed
	if !x.responded {
		x.Outcome.Status = Crashed.Status()
	}
	return true
}

// Send waits until the client has taken what the front end has queued itself, after Refused.
func (x *Exchange) Send(co *reactor.Coroutine) {
	x.co = co
	x.flushAll()
	x.worker.Loop.Clear(&x.timer)
	x.co = nil
}

// finish settles what an attempt came to.
func (x *Exchange) finish(reason Reason) {
	if reason == Intercepted {
		x.Outcome.Reason = reason
		switch status := x.Outcome.Status; {
		case x.page(status):
		case len(x.rules.asks) > 0:
			x.challenge(reason, x.rules.asks, nil)
		default:
			x.refuseWith(status, reason, "")
		}
		return
	}
	if reason != Forwarded && !x.responded {
		if reason == ClientAborted {
			x.down.Abort()
			x.Outcome.Reason, x.Outcome.Status = reason, reason.Status()
			return
		}
		status := reason.Status()
		if reason == BadRequest && x.badStatus != 0 {
			status = x.badStatus
		}
		x.refuseWith(status, reason, x.Outcome.Detail)
		return
	}
	x.Outcome.Reason = reason
	switch {
	case reason == Forwarded:
	case x.endGRPC(reason):
		x.flushAll()
	default:
		x.down.Abort()
	}
}

// Abandon lets go of what a crashed exchange held of others: its count of requests in
// flight and its connection to the pod.
func (x *Exchange) Abandon() {
	if x.worker == nil {
		return
	}
	x.worker.Loop.Drop(&x.timer)
	if x.place != nil {
		x.worker.Queue.leave(x.choice.service.ID, x)
	}
	x.endTunnel()
	x.endCompression()
	x.endChoice()
	x.endRules()
	x.body.forget()
	if x.up != nil {
		x.up.Abandon()
		x.up = nil
	}
	if x.counted {
		x.counted = false
		x.worker.Balancer.Finish(x.pick, false, 0)
	}
}

// Sample returns the access log's sampling: 0 off, n one of n.
func (x *Exchange) Sample() uint32 {
	if x.unlogged {
		return 0
	}
	return x.conf.Settings.AccessLogSample
}

// At converts loop time to wall-clock time.
func (x *Exchange) At(loopTime int64) time.Time { return x.worker.Loop.Time(loopTime) }
