package agent

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader"
	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/userspace/control/compile"
	"github.com/kerngate/kerngate/userspace/feed"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/look/status"
	"github.com/kerngate/kerngate/userspace/model"
)

// comeBack is how long a proxy that lost its connection is waited for before the agent
// judges by its sockets whether it lives. Proxies try to reconnect every 100 ms.
const comeBack = 5 * time.Second

type proxyState string

const (
	starting proxyState = "starting" // has a generation, but has not yet taken a configuration
	serving  proxyState = "serving"  // gets new connections
	draining proxyState = "draining" // finishes what it has
)

// proxy is one generation as the agent knows it.
type proxy struct {
	number  uint32
	workers int
	build   string
	pid     int
	walls   []status.Wall
	state   proxyState
	since   time.Time // of state

	peer    *feed.Peer // nil: not connected
	watched bool       // the end of its process will be seen
	silent  bool       // its workers do not turn
	leaving bool       // it drains of itself
	goneAt  time.Time  // its process has ended, and connections wait in listeners for the next proxy
	looks   int        // of the agent since
	killed  bool       // for that
	lostAt  time.Time  // since when peer is nil

	listeners []int // TCP, kept open for the next proxy

	acked        *compile.Routing // nil: nothing yet on this connection
	ackedVersion uint64
	sent         *compile.Routing // awaits its answer; nil: none
	sentVersion  uint64
	sentModel    *model.Model     // of which sent was made
	refused      *compile.Routing // not to be sent again
	refusal      string
}

// adopt takes note of the generations that an earlier agent left. Their proxies are
// expected to reconnect.
func (a *Agent) adopt() {
	now := time.Now()
	for _, g := range a.Datapath.Generations() {
		p := &proxy{number: g.Number, workers: g.Workers, state: starting, since: now, lostAt: now}
		switch g.State {
		case abi.GenerationServing:
			p.state = serving
			// One that was suspended gets new connections again when it turns.
			p.silent = a.Datapath.Serving() != g.Number
		case abi.GenerationDraining:
			p.state = draining
		}
		a.proxies[g.Number] = p
		a.Log.Info().Uint32("generation", g.Number).Str("state", string(p.state)).Int("sockets", g.Sockets).
			Msg("a proxy generation of an earlier agent; waiting for it to reconnect")
	}
}

// handle is for what comes over the feed.
func (a *Agent) handle(e feed.Event) {
	switch e := e.(type) {
	case feed.Joined:
		a.join(e)
	case feed.Acked:
		a.acked(e)
	case feed.Refused:
		a.refusedBy(e)
	case feed.Passed:
		a.keepListeners(e)
	case feed.Leaves:
		a.leaves(e)
	case feed.Left:
		a.left(e)
	case feed.Asked:
		a.answer(e)
	}
}

func (a *Agent) join(e feed.Joined) {
	defer func() {
		for _, fd := range e.FDs {
			unix.Close(fd) // the map holds the sockets, not these descriptors
		}
	}()
	var p *proxy
	var err error
	welcome := &feedpb.Welcome{Epoch: a.Datapath.Epoch()}
	var mapFDs []int
	if e.Hello.ResumeGeneration != 0 {
		p, err = a.resume(e)
	} else {
		p, err = a.begin(e)
		for _, m := range a.Datapath.Maps() {
			welcome.Maps = append(welcome.Maps, &feedpb.Map{Name: m.Name, MaxEntries: m.MaxEntries, ValueSize: m.ValueSize, Writable: m.Writable})
			mapFDs = append(mapFDs, m.FD)
		}
	}
	if err != nil {
		a.Log.Warn().Err(err).Int("proxy_pid", e.Peer.PID).Msg("proxy refused")
		e.Peer.Reject(err.Error())
		return
	}
	p.peer, p.pid, p.build = e.Peer, e.Peer.PID, e.Hello.Build
	p.walls = wallsOf(e.Hello)
	p.acked, p.sent, p.refused, p.refusal = nil, nil, nil, ""
	p.lostAt = time.Time{}
	a.watch(p)
	welcome.Generation = p.number
	p.peer.Welcome(welcome, mapFDs)
	a.Log.Info().Uint32("generation", p.number).Int("proxy_pid", p.pid).Str("build", p.build).Int("workers", p.workers).
		Bool("resumes", e.Hello.ResumeGeneration != 0).Msg("proxy connected")
	switch {
	case p.state == draining:
		a.sendDrain(p)
	case p.state == serving:
		p.peer.Send(servingMessage)
	}
	a.publishTo(p)
}

