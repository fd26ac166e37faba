package loader

import (
	"net/netip"
	"time"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
)

// tracker is a reference model of how the programs track flows (bpf/flow.h, bpf/l4.h), for
// tables that are never full. It is written from the description in docs/architecture.md.
type tracker struct {
	d *Datapath
	// The client's side: what a packet of the client leads to.
	settled, opening map[flowID]*tracked
	// The backend's side: to which listener its packets to a client belong.
	settledBack, openingBack map[backID]netip.AddrPort
	tries                    int // backends that are tried for a new flow
}

// flowID names the packets of a client to a listener, backID those of a backend to a client.
type flowID struct {
	client, listener netip.AddrPort
	protocol         uint8
}

type backID struct {
	backend, client netip.AddrPort
	protocol        uint8
}

type tracked struct {
	backend    netip.AddrPort
	id         uint32 // of the backend, and its generation
	generation uint32
	state      uint8
	clientFIN  bool
	backendFIN bool
	successor  bool // a SYN came that may have opened another flow
	fromSYN    bool
	answered   bool
	expected   uint32
	seen       uint32
}

func newTracker(d *Datapath) *tracker {
	m := &tracker{d: d, tries: 4}
	m.forget()
	return m
}

func (m *tracker) forget() {
	m.settled, m.opening = map[flowID]*tracked{}, map[flowID]*tracked{}
	m.settledBack, m.openingBack = map[backID]netip.AddrPort{}, map[backID]netip.AddrPort{}
}

// outcome is what the model says about a packet of a client.
type outcome struct {
	flow    *tracked // nil: a backend is chosen
	choice  []netip.AddrPort
	refusal bool // there may be no backend left to choose
	// chosen completes a choice.
	chosen func(netip.AddrPort)
}

func (f *tracked) ended() bool { return f.clientFIN && f.backendFIN }

func (f *tracked) expired(protocol uint8, now uint32) bool {
	return now > f.seen && time.Duration(now-f.seen)<<abi.FlowTick > lifetime(f.state, protocol)
}

func (m *tracker) isCurrent(f *tracked) bool {
	b := m.d.view.Backends[f.id]
	return b.Flags&abi.BackendInUse != 0 && b.Generation == f.generation
}

func (p flowPacket) begins() bool { return p.protocol == 17 || p.flags&(syn|ack) == syn }

func (m *tracker) belongs(p flowPacket, f *tracked, now uint32) bool {
	if f.expired(p.protocol, now) {
		return false
	}
	if !p.begins() {
		return true
	}
	return f.state < abi.FlowHalfClosed && m.isCurrent(f)
}

func (f *tracked) close(p flowPacket, byClient bool) {
	if p.protocol != 6 {
		return
	}
	if p.flags&fin != 0 {
		f.clientFIN, f.backendFIN = f.clientFIN || byClient, f.backendFIN || !byClient
		f.state = abi.FlowHalfClosed
		if f.ended() {
			f.state = abi.FlowClosed
		}
	}
	if p.flags&rst != 0 {
		f.state = abi.FlowClosed
	}
}

func (f *tracked) confirms(p flowPacket) bool {
	if p.protocol == 17 {
		return f.answered
	}
	return f.answered && p.flags&ack != 0 && p.flags&(rst|syn) == 0 && f.state != abi.FlowClosed && p.ack-f.expected < 1<<16
}

// fromClient says what becomes of a packet of a client, and notes it.
func (m *tracker) fromClient(p flowPacket, now uint32) outcome {
	id := flowID{p.from, p.to, p.protocol}
	old := m.settled[id]
	if old != nil && !old.successor && m.belongs(p, old, now) {
		m.keep(id, p, old, now)
		return outcome{flow: old}
	}
	flow := m.opening[id]
	if flow != nil && !m.belongs(p, flow, now) {
		flow = nil
	}
	confirmed := flow != nil && flow.confirms(p)
	if old != nil && (p.protocol == 17 || old.ended() || old.expired(p.protocol, now)) {
		delete(m.settled, id)
		old = nil
	}
	if old != nil && !confirmed && m.belongs(p, old, now) {
		m.keep(id, p, old, now)
		return outcome{flow: old}
	}
	if old != nil && p.begins() {
		old.successor = true
	}
	if flow == nil {
		return m.choose(id, p, now)
	}
	flow.close(p, true)
	flow.seen = now
	if confirmed {
		m.settle(id, flow)
	} else if p.protocol == 6 && !flow.fromSYN && int32(p.ack-flow.expected) >= 1<<16 {
		flow.answered = false
	}
	return outcome{flow: flow}
}

func (m *tracker) keep(id flowID, p flowPacket, f *tracked, now uint32) {
	if p.begins() && p.protocol == 6 {
		return
	}
	f.close(p, true)
	if f.seen == now {
		return
	}
	f.seen = now
	back := backID{f.backend, id.client, id.protocol}
	if _, ok := m.settledBack[back]; !ok && f.state != abi.FlowClosed {
		m.settledBack[back] = id.listener
	}
}

