// Package exchange is the pipeline that every request goes through, whatever protocol it
// came in by: route, pick a pod, connect, move the request there and the response back.
//
// A front end (package server for HTTP/1.1) makes an Exchange per request and implements
// Downstream for it; package upstream has the pod's side. One coroutine moves the bytes of
// both directions; whichever side would block, the other goes on, so that early responses,
// slow bodies and upgrades need no code of their own. No more than one buffer per direction
// is held.
package exchange

import (
	"net/netip"
	"time"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/observe/usage"
	"github.com/kerngate/kerngate/userspace/proxy/pod/upstream"
)

// Exchange is one request and its response, in parts that each have a file of their own. It is
// reused: Setup comes once, Init before each use.
type Exchange struct {
	worker *Worker
	co     *reactor.Coroutine // nil: Serve is not running
	down   Downstream
	conf   *config.Snapshot
	alarm  alarm
	turns  turns

	// What the front end fills in.
	Request    *message.Request
	Connection *Connection
	// Crowded is set once by a front end whose connections may have several requests at a time. It
	// reports whether the client's has more than it may have at the moment: then no connection to
	// a pod is opened for this one.
	Crowded func() bool

	// The request as it was read.
	origin origin
	id     identity
	path   requestPath
	routed message.ForRoute // as the table of routes sees it
	body   requestBody
	call   call
	passes int // how often it has passed a proxy of the cluster

	// What is decided about it.
	rules     rules
	choice    choice
	transport *config.Transport // how its pods are spoken to
	trace     traced

	// The request as a pod gets it, and the attempts to have one answer.
	outgoing  outgoing
	mirroring mirroring
	attempt   attempt
	http1     upstream.HTTP1
	http2     upstream.HTTP2
	noPipe    bool // none was to be had: bodies are copied and not spliced

	// The response as the client gets it.
	response response
	packing  packing
	tunnel   tunnel
	reply    reply

	values []byte // of fields that are added, on either side

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
	unlogged bool // a rule keeps it out of the access log
}

// Setup is called once in the life of an Exchange, before its first Init.
func (x *Exchange) Setup() { x.alarm.init(x) }

// Init prepares for a request that has come in now.
func (x *Exchange) Init(w *Worker, down Downstream, r *message.Request, c *Connection) {
	x.worker, x.down, x.conf = w, down, w.Config.Load()
	x.Request, x.Connection = r, c
	x.Outcome = Outcome{Start: w.Loop.Now()}
	x.reset()
	x.origin.find(r, c, &x.conf.Settings)
}

// reset forgets the exchange before. Each part becomes its zero value but for the buffers that are
// named here, which are used again. The codecs are not reset here but by Open, and turns is not at
// all: what it has submitted to the loop may be still to come.
func (x *Exchange) reset() {
	x.id = identity{}
	x.path = requestPath{matched: x.path.matched, resolved: x.path.resolved}
	x.routed = message.ForRoute{}
	x.body = requestBody{store: x.body.store, trailers: x.body.trailers}
	x.call = call{}
	x.rules.ruling = ruling{}
	x.choice = choice{hashed: x.choice.hashed}
	x.trace = traced{tries: x.trace.tries}
	x.mirroring = mirroring{}
	x.attempt = attempt{}
	x.passes, x.noPipe = 0, false
	x.response = response{}
	x.packing = packing{}
	x.tunnel = tunnel{}
	x.reply = reply{head: x.reply.head, fields: x.reply.fields, location: x.reply.location}
	x.values = x.values[:0]
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
	x.call = identifyCall(x.Request, target.Upstream)
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
	x.packing.end(x.worker)
	x.endChoice()
	x.endTrace()
	x.endRules()
	x.path.restore(x.Request)
	x.body.store.release(&x.worker.Loop.Buffers)
	x.worker.Loop.Clear(&x.alarm.timer)
	x.endTunnel()
	x.co = nil
}

// Sample returns the access log's sampling: 0 off, n one of n.
func (x *Exchange) Sample() uint32 {
	if x.Outcome.unlogged {
		return 0
	}
	return x.conf.Settings.AccessLogSample
}

// At converts loop time to wall-clock time.
func (x *Exchange) At(loopTime int64) time.Time { return x.worker.Loop.Time(loopTime) }