// bindQUIC prepares a UDP socket of a proxy for HTTP/3. Without it the proxy serves all else.
func (a *Agent) bindQUIC(fd int) bool {
	listeners := a.listeners()
	i := slices.IndexFunc(listeners, func(l model.Listener) bool { return l.HTTP3 })
	if i < 0 {
		return false
	}
	// A socket has one port. Those of flags are the same at each address.
	if err := a.Datapath.BindQUIC(fd, listeners[i].Port); err != nil {
		a.Log.Error().Err(err).Msg("this proxy serves HTTP/1.1 and HTTP/2, but not HTTP/3")
		return false
	}
	return true
}

// begin makes a generation of a new proxy and gives the kernel its sockets.
func (a *Agent) begin(e feed.Joined) (*proxy, error) {
	workers := int(e.Hello.Workers)
	number, err := a.Datapath.StartGeneration(workers)
	if err != nil && a.makeRoom() {
		number, err = a.Datapath.StartGeneration(workers)
	}
	if err != nil {
		return nil, err
	}
	for i, fd := range e.FDs {
		worker, kind := i/len(e.Hello.Sockets), e.Hello.Sockets[i%len(e.Hello.Sockets)]
		if (kind == abi.SocketUDP4 || kind == abi.SocketUDP6) && !a.bindQUIC(fd) {
			continue
		}
		if err := a.Datapath.PlaceSockets(number, worker, kind, fd); err != nil {
			if endErr := a.Datapath.EndGeneration(number); endErr != nil {
				a.Log.Error().Err(endErr).Uint32("generation", number).Msg("cannot take back a generation")
			}
			return nil, err
		}
	}
	p := &proxy{number: number, workers: workers, state: starting, since: time.Now()}
	a.proxies[number] = p
	return p, nil
}

// wallsOf returns what a proxy says of its restrictions. It may have been taken over: what operators
// read is bounded, and holds nothing that a terminal would obey.
func wallsOf(hello *feedpb.Hello) (walls []status.Wall) {
	const most, longest = 16, 300
	clean := func(text string) string {
		text = strings.Map(func(r rune) rune {
			if !unicode.IsPrint(r) {
				return -1
			}
			return r
		}, text)
		if len(text) > longest {
			text = strings.ToValidUTF8(text[:longest], "") + "..."
		}
		return text
	}
	for _, w := range hello.Walls[:min(len(hello.Walls), most)] {
		walls = append(walls, status.Wall{Name: clean(w.Name), InForce: w.Missing == "", Missing: clean(w.Missing)})
	}
	return walls
}

// resume finds the generation of a proxy that was connected before, maybe to another agent.
func (a *Agent) resume(e feed.Joined) (*proxy, error) {
	if e.Hello.Epoch != a.Datapath.Epoch() {
		return nil, fmt.Errorf("the maps that generation %d reads are not these any more: drain, and let a new proxy start", e.Hello.ResumeGeneration)
	}
	p := a.proxies[e.Hello.ResumeGeneration]
	if p == nil {
		return nil, fmt.Errorf("generation %d is not known any more: drain, and let a new proxy start", e.Hello.ResumeGeneration)
	}
	if p.peer != nil { // its Left is still to come
		p.peer.Close()
		p.peer = nil
	}
	return p, nil
}

