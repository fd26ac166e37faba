package proxy

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/userspace/feed"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// connectedTo notes the agent that this proxy talks with.
func (p *Proxy) connectedTo(client *feed.Client, w *feedpb.Welcome) {
	p.connected.Store(true)
	if w.Version >= feed.ListenersVersion {
		p.agent.Store(client)
	}
}

// passListeners has the agent keep this proxy's listening sockets open, so that who connects after
// the end of its process waits there for the next proxy.
func (p *Proxy) passListeners(client *feed.Client) {
	if p.agent.Load() != client || p.draining.Load() {
		return
	}
	err := client.Send(&feedpb.ToAgent{Message: &feedpb.ToAgent_Listeners{Listeners: &feedpb.Listeners{}}}, p.over.Listeners...)
	if err != nil {
		p.log.Warn().Err(err).Msg("cannot pass the listening sockets to the agent: if this process dies, connections that nobody has accepted yet are reset")
	}
}

// leave tells the agent that this proxy ends, and that another one is needed.
func (p *Proxy) leave() {
	if client := p.agent.Load(); client != nil {
		client.Send(&feedpb.ToAgent{Message: &feedpb.ToAgent_Leaving{Leaving: &feedpb.Leaving{}}}) // that it is lost the agent sees by itself
	}
}

// inherit serves those who wait in the queues of a proxy that is gone or does not respond.
// Handshakes that had begun with it may take a moment to be completed; then the sockets are closed.
func (p *Proxy) inherit(fds []int) {
	if len(fds) == 0 {
		return
	}
	p.log.Info().Int("sockets", len(fds)).Msg("taking over the connections that wait in the sockets of another proxy")
	var index atomic.Int64
	p.each(func(w *worker) {
		for i := int(index.Add(1)) - 1; i < len(fds); i += len(p.workers) {
			if err := w.server.Inherit(fds[i]); err != nil {
				p.log.Error().Err(err).Msg("cannot accept from a socket of another proxy: connections that wait there are reset")
				unix.Close(fds[i])
			}
		}
	})
	time.AfterFunc(queuedWait, func() {
		p.each(func(w *worker) { w.server.StopInherited() })
	})
}
