package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kerngate/kerngate/userspace/proxy/io/leaky"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
)

const (
	// streamWindow is how much of a response a slow client may leave with us, in bytes.
	streamWindow = 128 << 10
	// sessionWindow is how much may be on its way from the pod. It is given back as bytes
	// arrive, whoever takes them: one slow client must not hold up the others' streams.
	sessionWindow = 4 << 20
	// maxStreams is how many requests share a connection at most, and how many are taken
	// for granted until the pod has said what it allows (RFC 9113 section 6.5.2).
	maxStreams = 128
	// maxSessions bounds the connections of a worker to one pod.
	maxSessions = 256
	// dataRoom is how many bytes of output take no more bodies, maxBacklog how many make
	// us stop reading: a pod that does not take our answers gets no more to answer.
	dataRoom   = 64 << 10
	maxBacklog = 128 << 10
	// lastStreamID is where a connection's ids are used up, early enough (2^31-1).
	lastStreamID = 1 << 30
)

type sessionState uint8

const (
	dialing  sessionState = iota
	ready                 // takes streams
	retiring              // takes no more; ends with the last
	ended
)

// session is a connection that speaks HTTP/2 (RFC 9113). Its coroutine reads frames and
// writes what its streams have queued, once per turn of the loop for all of them.
type session struct {
	reactor.Conn
	pool     *Pool
	group    *group // nil: takes no further streams
	target   Target
	deadline int64 // loop time, while dialing
	co       *reactor.Coroutine
	state    sessionState
	err      error // why it ended
	waiters  []*reactor.Coroutine
	timer    reactor.Timer

	streams map[uint32]*Stream
	nextID  uint32
	limit   uint32 // streams that the pod allows, at most maxStreams
	served  bool   // a response has come

	// Receiving.
	framer  *http2.Framer
	in      []byte
	r, w    int
	decoder *hpack.Decoder
	block   block
	unacked int          // bytes of DATA not given back to the session's window
	idle    leaky.Bucket // frames that have brought nothing further
	heardAt int64

	// Sending.
	out      []byte
	sent     int    // of out
	taken    uint64 // bytes that the socket has taken
	deaf     error  // why the pod takes no more; what it has sent before that is still read
	encoder  *hpack.Encoder
	head     bytes.Buffer // a header block
	window   int64        // of the session
	initial  int64        // window of new streams
	maxFrame int
	maxList  uint64 // bytes of a header list, as RFC 9113 section 10.5.1 counts them; 0: no limit
	connects bool   // extended CONNECT is allowed (RFC 8441)
	blocked  []*Stream
	pingAt   int64 // loop time of a PING without answer, 0: none
	nextPing int64
	idleFrom int64 // loop time since which there is no stream
}

// Run reads frames until the connection ends.
func (s *session) Run(co *reactor.Coroutine) {
	s.co = co
	err := s.begin()
	for err == nil {
		err = s.readFrame()
	}
	s.end(err)
}

// Crashed ends the session after a panic.
func (s *session) Crashed(reason any, _ []byte) { s.end(fmt.Errorf("fault: %v", reason)) }

// OnEvent is never called: the session's coroutine owns its connection.
func (s *session) OnEvent(*reactor.Conn) {}

// begin connects and exchanges SETTINGS. The pod's come before any request is sent, so that
// one that speaks something else has seen none, and none is more than it allows.
func (s *session) begin() error {
	if err := s.pool.establish(s.co, &s.Conn, s, &s.target, s.deadline); err != nil {
		return err
	}
	s.pool.Stats.Sessions++
	s.streams = map[uint32]*Stream{}
	s.in = s.pool.loop.Buffers.Small()
	s.framer = http2.NewFramer(writer{s}, s)
	s.framer.SetReuseFrames()
	s.framer.SetMaxReadFrameSize(16 << 10)
	s.decoder = hpack.NewDecoder(4096, s.field)
	s.decoder.SetMaxStringLength(maxBlock)
	s.encoder = hpack.NewEncoder(&s.head)
	// Nothing of one client's is kept where another's is compressed (the table would tell
	// by its sizes what is in it), and no field has to be copied to be kept.
	s.encoder.SetMaxDynamicTableSizeLimit(0)
	s.window, s.initial, s.maxFrame = 65535, 65535, 16<<10
	s.heardAt = s.pool.loop.Now()

	s.write([]byte(http2.ClientPreface))
	s.framer.WriteSettings(
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: streamWindow},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: maxBlock},
	)
	s.framer.WriteWindowUpdate(0, sessionWindow-65535)

	f, err := s.framer.ReadFrame()
	var settings *http2.SettingsFrame
	if err == nil {
		settings, _ = f.(*http2.SettingsFrame)
	}
	switch {
	case settings != nil && !settings.IsAck():
	case err == nil, errors.As(err, new(http2.ConnectionError)), errors.Is(err, http2.ErrFrameTooLarge):
		return &ProtocolError{"not_http2"}
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return &ProtocolError{"closed_by_the_pod"}
	case s.Layer() != nil && err != errLeaving && err != ErrTimeout:
		return tlsFault(err)
	default:
		return err
	}
	if err := s.takeSettings(settings); err != nil {
		return err
	}
	s.stand()
	return nil
}

