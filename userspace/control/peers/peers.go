// Package peers probes the other nodes of the fabric, notices within about a second when one
// goes silent, and announces to them when this node drains. Kubernetes would report a dead
// node only after some forty seconds.
//
// A probe is a connection to the TCP port with the fabric's number. Nobody needs to listen
// there: the kernel of a living node refuses the connection, also while its agent is being
// replaced. A node that is dead or unreachable from here does not respond at all. The agent
// of a node that drains does listen, and announces it, and for a while the end of it too.
//
// Probe results are local and can only make a node less preferred: a silent node gets no new
// connections from this node, but is still tried for connections that it may already hold.
// Nobody can have a node declared dead by sending something, only by keeping its responses
// from us; nor alive, without guessing the sequence number of each probe. A node that has
// never responded is not judged: a firewall may be in the way.
package peers

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

const (
	// attempts are made within the time in which a node must answer.
	attempts = 4
	// comeBack is how many answers in a row make a silent node one to count on again.
	comeBack = 8
	// forget is how many plain answers (connection refused, no banner) clear a node's "draining"
	// state. It is long enough to cover an agent's restart.
	forget = 30 * attempts
	// perSecond bounds the attempts: with more nodes each is asked more rarely.
	perSecond = 1000
)

// Node is one that may be asked.
type Node struct {
	Name      string
	Addresses []netip.Addr
}

// Verdict is what was found out about a node.
type Verdict uint8

const (
	Present  Verdict = iota // or never heard of
	Draining                // as it says itself
	Silent                  // it has answered before, and does not any more
)

// Options of a Prober.
type Options struct {
	// Nodes returns this node and the others.
	Nodes func() (self Node, others []Node)
	// Judge is told the verdicts on nodes that are not Present, when they change.
	Judge   func(map[string]Verdict) error
	Port    uint16
	Timeout time.Duration // in which a node must answer; at least 100 ms
	Metrics prometheus.Registerer
	Log     zerolog.Logger

	ask func(ctx context.Context, to netip.AddrPort) answer // nil: by TCP
}

// Prober asks other nodes, and answers them while this one drains.
type Prober struct {
	Options
	interval time.Duration
	peers    map[string]*peer
	silent   prometheus.Gauge
	asked    *prometheus.CounterVec

	mu        sync.Mutex
	listeners []*listener // while this node drains, and a while after
	ending    *time.Timer // of that while
}

// New returns a prober that does nothing yet.
func New(o Options) *Prober {
	p := &Prober{
		Options: o, interval: o.Timeout / attempts, peers: map[string]*peer{},
		silent: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kerngate_agent_fabric_silent_nodes",
			Help: "Nodes of the fabric that have answered this one before and do not any more.",
		}),
		asked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kerngate_agent_fabric_probes_total",
			Help: "Attempts to reach other nodes of the fabric by what came: answered, missed, or unknown, where this node could not ask.",
		}, []string{"result"}),
	}
	if p.ask == nil {
		p.ask = askTCP
	}
	if o.Metrics != nil {
		o.Metrics.MustRegister(p.silent, p.asked)
	}
	return p
}