// watch sees to it that the end of the proxy's process becomes an event.
func (a *Agent) watch(p *proxy) {
	process := p.peer.TakeProcess()
	if process == nil {
		return
	}
	if p.watched {
		process.Close()
		return
	}
	p.watched = true
	number := p.number
	a.watchers.Go(func() {
		defer process.Close()
		if !awaitExit(a.lifetime.Done(), process) {
			return
		}
		select {
		case a.exited <- number:
		case <-a.lifetime.Done():
		}
	})
}

// awaitExit waits for a pidfd to become readable. It reports false if done came first.
func awaitExit(done <-chan struct{}, process *os.File) bool {
	raw, err := process.SyscallConn()
	if err != nil {
		return false
	}
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-done:
			process.SetReadDeadline(time.Unix(1, 0))
		case <-over:
		}
	}()
	err = raw.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && n > 0
	})
	return err == nil
}

// acked: a proxy has taken a configuration. The first one of a new proxy makes it serve.
func (a *Agent) acked(e feed.Acked) {
	p := a.proxyOf(e.Peer)
	if p == nil || p.sent == nil || e.Version != p.sentVersion {
		return
	}
	p.acked, p.ackedVersion, p.sent = p.sent, p.sentVersion, nil
	if p.state == starting {
		a.serve(p)
	}
	a.publishTo(p)
}

// serve switches new connections over to a proxy, unless a newer one has them already.
func (a *Agent) serve(p *proxy) {
	for _, other := range a.proxies {
		if other.state == serving && other.number > p.number && !other.away() {
			a.drain(p)
			return
		}
	}
	if err := a.Datapath.Serve(p.number); err != nil {
		a.Log.Error().Err(err).Uint32("generation", p.number).Msg("cannot switch to this proxy")
		p.peer.Reject("the agent could not switch to this generation: " + err.Error())
		return
	}
	a.setState(p, serving)
	a.Child.served(p.pid)
	p.peer.Send(servingMessage)
	for _, other := range a.proxies {
		if other == p || other.state != serving {
			continue
		}
		if other.away() {
			a.bequeath(other, p)
		}
		if other.goneAt.IsZero() {
			a.drain(other)
		} else {
			a.endProxy(other.number, "its process has ended, and another proxy serves")
		}
	}
}

func (a *Agent) drain(p *proxy) {
	if err := a.Datapath.DrainGeneration(p.number); err != nil {
		a.Log.Error().Err(err).Uint32("generation", p.number).Msg("cannot mark a generation as draining")
	}
	a.setState(p, draining)
	p.closeListeners() // it closes its own when nobody comes to them any more
	if p.peer != nil {
		a.sendDrain(p)
	}
}

func (a *Agent) sendDrain(p *proxy) {
	left := time.Duration(a.drainTimeout())*time.Millisecond - time.Since(p.since)
	p.peer.Send(&feedpb.FromAgent{Message: &feedpb.FromAgent_Drain{Drain: &feedpb.Drain{TimeoutMs: uint32(max(1, left.Milliseconds()))}}})
}

func (a *Agent) setState(p *proxy, s proxyState) {
	p.state, p.since = s, time.Now()
	a.Log.Info().Uint32("generation", p.number).Int("proxy_pid", p.pid).Str("state", string(s)).Msg("proxy")
}

func (a *Agent) refusedBy(e feed.Refused) {
	p := a.proxyOf(e.Peer)
	if p == nil || p.sent == nil || e.Version != p.sentVersion {
		return
	}
	a.Metrics.refusals.Inc()
	a.Log.Error().Uint32("generation", p.number).Str("kind", e.SourceKind).Str("object", e.Source).Str("reason", e.Reason).Uint64("version", e.Version).Msg("proxy refused a configuration")
	p.refused, p.refusal, p.sent = p.sent, e.Reason, nil
	p.acked = nil // what it has is unchanged, but a snapshot is asked for
	if e.Source != "" && a.refuse(e, p.sentModel) {
		a.publish(nil)
		a.report()
	}
	a.publishTo(p) // what has come since, and was not sent because this was on its way
}