func (m *tracker) settle(id flowID, f *tracked) {
	copy := *f
	if copy.state == abi.FlowOpening {
		copy.state = abi.FlowOpen
	}
	copy.fromSYN, copy.answered, copy.successor = false, false, false
	m.settled[id] = &copy
	m.settledBack[backID{f.backend, id.client, id.protocol}] = id.listener
	delete(m.opening, id)
	back := backID{f.backend, id.client, id.protocol}
	if m.openingBack[back] == id.listener {
		delete(m.openingBack, back)
	}
}

// lives reports whether the flow of a client and another listener by which a backend's packets
// belong to that listener is alive.
func (m *tracker) lives(id flowID, backend netip.AddrPort, now uint32) bool {
	f := m.settled[id]
	if f == nil || f.backend != backend {
		if f = m.opening[id]; f == nil || f.backend != backend {
			return false
		}
	}
	return f.state != abi.FlowClosed && !f.expired(id.protocol, now)
}

// isTaken reports whether a backend's packets to the client belong to a living flow of another
// listener.
func (m *tracker) isTaken(id flowID, backend netip.AddrPort, now uint32) bool {
	for _, table := range []map[backID]netip.AddrPort{m.openingBack, m.settledBack} {
		other, ok := table[backID{backend, id.client, id.protocol}]
		if ok && other != id.listener && m.lives(flowID{id.client, other, id.protocol}, backend, now) {
			return true
		}
	}
	return false
}

// choose opens a flow.
func (m *tracker) choose(id flowID, p flowPacket, now uint32) (o outcome) {
	for _, b := range m.ready(id) {
		if m.isTaken(id, b, now) {
			o.refusal = true
		} else {
			o.choice = append(o.choice, b)
		}
	}
	o.chosen = func(b netip.AddrPort) {
		back := backID{b, id.client, id.protocol}
		// Whatever is there of another listener is dead.
		known := m.settledBack[back] == id.listener
		if !known {
			delete(m.settledBack, back)
		}
		if p.protocol == 6 && p.flags&rst != 0 {
			return
		}
		number, _ := m.d.registry.BackendID(b, state.Protocol(id.protocol))
		f := &tracked{backend: b, id: uint32(number), generation: m.d.view.Backends[number].Generation, state: abi.FlowOpening, seen: now,
			fromSYN: p.protocol == 6 && p.flags&syn != 0}
		if known && !p.begins() {
			f.state = abi.FlowOpen
			m.settled[id], m.settledBack[back] = f, id.listener
			return
		}
		m.opening[id], m.openingBack[back] = f, id.listener
	}
	return o
}

// ready returns the backends of a listener's service.
func (m *tracker) ready(id flowID) (out []netip.AddrPort) {
	for _, b := range allBackends(id.client.Addr()) {
		a := netip.MustParseAddrPort(b)
		number, ok := m.d.registry.BackendID(a, state.Protocol(id.protocol))
		if ok && m.isCurrent(&tracked{id: uint32(number), generation: m.d.view.Backends[number].Generation}) {
			out = append(out, a)
		}
	}
	return out
}

// fromBackend says from which listener a packet of a backend reaches its client; none: it is
// not translated.
func (m *tracker) fromBackend(p flowPacket) (listener netip.AddrPort, ok bool) {
	back := backID{p.from, p.to, p.protocol}
	listener, settled := m.settledBack[back]
	if !settled {
		if listener, ok = m.openingBack[back]; !ok {
			return listener, false
		}
	}
	id := flowID{p.to, listener, p.protocol}
	if p.protocol == 6 && p.flags&(fin|rst) != 0 {
		f := m.settled[id]
		if f == nil || f.backend != p.from {
			f = m.opening[id]
		}
		if f != nil && f.backend == p.from {
			f.close(p, false)
		}
		return listener, true
	}
	if settled && (p.protocol == 17 || p.flags&syn == 0) {
		return listener, true
	}
	f := m.opening[id]
	if f == nil || f.backend != p.from {
		return listener, true
	}
	if p.protocol == 6 {
		isSYN := p.flags&syn != 0
		if p.flags&ack == 0 || !isSYN && (f.fromSYN || f.answered) {
			return listener, true
		}
		f.expected = p.seq
		if isSYN {
			f.expected++
		}
	}
	f.answered = true
	return listener, true
}

// age makes all flows silent for longer.
func (m *tracker) age(ticks uint32) {
	for _, table := range []map[flowID]*tracked{m.settled, m.opening} {
		for _, f := range table {
			f.seen -= ticks
		}
	}
}

// sweep is the agent's removal of what has expired.
func (m *tracker) sweep(now uint32) {
	for id, f := range m.settled {
		if f.expired(id.protocol, now) {
			delete(m.settled, id)
		}
	}
	for back, listener := range m.settledBack {
		f := m.settled[flowID{back.client, listener, back.protocol}]
		if f == nil || f.backend != back.backend {
			delete(m.settledBack, back)
		}
	}
}