// Run asks until ctx ends.
func (p *Prober) Run(ctx context.Context) {
	for {
		began := time.Now()
		_, others := p.Nodes()
		if p.round(ctx, others); ctx.Err() != nil {
			return
		}
		pause := max(p.interval, time.Duration(len(others))*time.Second/perSecond) - time.Since(began)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// round asks each node once and passes on what has changed.
func (p *Prober) round(ctx context.Context, others []Node) {
	began := time.Now()
	answers := make([]answer, len(others))
	within, cancel := context.WithTimeout(ctx, p.interval)
	var work sync.WaitGroup
	for i, n := range others {
		work.Go(func() { answers[i] = p.askNode(within, n) })
	}
	work.Wait()
	cancel()
	if ctx.Err() != nil {
		return
	}
	// If the round took this long, this node itself was stalled: its misses do not count.
	away := time.Since(began) > 2*p.interval

	before := p.verdicts()
	for i, n := range others {
		at := p.peers[n.Name]
		if at == nil {
			at = &peer{}
			p.peers[n.Name] = at
		}
		if away && answers[i] == missed {
			answers[i] = unknown
		}
		p.asked.WithLabelValues(answers[i].String()).Inc()
		if was, is := at.verdict, at.note(answers[i]); was != is {
			p.tell(n.Name, is)
		}
	}
	for name := range p.peers {
		if !slices.ContainsFunc(others, func(n Node) bool { return n.Name == name }) {
			delete(p.peers, name)
		}
	}
	now := p.verdicts()
	if equal(before, now) {
		return
	}
	silent := 0
	for _, v := range now {
		if v == Silent {
			silent++
		}
	}
	p.silent.Set(float64(silent))
	if err := p.Judge(now); err != nil {
		p.Log.Error().Err(err).Msg("the maps do not hold all that was found out about other nodes")
	}
}

// askNode asks a node at all of its addresses; the best answer counts.
func (p *Prober) askNode(ctx context.Context, n Node) answer {
	best := unknown
	answers := make(chan answer, len(n.Addresses))
	for _, a := range n.Addresses {
		go func() { answers <- p.ask(ctx, netip.AddrPortFrom(a, p.Port)) }()
	}
	for range n.Addresses {
		best = max(best, <-answers)
	}
	return best
}

func (p *Prober) tell(name string, is Verdict) {
	switch is {
	case Silent:
		p.Log.Warn().Str("node", name).Dur("after", p.Timeout).Msg("a node of the fabric does not answer: it gets no new connections from here")
	case Draining:
		p.Log.Info().Str("node", name).Msg("a node of the fabric drains")
	default:
		p.Log.Info().Str("node", name).Msg("a node of the fabric is back")
	}
}

func (p *Prober) verdicts() map[string]Verdict {
	out := map[string]Verdict{}
	for name, at := range p.peers {
		if at.verdict != Present {
			out[name] = at.verdict
		}
	}
	return out
}

func equal(a, b map[string]Verdict) bool {
	if len(a) != len(b) {
		return false
	}
	for name, v := range a {
		if b[name] != v {
			return false
		}
	}
	return true
}

// peer is what is remembered of a node.
type peer struct {
	known   bool // has answered
	missed  int  // in a row
	in      int  // answers in a row
	unsaid  int  // answers since the last word
	verdict Verdict
}

// note takes an answer, or that there was none, and returns the verdict.
func (n *peer) note(a answer) Verdict {
	switch a {
	case missed:
		n.in = 0
		if n.missed++; n.known && n.missed >= attempts {
			n.verdict = Silent
		}
	case answered, serves, drains:
		n.known, n.missed = true, 0
		n.in++
		if n.unsaid++; a != answered {
			n.unsaid = 0
		}
		switch {
		case n.verdict == Silent && n.in < comeBack:
		case a == drains:
			n.verdict = Draining
		case n.verdict == Draining && a == answered && n.unsaid < forget:
		default:
			n.verdict = Present
		}
	}
	return n.verdict
}

// SetDraining tells other nodes from now on that this one drains, or not any more.
func (p *Prober) SetDraining(on bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ending != nil {
		p.ending.Stop()
		p.ending = nil
	}
	if !on {
		for _, l := range p.listeners {
			l.draining.Store(false)
		}
		// Until all have asked: who hears nothing believes what was said last.
		p.ending = time.AfterFunc(10*p.Timeout, p.Close)
		return nil
	}
	if p.listeners == nil {
		if err := p.listen(); err != nil {
			return fmt.Errorf("tell other nodes that this one drains: %w", err)
		}
	}
	for _, l := range p.listeners {
		l.draining.Store(true)
	}
	return nil
}

func (p *Prober) listen() error {
	self, _ := p.Nodes()
	if len(self.Addresses) == 0 {
		return errors.New("this node is no member of the fabric")
	}
	for _, a := range self.Addresses {
		l, err := listen(netip.AddrPortFrom(a, p.Port))
		if err != nil {
			p.closeListeners()
			return err
		}
		p.listeners = append(p.listeners, l)
	}
	return nil
}

// Close ends the telling. Other nodes go by what they have heard, for a while.
func (p *Prober) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeListeners()
}

func (p *Prober) closeListeners() {
	for _, l := range p.listeners {
		l.close()
	}
	p.listeners = nil
}
