package agent

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	// pulseInterval is how often the agent looks whether proxies turn.
	pulseInterval = 150 * time.Millisecond
	// silence is for how long no worker of a proxy may turn. They turn every abi.BeatMs at least,
	// so that one which does not is noticed within a second.
	silence = 600 * time.Millisecond
	// punctual is how many looks in a row must have come in time before a proxy's silence counts:
	// on a machine that stalls, or has no CPU left, the agent is late as well, and another proxy would not
	// fare better. Silence for mortal counts whatever the agent's own state.
	punctual = 4
	// mortal is the silence after which a proxy is killed, so that its clients learn that their
	// connections are dead and its sockets and generation become free.
	mortal = 10 * time.Second
)

// pulse is how regularly the agent itself has turned of late.
type pulse struct {
	last   time.Time
	onTime int // looks in a row
}

// take notes a look, and reports whether the agent is punctual.
func (p *pulse) take(now time.Time) bool {
	if late := now.Sub(p.last); late < 2*pulseInterval {
		p.onTime++
	} else {
		p.onTime = 0
	}
	p.last = now
	return p.onTime >= punctual
}

// feelPulse looks for proxies that do not turn: stopped, frozen, hung in all workers. The kernel
// completes handshakes for such a one, and clients would wait for nothing. So it gets no new
// connections: their SYNs are dropped, and come again when another proxy serves. If it
// turns again before, it goes on.
func (a *Agent) feelPulse(now time.Time) {
	steady := a.pulse.take(now)
	for _, p := range a.proxies {
		if !p.goneAt.IsZero() {
			continue
		}
		quiet := a.Datapath.Silence(p.number)
		switch {
		case quiet < silence:
			if p.silent {
				a.revive(p)
			}
		case !p.silent && (steady || quiet >= mortal):
			a.silence(p, quiet)
		case p.silent && quiet >= mortal && !p.killed:
			// After a freeze of all processes it may be about to turn.
			if p.looks++; p.looks >= punctual {
				a.kill(p, quiet)
			}
		}
	}
}

// silence takes new connections away from a proxy that does not turn, and has another started.
func (a *Agent) silence(p *proxy, quiet time.Duration) {
	p.silent, p.looks = true, 0
	a.Log.Error().Uint32("generation", p.number).Int("proxy_pid", p.pid).Str("state", string(p.state)).
		Dur("silent_for", quiet).Msg("the proxy does not respond (stopped, or all workers hang): new connections wait for another proxy")
	if p.state == serving {
		if err := a.Datapath.Suspend(p.number); err != nil {
			a.Log.Error().Err(err).Uint32("generation", p.number).Msg("cannot take new connections away from a proxy")
		}
		a.Child.keep(a.hasProxy())
	}
}

// revive gives new connections back to a proxy that turns again, unless another has them.
func (a *Agent) revive(p *proxy) {
	p.silent = false
	a.Log.Warn().Uint32("generation", p.number).Int("proxy_pid", p.pid).Str("state", string(p.state)).Msg("the proxy responds again")
	if p.state != serving {
		return
	}
	if err := a.Datapath.Serve(p.number); err != nil {
		a.Log.Error().Err(err).Uint32("generation", p.number).Msg("cannot switch back to this proxy")
	}
}

// kill ends a proxy that has been silent for too long. Its end then comes as that of any other.
// In a container of its own it may be out of the agent's sight; its connections then
// wait for whoever runs it.
func (a *Agent) kill(p *proxy, quiet time.Duration) {
	p.killed = true
	if !p.watched || p.pid <= 0 {
		return
	}
	a.Log.Error().Uint32("generation", p.number).Int("proxy_pid", p.pid).Dur("silent_for", quiet).Msg("the proxy did not recover and is killed")
	if err := unix.Kill(p.pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
		a.Log.Warn().Err(err).Int("proxy_pid", p.pid).Msg("cannot kill the proxy")
	}
}
