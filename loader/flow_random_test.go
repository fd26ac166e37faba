package loader

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/state"
)

// TestFlowsAgainstModel drives the programs and the reference model by the same random
// packets. KERNGATE_FLOW_STEPS is how many (default 30,000), KERNGATE_FLOW_SEED the seed.
func TestFlowsAgainstModel(t *testing.T) {
	steps, seed := number(t, "KERNGATE_FLOW_STEPS", 30_000), uint64(number(t, "KERNGATE_FLOW_SEED", 1))
	d := openL4(t)
	r := &randomFlows{t: t, d: d, m: newTracker(d), rand: rand.New(rand.NewPCG(seed, 0)), out: make([]byte, 512)}
	r.changePods()
	for i := range steps {
		r.step = i
		r.next()
		if t.Failed() {
			for _, line := range r.log {
				t.Log(line)
			}
			t.Fatalf("step %d with seed %d (the last steps are above)", i, seed)
		}
	}
	t.Logf("%d steps: %d flows opened, %d confirmed, %d packets refused, %d replies translated; started again %d times as the clock moved on",
		steps, r.opened, r.confirmed, r.refused, r.replies, r.restarts)
	if r.opened == 0 || r.confirmed == 0 || r.refused == 0 || r.replies == 0 {
		t.Error("the steps do not reach all of the model")
	}
}