// stand makes the session one that takes streams.
func (s *session) stand() {
	now := s.pool.loop.Now()
	s.state, s.idleFrom, s.heardAt = ready, now, now
	if g := s.group; g != nil {
		g.sessions = append(g.sessions, s)
		if g.dialing == s {
			g.dialing = nil
		}
	}
	s.wakeWaiters()
	s.pool.loop.Drop(&s.timer)
	s.pool.loop.Set(&s.timer, s.interval())
}

func (s *session) wakeWaiters() {
	for i, co := range s.waiters {
		co.Wake()
		s.waiters[i] = nil
	}
	s.waiters = s.waiters[:0]
}

// retire takes no more streams, and ends with the last.
func (s *session) retire() {
	if s.state == ready {
		s.state = retiring
	}
	if g := s.group; g != nil {
		for i := range g.sessions {
			if g.sessions[i] == s {
				g.sessions = append(g.sessions[:i], g.sessions[i+1:]...)
				break
			}
		}
		s.group = nil
	}
	if s.state == retiring && len(s.streams) == 0 {
		s.kick()
	}
}

// end closes the connection; its streams end with err.
func (s *session) end(err error) {
	if s.state == ended {
		return
	}
	s.sayGoodbye(err)
	if g := s.group; g != nil && g.dialing == s {
		g.dialing = nil
	}
	s.retire()
	s.state, s.err = ended, err
	p := s.pool
	p.loop.Drop(&s.timer)
	if s.IsOpen() {
		s.Close()
		p.closed()
	}
	if s.streams != nil {
		p.Stats.Sessions--
	}
	s.wakeWaiters()
	for _, st := range s.streams {
		st.fail(s.lost(st, err))
	}
	s.streams, s.blocked = nil, nil
	if s.in != nil {
		p.loop.Buffers.Put(s.in)
		s.in = nil
	}
	if s.out != nil {
		p.loop.Buffers.Put(s.out)
		s.out = nil
	}
}

// sayGoodbye tells the pod why, if it is still there and listens.
func (s *session) sayGoodbye(err error) {
	if s.state == dialing || s.framer == nil {
		return
	}
	code := http2.ErrCodeNo
	var fault http2.ConnectionError
	switch {
	case errors.As(err, &fault):
		code = http2.ErrCode(fault)
	case err == errFlood:
		code = http2.ErrCodeEnhanceYourCalm
	case err != errLeaving:
		return
	}
	s.framer.WriteGoAway(0, code, nil)
	s.flush()
}

var (
	errLeaving = errors.New("closed by the proxy")
	errFlood   = errors.New("the pod sends frames that serve nothing")
	errSilent  = errors.New("the pod does not answer PING")
)

// lost says what the end of the session means for a stream.
func (s *session) lost(st *Stream, err error) *Fault {
	var code http2.ConnectionError
	switch {
	case errors.As(err, &code):
		return &Fault{Invalid, codeToken(http2.ErrCode(code))}
	case err == errFlood:
		return &Fault{Invalid, "frame_flood"}
	case err == errSilent:
		return &Fault{Silent, "no_answer_to_ping"}
	case st.sentAt >= s.taken:
		return &Fault{Unprocessed, "not_sent"}
	case st.headed:
		return &Fault{Kind: Aborted}
	case st.reused:
		return &Fault{Kind: Stale}
	}
	return &Fault{Kind: Closed}
}

// Read implements io.Reader for the framer: where the connection has nothing, it writes what
// has been queued meanwhile and parks. It reads before it writes: a request is not sent on a
// connection that the pod has closed already. And it reads after a write that has failed: the
// pod may have answered before it closed, and a connection that takes no more brings nothing
// that is not there by now.
func (s *session) Read(b []byte) (int, error) {
	for s.r == s.w {
		if s.backlog() <= maxBacklog || s.deaf != nil {
			n, err := s.TryRead(s.in)
			if err == nil {
				s.r, s.w = 0, n
				s.heardAt, s.pingAt = s.pool.loop.Now(), 0
				break
			}
			if s.deaf != nil {
				return 0, s.deaf
			}
			if err != reactor.ErrWouldBlock {
				return 0, err
			}
		}
		if err := s.flush(); err != nil {
			s.deaf = err
			continue
		}
		switch {
		case s.backlog() > maxBacklog:
			s.Want(reactor.Writable)
		case s.backlog() > 0 || s.Unsent():
			s.Want(reactor.Readable | reactor.Writable)
		default:
			s.Want(reactor.Readable)
		}
		s.co.Park()
		if err := s.due(); err != nil {
			return 0, err
		}
	}
	n := copy(b, s.in[s.r:s.w])
	s.r += n
	return n, nil
}

// due returns why the session is to end now, if it is.
func (s *session) due() error {
	switch now := s.pool.loop.Now(); {
	case s.co.Dying():
		return errLeaving
	case s.state == dialing && now >= s.deadline:
		return ErrTimeout
	case s.state == retiring && len(s.streams) == 0:
		return errLeaving
	case s.pingAt != 0 && now-s.pingAt >= int64(s.pool.PingWait):
		return errSilent
	}
	return nil
}

// kick has the coroutine look after what has changed, once the others of this turn ran.
func (s *session) kick() {
	if s.co != nil {
		s.co.Wake()
	}
}
