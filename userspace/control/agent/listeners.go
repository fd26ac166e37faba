package agent

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/userspace/feed"
)

// heirWait is for how long connections may wait in the listening sockets of a proxy whose process
// has ended. After it they are reset, and SYNs dropped, until another proxy serves.
const heirWait = 10 * time.Second

// away reports whether another proxy is needed in the place of this one.
func (p *proxy) away() bool { return p.silent || p.leaving || !p.goneAt.IsZero() }

// shown is the state for people.
func (p *proxy) shown() string {
	switch {
	case !p.goneAt.IsZero():
		return "gone" // and connections wait for another one
	case p.leaving && p.state == serving:
		return "leaving"
	}
	return string(p.state)
}

// keepListeners keeps a proxy's listening sockets open beyond its process: the kernel goes on to
// complete handshakes, and who has connected waits for the next proxy instead of being reset. A
// proxy whose end would not be noticed keeps its sockets to itself.
func (a *Agent) keepListeners(e feed.Passed) {
	p := a.proxyOf(e.Peer)
	var kept []int
	for _, fd := range e.FDs {
		if p != nil && p.watched && p.state != draining && isTCPListener(fd) {
			kept = append(kept, fd)
		} else {
			unix.Close(fd)
		}
	}
	if p != nil {
		p.closeListeners()
		p.listeners = kept
	}
}

func isTCPListener(fd int) bool {
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil || listens == 0 {
		return false
	}
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	return err == nil && protocol == unix.IPPROTO_TCP
}

func (p *proxy) closeListeners() {
	for _, fd := range p.listeners {
		unix.Close(fd)
	}
	p.listeners = nil
}

// processEnded: the process of a proxy has ended. New connections go on to come to the listening
// sockets that it leaves, and wait there for the next proxy.
func (a *Agent) processEnded(number uint32) {
	p := a.proxies[number]
	if p == nil || p.state != serving || len(p.listeners) == 0 || a.ending {
		a.endProxy(number, "its process has ended")
		return
	}
	p.goneAt = time.Now()
	a.Log.Error().Uint32("generation", p.number).Int("proxy_pid", p.pid).
		Msg("the process of the proxy has ended: new connections wait for another proxy")
	a.Child.keep(a.hasProxy())
}

// bequeath gives the listening sockets of a proxy that is away to the one that serves now.
func (a *Agent) bequeath(from, to *proxy) {
	if len(from.listeners) == 0 {
		return
	}
	to.peer.Bequeath(from.listeners)
	from.listeners = nil
}

// leaves: a proxy drains of itself. Another one takes its place.
func (a *Agent) leaves(e feed.Leaves) {
	p := a.proxyOf(e.Peer)
	if p == nil {
		return
	}
	p.leaving = true
	a.Log.Info().Uint32("generation", p.number).Int("proxy_pid", p.pid).Msg("the proxy was told to end, and drains")
	if !a.ending {
		a.Child.keep(a.hasProxy())
	}
}