func (a *Agent) left(e feed.Left) {
	p := a.proxyOf(e.Peer)
	if p == nil {
		return // has resumed since, or was never welcome
	}
	p.peer, p.sent, p.acked, p.lostAt = nil, nil, nil, time.Now()
	a.Log.Warn().AnErr("reason", e.Err).Uint32("generation", p.number).Int("proxy_pid", p.pid).Str("state", string(p.state)).Msg("proxy disconnected")
}

func (a *Agent) proxyOf(peer *feed.Peer) *proxy {
	for _, p := range a.proxies {
		if p.peer == peer {
			return p
		}
	}
	return nil
}

// lookAfterProxies judges the proxies which are not connected and whose process cannot be
// watched by their sockets: a proxy that has none gets no connections, so another one is
// needed. It may still be finishing what it has, so its counts are left alone for as long
// as that may take.
func (a *Agent) lookAfterProxies(now time.Time) {
	lost := func(p *proxy) bool { return p != nil && p.peer == nil && !p.watched }
	if slices.ContainsFunc(slices.Collect(maps.Values(a.proxies)), lost) {
		for _, g := range a.Datapath.Generations() {
			if p := a.proxies[g.Number]; lost(p) {
				a.judge(p, g.Sockets, now)
			}
		}
	}
	for _, p := range a.proxies {
		if !p.goneAt.IsZero() && now.Sub(p.goneAt) >= heirWait {
			a.endProxy(p.number, "its process has ended, and no other proxy serves yet: connections that waited for one are reset")
		}
	}
	a.Metrics.proxies(a.proxies)
}

func (a *Agent) judge(p *proxy, sockets int, now time.Time) {
	switch {
	case p.state == starting && now.Sub(p.lostAt) >= comeBack:
		a.drain(p) // it never served and does not come back
	case p.state == serving && sockets == 0:
		a.drain(p)
	case p.state == draining && now.Sub(p.since) >= time.Duration(a.drainTimeout())*time.Millisecond+comeBack:
		a.endProxy(p.number, "it is not connected, and its time to drain is over")
	}
}

// makeRoom ends the oldest generation that has neither a connection nor sockets.
func (a *Agent) makeRoom() bool {
	generations := a.Datapath.Generations()
	slices.SortFunc(generations, func(x, y loader.Generation) int { return int(int64(x.Number) - int64(y.Number)) })
	for _, g := range generations {
		if p := a.proxies[g.Number]; p == nil || p.peer == nil && g.Sockets == 0 {
			a.endProxy(g.Number, "room is needed for a new one")
			return true
		}
	}
	return false
}

// endProxy forgets a generation whose proxy is gone and takes back what it had in flight.
func (a *Agent) endProxy(number uint32, why string) {
	p := a.proxies[number]
	delete(a.proxies, number)
	if err := a.Datapath.EndGeneration(number); err != nil {
		a.Log.Error().Err(err).Uint32("generation", number).Msg("cannot end a generation")
	}
	event := a.Log.Info()
	if p != nil {
		p.closeListeners()
		if p.state == serving && p.goneAt.IsZero() {
			event = a.Log.Error()
		}
		if p.peer != nil {
			p.peer.Close()
		}
		event = event.Int("proxy_pid", p.pid).Str("state", string(p.state))
	}
	event.Uint32("generation", number).Str("why", why).Msg("proxy generation ended")
	a.Child.keep(a.hasProxy())
}

// hasServing reports whether new connections are answered.
func (a *Agent) hasServing() bool {
	for _, p := range a.proxies {
		if p.state == serving && !p.silent && p.goneAt.IsZero() {
			return true
		}
	}
	return false
}

// hasProxy reports whether a proxy serves or is about to, so that none need be started.
func (a *Agent) hasProxy() bool {
	for _, p := range a.proxies {
		if !p.away() && (p.state == serving || p.state == starting) {
			return true
		}
	}
	return false
}

var servingMessage = &feedpb.FromAgent{Message: &feedpb.FromAgent_Serving{Serving: &feedpb.Serving{}}}
