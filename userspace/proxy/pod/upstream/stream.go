package upstream

import (
	"io"
	"unsafe"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// FaultKind says how far a pod has come with a request that it did not answer whole.
type FaultKind uint8

const (
	Closed      FaultKind = iota // the connection ended before a response
	Stale                        // so did one that had been in use, as the request was sent
	Reset                        // the pod gave the request up
	Unprocessed                  // the pod says that it did nothing about the request
	Aborted                      // the response broke off
	Invalid                      // the pod broke the protocol's rules
	Silent                       // the pod does not answer at all
	TooLarge                     // the pod says that it takes no such head; it was not sent
)

// Fault says why a stream ended before its response did.
type Fault struct {
	Kind   FaultKind
	Detail string // a token
}

func (f *Fault) Error() string { return "stream to the pod: " + f.Detail }

// Stream is one request to a pod and its response, on an HTTP/2 connection that others
// share. Nothing in it blocks.
type Stream struct {
	Limits message.Limits // of the response's head, and of its trailers

	session *session // nil: the connection has ended, or the stream is free
	pool    *Pool
	id      uint32 // 0 until the head is sent
	co      *reactor.Coroutine
	want    reactor.Interest
	reused  bool // the connection has carried requests before
	fault   *Fault

	// The request.
	window  int64  // of bytes that the pod takes
	body    []byte // queued, as it lies with its owner
	ending  bool   // the end is queued
	ended   bool   // the end was handed to the session
	waiting bool   // in session.blocked
	begun   bool   // its head is queued
	sentAt  uint64 // where that begins in what the connection sends
	names   []byte // in lower case
	list    uint64 // size of the header list
	trailer []message.Field

	// The response.
	method    message.Method
	next      *message.Response // is being read
	interim   *message.Response // the last one
	informs   message.Interims
	unread    bool  // interim has not been returned
	headed    bool  // next is the final head
	done      bool  // all has come
	remaining int64 // bytes of body still to come, -1: unknown
	credit    int   // bytes that the pod may send
	owed      int   // bytes taken and not given back to the pod's window
	segments  [][]byte
	read      int // of the first segment
	trailers  message.ComposedTrailers
}

// open makes a stream of a session that takes one.
func (s *session) open(co *reactor.Coroutine) *Stream {
	p := s.pool
	var st *Stream
	if n := len(p.streams); n > 0 {
		st = p.streams[n-1]
		p.streams = p.streams[:n-1]
	} else {
		st = &Stream{pool: p, next: new(message.Response), interim: new(message.Response)}
	}
	st.session, st.co, st.want, st.fault, st.reused, st.begun = s, co, 0, nil, s.served, false
	st.id = s.nextID
	s.nextID += 2
	st.Limits = message.Limits{}
	st.window, st.body, st.ending, st.ended, st.waiting = s.initial, nil, false, false, false
	st.informs, st.unread, st.headed, st.done = message.Interims{}, false, false, false
	st.remaining, st.credit, st.owed, st.read = -1, streamWindow, 0, 0
	s.streams[st.id] = st
	if s.nextID >= lastStreamID {
		s.retire()
	}
	return st
}

// Tunnels reports whether the pod takes extended CONNECT (RFC 8441).
func (st *Stream) Tunnels() bool { return st.session != nil && st.session.connects }

// BeginHead starts the request's head: Field for each field, then EndHead.
func (st *Stream) BeginHead(method message.Method) {
	st.method = method
	st.names, st.list = st.names[:0], 0
	if st.session != nil {
		st.session.head.Reset()
	}
}

// Field adds a field to the head; its name is put in lower case.
func (st *Stream) Field(name, value []byte) {
	if st.session == nil {
		return
	}
	at := len(st.names)
	st.names = append(st.names, name...)
	lower := st.names[at:]
	for i, c := range lower {
		if c >= 'A' && c <= 'Z' {
			lower[i] = c | 0x20
		}
	}
	st.field(view(lower), value)
}

// Known adds a field whose name is in lower case.
func (st *Stream) Known(name string, value []byte) {
	if st.session != nil {
		st.field(name, value)
	}
}

// field encodes a field. The encoder, whose table is empty, keeps nothing of it.
func (st *Stream) field(name string, value []byte) {
	st.list += uint64(len(name) + len(value) + fieldOverhead)
	st.session.encoder.WriteField(hpack.HeaderField{Name: name, Value: view(value)})
}

// fieldOverhead is what a field counts beyond its bytes (RFC 9113 section 10.5.1).
const fieldOverhead = 32

// exceeds reports whether the list is larger than the pod takes. Some pods end the connection for
// one that is (netty's), and with it the streams of others.
func (st *Stream) exceeds() bool {
	s := st.session
	return s != nil && s.maxList > 0 && st.list > s.maxList
}

var errTooLarge = &Fault{TooLarge, "head_too_large_for_the_pod"}

func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// EndHead queues the head. ended says that there is no body.
func (st *Stream) EndHead(ended bool) {
	if st.exceeds() {
		st.fail(errTooLarge)
		return
	}
	st.begun, st.ended = true, ended
	if st.session != nil {
		st.sentAt = st.session.taken + uint64(st.session.backlog())
	}
	st.sendBlock(ended)
}

// sendBlock queues what was encoded, in frames as large as the pod takes.
func (st *Stream) sendBlock(last bool) {
	s := st.session
	if s == nil {
		return
	}
	b := s.head.Bytes()
	n := min(len(b), s.maxFrame)
	s.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: st.id, BlockFragment: b[:n], EndStream: last, EndHeaders: n == len(b)})
	for b = b[n:]; len(b) > 0; b = b[n:] {
		n = min(len(b), s.maxFrame)
		s.framer.WriteContinuation(st.id, n == len(b), b[:n])
	}
	s.idle.Empty()
	s.kick()
}

