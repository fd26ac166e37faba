package exchange

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/userspace/proxy/pod/balance"
	"github.com/kerngate/kerngate/userspace/proxy/pod/upstream"
)

// connect gets the use of a connection to the pod, a new one if it has to be fresh. It
// reports again if another pod may be asked.
func (x *Exchange) connect(p balance.Pick, fresh bool) (reason Reason, again bool) {
	t := upstream.Target{
		ID: p.ID, Generation: p.Generation, Address: p.Address, Transport: x.transport,
		Name: x.Request.Host, Client: x.Connection.Client, Local: x.Connection.Local,
		Join: p.Local && x.conf.Settings.SkMsg && !x.transport.TLS && !x.choice.service.NoSkMsg,
	}
	pool := x.worker.Pool
	if !t.Transport.HTTP2 && !fresh {
		if c := pool.Idle(t); c != nil {
			c.Own(x.co)
			x.http1.Open(c, &x.outgoing.Outgoing)
			x.attempt.up = &x.http1
			return Forwarded, false
		}
	}
	if !t.Transport.HTTP2 && x.Crowded != nil && x.Crowded() {
		return Shed, false
	}
	x.down.Want(0)
	x.arm(x.bounds().connectTimeout())
	now := x.worker.Loop.Now()
	deadline := now + int64(x.bounds().connectTimeout())
	if first := x.bounds().firstConnect(); first < x.bounds().connectTimeout() && x.hasAnother() {
		t.Soon = now + int64(first)
		x.worker.Loop.Set(&x.alarm.early, first)
	}
	var err error
	if t.Transport.HTTP2 {
		var s *upstream.Stream
		if s, err = pool.Stream(x.co, t, fresh, deadline); err == nil {
			x.http2.Open(s, &x.outgoing.Outgoing)
			x.attempt.up = &x.http2
		}
	} else {
		var c *upstream.Conn
		if c, err = pool.Dial(x.co, t, deadline); err == nil {
			x.http1.Open(c, &x.outgoing.Outgoing)
			x.attempt.up = &x.http1
		}
	}
	x.worker.Loop.Clear(&x.alarm.timer)
	if t.Soon > 0 {
		x.worker.Loop.Clear(&x.alarm.early)
		if errors.Is(err, upstream.ErrTimeout) && x.worker.Loop.Now() < deadline {
			x.choice.early, x.choice.hasEarly = p, true
		}
	}
	switch {
	case err == nil && t.Transport.HTTP2 && x.http2.RefusesTunnel():
		x.attempt.up.Close()
		x.attempt.up = nil
		return NoWebSocket, false
	case err == nil && x.down.Broken():
		// Taken back meanwhile: the pod need not hear of it.
		x.attempt.up.Close()
		x.attempt.up = nil
		return ClientAborted, false
	case err == nil:
		return Forwarded, false
	case x.co.Dying(), x.down.Broken():
		return ClientAborted, false
	}
	return x.connectReason(err), true
}

// hasAnother reports whether another pod may be asked if this one does not accept the connection.
// A node that has lost its power answers nothing at all. A client that is kept at its pod waits
// for it.
func (x *Exchange) hasAnother() bool {
	c := &x.choice
	switch {
	case c.known, c.tries >= c.limit:
		return false
	case c.retry != nil && (!c.retry.On(conditions(ConnectTimeout)) || c.tooLate(x.worker.Loop.Clock())):
		return false
	}
	return x.worker.Balancer.Another(c.service.ID, c.tried[:c.tries])
}

// connectReason classifies why no connection to a pod could be had.
func (x *Exchange) connectReason(err error) Reason {
	var spoken *upstream.ProtocolError
	var encrypted *upstream.TLSError
	switch {
	case errors.Is(err, upstream.ErrTimeout):
		return ConnectTimeout
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOBUFS),
		errors.Is(err, unix.ENOMEM), errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, upstream.ErrTooManyStreams):
		return Overloaded
	case errors.As(err, &spoken):
		x.Outcome.Detail = spoken.Token
		return UpstreamProtocol
	case errors.As(err, &encrypted):
		x.Outcome.Detail = encrypted.Token
		x.logTLS(encrypted.Token, encrypted.Err)
		if encrypted.Untrusted {
			return UpstreamUntrusted
		}
		return UpstreamTLS
	default:
		return ConnectFailed
	}
}