func number(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

type randomFlows struct {
	t    *testing.T
	d    *Datapath
	m    *tracker
	rand *rand.Rand
	out  []byte
	step int
	log  []string // of the last steps
	// The numbers that the last SYN+ACK and the last packet of a backend to each client had.
	numbers                                       map[netip.AddrPort]uint32
	opened, confirmed, refused, replies, restarts int
}

func (r *randomFlows) note(format string, args ...any) {
	r.log = append(r.log, fmt.Sprintf("%d: ", r.step)+fmt.Sprintf(format, args...))
	if len(r.log) > 40 {
		r.log = r.log[1:]
	}
}

// next makes a step. One during which the clock's tick changed says nothing: everything is
// forgotten then.
func (r *randomFlows) next() {
	switch n := r.rand.IntN(1000); {
	case n < 1:
		r.changePods()
	case n < 5:
		seconds := []uint64{40, 100, 1000, 4000, 90_000}[r.rand.IntN(5)]
		r.note("%d seconds pass", seconds)
		r.age(uint32(seconds * 1e9 >> abi.FlowTick))
	case n < 600:
		r.client()
	default:
		r.backend()
	}
}

// tick returns the time as the programs see it, and whether it is certain.
func tick() (uint32, bool) {
	const lag = 20_000_000 // of kg_clock
	now := datapath.Monotonic()
	return uint32(now >> abi.FlowTick), now>>abi.FlowTick == (now-lag)>>abi.FlowTick
}

// settledTick waits until the time is certain, and returns it.
func settledTick() uint32 {
	for {
		if now, sure := tick(); sure {
			return now
		}
		time.Sleep(time.Millisecond)
	}
}

func (r *randomFlows) restart() {
	r.restarts++
	r.note("everything is forgotten")
	for _, table := range []string{"kg_flows", "kg_loose", "kg_opening"} {
		clearMap(r.t, r.d, table)
	}
	r.m.forget()
}

func (r *randomFlows) changePods() {
	var numbers []int
	for n := 1; n <= 5; n++ {
		if r.rand.IntN(2) == 0 {
			numbers = append(numbers, n)
		}
	}
	if len(numbers) == 0 {
		numbers = []int{1 + r.rand.IntN(5)}
	}
	r.note("pods are now %v", numbers)
	s := l4State(pods(client4, numbers), pods(client6, numbers))
	for _, l := range slices.Clone(s.Listeners) {
		if l.Mode == state.L4 {
			l.Address = netip.AddrPortFrom(l.Address.Addr(), 5001)
			s.Listeners = append(s.Listeners, l)
		}
	}
	before := settledTick()
	mustApply(r.t, r.d, s)
	reap(r.t, r.d)
	r.m.sweep(before)
	if after, _ := tick(); after != before {
		r.restart()
	}
}

func (r *randomFlows) age(ticks uint32) {
	r.m.age(ticks)
	var k abi.FlowKey
	var f abi.Flow
	for _, name := range []string{"kg_flows", "kg_loose", "kg_opening"} {
		aged := map[abi.FlowKey]abi.Flow{}
		for entries := r.d.maps.ByName(name).Iterate(); entries.Next(&k, &f); {
			f.Seen -= ticks
			aged[k] = f
		}
		for k, f := range aged {
			if err := r.d.maps.ByName(name).Update(&k, &f, ebpf.UpdateExist); err != nil {
				r.t.Fatal(err)
			}
		}
	}
}

// someone returns one of few clients, and a listener of its family.
func (r *randomFlows) someone() (client, listener netip.AddrPort, protocol uint8) {
	a, vip := client4, vip4
	if r.rand.IntN(2) == 0 {
		a, vip = client6, vip6
	}
	client = netip.AddrPortFrom(a, 1000+uint16(r.rand.IntN(6)))
	listener = netip.AddrPortFrom(vip, 5000+uint16(r.rand.IntN(2)))
	return client, listener, []uint8{6, 6, 6, 17}[r.rand.IntN(4)]
}

// about returns a sequence number that may be the one that matters.
func (r *randomFlows) about(client netip.AddrPort) uint32 {
	n := r.numbers[client]
	switch r.rand.IntN(6) {
	case 0:
		return r.rand.Uint32()
	case 1:
		return n + uint32(r.rand.IntN(1<<17))
	case 2:
		return n - uint32(r.rand.IntN(1<<17))
	}
	return n
}

func (r *randomFlows) run(program string, packet []byte) (uint32, []byte, uint32, bool) {
	before := settledTick()
	o := ebpf.RunOptions{Data: packet, DataOut: r.out[:len(packet)+64]}
	verdict, err := r.d.programs.ByName(program).Run(&o)
	if err != nil {
		r.t.Fatal(err)
	}
	after, _ := tick()
	return verdict, o.DataOut, before, before == after
}

func (r *randomFlows) client() {
	client, listener, protocol := r.someone()
	p := flowPacket{from: client, to: listener, protocol: protocol, seq: r.rand.Uint32()}
	if protocol == 6 {
		p.flags = []byte{syn, syn, ack, ack, ack, ack, ack, ack, fin | ack, rst, rst | ack}[r.rand.IntN(11)]
		p.ack = r.about(client)
	}
	hook, pass := "kg_xdp", uint32(xdpPass)
	if r.rand.IntN(2) == 0 {
		hook, pass = "kg_ingress", tcPass
	}
	verdict, out, now, sure := r.run(hook, p.bytes())
	if !sure {
		r.restart()
		return
	}
	settled := len(r.m.settled)
	want := r.m.fromClient(p, now)
	if len(r.m.settled) > settled {
		r.confirmed++
	}
	r.note("%s: client %v to %v, protocol %d flags %02x ack %d: verdict %d", hook, p.from, p.to, protocol, p.flags, p.ack, verdict)
	if verdict != pass {
		r.refused++
		if !want.refusal {
			r.t.Errorf("refused; the model says %+v", want)
		}
		return
	}
	to := netip.AddrPort{}
	for _, b := range allBackends(client.Addr()) {
		q := p
		q.to = netip.MustParseAddrPort(b)
		if bytes.Equal(q.bytes(), out) {
			to = q.to
		}
	}
	r.note("went to %v", to)
	switch {
	case want.flow != nil:
		if to != want.flow.backend {
			r.t.Errorf("a packet went to %v, the model says to %v: %+v", to, want.flow.backend, want.flow)
		}
	case !slices.Contains(want.choice, to):
		r.t.Errorf("a new flow went to %v, the model says to one of %v", to, want.choice)
	default:
		r.opened++
		want.chosen(to)
	}
}

func (r *randomFlows) backend() {
	client, _, protocol := r.someone()
	all := allBackends(client.Addr())
	p := flowPacket{from: netip.MustParseAddrPort(all[r.rand.IntN(5)]), to: client, protocol: protocol, seq: r.rand.Uint32()}
	if protocol == 6 {
		p.flags = []byte{syn | ack, syn | ack, syn | ack, ack, ack, ack, fin | ack, rst | ack, rst}[r.rand.IntN(9)]
	}
	_, out, _, sure := r.run("kg_egress", p.bytes())
	if !sure {
		r.restart()
		return
	}
	if r.numbers == nil {
		r.numbers = map[netip.AddrPort]uint32{}
	}
	listener, ok := r.m.fromBackend(p)
	q := p
	if ok {
		q.from = listener
		r.replies++
		r.numbers[client] = p.seq
		if p.flags&syn != 0 {
			r.numbers[client]++
		}
	}
	r.note("kg_egress: %v to client %v, protocol %d flags %02x seq %d: from %v, %v", p.from, p.to, protocol, p.flags, p.seq, q.from, ok)
	if !bytes.Equal(out, q.bytes()) {
		r.t.Errorf("a reply is\n     %x, the model says from %v, %v:\n     %x", out, listener, ok, q.bytes())
	}
}