// WriteBody queues a piece of the request's body, which must stay as it is until Pending
// is false. Only while Blocked is false.
func (st *Stream) WriteBody(p []byte) { st.body = p; st.push() }

// End queues the end of the request.
func (st *Stream) End(trailers []message.Field) {
	st.ending, st.trailer = true, trailers
	st.push()
}

// Pending reports whether something was queued that the connection has not taken; Blocked,
// whether a piece of body is among it.
func (st *Stream) Pending() bool { return len(st.body) > 0 || st.ending && !st.ended }
func (st *Stream) Blocked() bool { return len(st.body) > 0 }

// Flush hands the connection what it takes: nil when that is all.
func (st *Stream) Flush() error {
	st.push()
	switch {
	case st.fault != nil && st.Pending():
		st.body, st.ended = nil, true
		return st.fault
	case st.Pending():
		st.session.wait(st)
		return reactor.ErrWouldBlock
	}
	return nil
}

// push hands the connection what it takes.
func (st *Stream) push() {
	s := st.session
	if s == nil {
		return
	}
	for len(st.body) > 0 {
		n := s.data(st, st.body, false)
		if n == 0 {
			return
		}
		st.body = st.body[n:]
		s.kick()
	}
	if !st.ending || st.ended {
		return
	}
	st.ended = true
	if len(st.trailer) == 0 {
		s.data(st, nil, true)
		s.kick()
		return
	}
	s.head.Reset()
	st.names, st.list = st.names[:0], 0
	for i := range st.trailer {
		st.Field(st.trailer[i].Name, st.trailer[i].Value)
	}
	if st.exceeds() {
		s.framer.WriteRSTStream(st.id, http2.ErrCodeCancel)
		s.kick()
		st.fail(errTooLarge)
		return
	}
	st.sendBlock(true)
}

// ReadHead returns the next response head: the last interim one that has come, then the
// final one. reactor.ErrWouldBlock: later.
func (st *Stream) ReadHead() (*message.Response, error) {
	switch {
	case st.unread:
		st.unread = false
		return st.interim, nil
	case st.headed:
		return st.next, nil
	case st.fault != nil:
		return nil, st.fault
	}
	return nil, reactor.ErrWouldBlock
}

// ReadBody returns the next piece of the body, which stays valid until the call after.
// io.EOF, maybe together with the last piece: the body has ended.
func (st *Stream) ReadBody() ([]byte, error) {
	st.takeBack()
	if len(st.segments) > 0 {
		p := st.segments[0][st.read:]
		st.read += len(p)
		st.owed += len(p)
		if st.done && len(st.segments) == 1 {
			return p, io.EOF
		}
		return p, nil
	}
	switch {
	case st.done:
		return nil, io.EOF
	case st.fault != nil:
		return nil, st.fault
	}
	return nil, reactor.ErrWouldBlock
}

// takeBack frees what ReadBody has returned before, and lets the pod send as much again.
func (st *Stream) takeBack() {
	if len(st.segments) > 0 && st.read == len(st.segments[0]) {
		st.pool.loop.Buffers.Put(st.segments[0])
		last := copy(st.segments, st.segments[1:]) // there are few
		st.segments[last] = nil
		st.segments, st.read = st.segments[:last], 0
	}
	if st.owed >= streamWindow/2 && !st.done && st.session != nil {
		st.session.framer.WriteWindowUpdate(st.id, uint32(st.owed))
		st.credit += st.owed
		st.owed = 0
		st.session.kick()
	}
}

// Trailers returns the fields after the body, once ReadBody has returned io.EOF.
func (st *Stream) Trailers() []message.Field { return st.trailers.Fields }

// Want says what wakes the stream's coroutine while it is parked.
func (st *Stream) Want(i reactor.Interest) { st.want = i }

func (st *Stream) wake(i reactor.Interest) {
	if st.want&i != 0 && st.co != nil {
		st.co.Wake()
	}
}

// Close ends the use of the stream. If it has begun and is not complete the pod is told to
// stop.
func (st *Stream) Close() {
	if st.session != nil && st.begun && !(st.ended && st.done) {
		st.session.framer.WriteRSTStream(st.id, http2.ErrCodeCancel)
		st.session.kick()
	}
	st.Abandon()
	for i, b := range st.segments {
		st.pool.loop.Buffers.Put(b)
		st.segments[i] = nil
	}
	st.segments = st.segments[:0]
	if len(st.pool.streams) < maxFreeStreams {
		st.pool.streams = append(st.pool.streams, st)
	}
}

const maxFreeStreams = 1024

// Abandon takes the stream off its connection and keeps its memory to itself.
func (st *Stream) Abandon() {
	st.detach()
	st.co, st.trailer, st.body = nil, nil, nil
}

// detach takes the stream off its connection.
func (st *Stream) detach() {
	s := st.session
	if s == nil {
		return
	}
	st.session = nil
	delete(s.streams, st.id)
	if len(s.streams) == 0 {
		s.idleFrom = s.pool.loop.Now()
		if s.target.private() {
			s.retire()
		}
		if s.state == retiring {
			s.kick()
		}
	}
}

// fail ends the stream from the connection's side.
func (st *Stream) fail(f *Fault) {
	st.fault = f
	st.detach()
	st.wake(reactor.Readable | reactor.Writable)
}
