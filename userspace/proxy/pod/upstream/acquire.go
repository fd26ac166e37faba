package upstream

import (
	"bytes"
	"errors"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
)

// Stream opens a stream to the target, parking co while a connection is made. The caller's
// timer must wake co at the deadline (loop time), after which Stream returns ErrTimeout.
// fresh asks for a connection that is not in use yet.
func (p *Pool) Stream(co *reactor.Coroutine, t Target, fresh bool, deadline int64) (*Stream, error) {
	if t.private() {
		return p.await(co, p.dialSession(nil, t, deadline), &t, deadline)
	}
	g := p.group(&t)
	for {
		if !fresh {
			for _, s := range g.sessions {
				if s.takes() {
					p.Stats.Reused++
					return s.open(co), nil
				}
			}
		}
		s := g.dialing
		if s == nil || len(s.waiters) >= maxStreams {
			if len(g.sessions) >= maxSessions {
				return nil, ErrTooManyStreams
			}
			s = p.dialSession(g, t, deadline)
		}
		stream, err := p.await(co, s, &t, deadline)
		if err != errFull {
			return stream, err
		}
		fresh = false
	}
}

// ErrTooManyStreams: all connections that a worker may have to a pod are full.
var ErrTooManyStreams = errors.New("all connections to the pod are full")

// errFull: others were faster to take what a new session allows.
var errFull = errors.New("session is full")

// await parks co until the session stands, and opens a stream. Others may wait for the session
// longer than co does.
func (p *Pool) await(co *reactor.Coroutine, s *session, t *Target, deadline int64) (*Stream, error) {
	s.waiters = append(s.waiters, co)
	for now := p.loop.Now(); s.state == dialing && !co.Dying() && now < deadline && (s.target.accepted || !t.late(now, deadline)); now = p.loop.Now() {
		co.Park()
	}
	switch {
	case s.takes():
		return s.open(co), nil
	case s.state == ended:
		return nil, s.err
	case s.state != dialing:
		if s.limit == 0 {
			return nil, errNoStreams
		}
		return nil, errFull
	}
	for i := range s.waiters {
		if s.waiters[i] == co {
			s.waiters = append(s.waiters[:i], s.waiters[i+1:]...)
			break
		}
	}
	return nil, ErrTimeout
}

var errNoStreams = &ProtocolError{"no_streams"}

// ProtocolError says in which way a pod does not speak the HTTP/2 that it is said to.
type ProtocolError struct{ Token string }

func (e *ProtocolError) Error() string { return "HTTP/2 to the pod: " + e.Token }

func (p *Pool) dialSession(g *group, t Target, deadline int64) *session {
	s := &session{pool: p, group: g, target: t, deadline: deadline, limit: maxStreams, nextID: 1}
	s.target.Name, s.target.Soon = bytes.Clone(t.Name), 0
	s.timer.Init(s.tick)
	if g != nil {
		g.dialing = s
	}
	p.loop.Set(&s.timer, max(0, timeLeft(deadline, p.loop.Now())))
	p.loop.Go(s)
	return s
}

// takes reports whether another stream may be opened. While the pod's window for the connection
// is shut none is: a pod that does not read one body may hold up all others of the connection
// (Go's servers do), and whoever comes then is better off with another.
func (s *session) takes() bool {
	return s.state == ready && s.window > 0 && uint32(len(s.streams)) < s.limit && s.nextID < lastStreamID &&
		(s.group != nil || s.nextID == 1)
}
