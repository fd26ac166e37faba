package peers

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// one is a prober that asks nobody but a script.
type one struct {
	*Prober
	says  map[string]answer // by address
	told  []string          // verdicts as they were passed on
	nodes []Node
}

func newOne(nodes ...string) *one {
	o := &one{says: map[string]answer{}}
	for i, name := range nodes {
		address := netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})
		o.nodes = append(o.nodes, Node{Name: name, Addresses: []netip.Addr{address}})
	}
	o.Prober = New(Options{
		Port: 6080, Timeout: time.Second, Log: zerolog.Nop(),
		Judge: func(v map[string]Verdict) error {
			text := ""
			for _, name := range slices.Sorted(maps.Keys(v)) {
				text += fmt.Sprint(name, v[name], " ")
			}
			o.told = append(o.told, text)
			return nil
		},
		ask: func(_ context.Context, to netip.AddrPort) answer { return o.says[to.Addr().String()] },
	})
	return o
}

// rounds has all nodes asked so many times with these answers, in the nodes' order.
func (o *one) rounds(n int, says ...answer) {
	for i, a := range says {
		o.says[o.nodes[i].Addresses[0].String()] = a
	}
	for range n {
		o.round(context.Background(), o.nodes)
	}
}

func (o *one) want(t *testing.T, when string, told ...string) {
	t.Helper()
	if !slices.Equal(o.told, told) {
		t.Errorf("%s: told %q, want %q", when, o.told, told)
	}
	o.told = nil
}

func TestVerdicts(t *testing.T) {
	o := newOne("a", "b")
	o.rounds(100, missed, answered)
	o.want(t, "a has never answered")
	o.rounds(1, answered, answered)
	o.rounds(attempts-1, missed, answered)
	o.rounds(1, answered, answered)
	o.rounds(attempts-1, missed, answered)
	o.want(t, "a misses some")
	o.rounds(1, missed, answered)
	o.want(t, "a misses one more", "a2 ")
	o.rounds(50, unknown, unknown)
	o.want(t, "this node cannot ask")
	o.rounds(comeBack-1, answered, answered)
	o.rounds(1, missed, answered)
	o.rounds(comeBack-1, answered, answered)
	o.want(t, "a comes and goes")
	o.rounds(1, answered, drains)
	o.want(t, "a is back, b drains", "b1 ")
	o.rounds(attempts, answered, missed)
	o.want(t, "b, which drained, is dead", "b2 ")
	o.rounds(comeBack, answered, drains)
	o.want(t, "b drains again", "b1 ")
	o.rounds(forget-1, answered, answered)
	o.want(t, "the agent of b is away")
	o.rounds(1, answered, serves)
	o.want(t, "b drains no more", "")
	o.rounds(1, answered, drains)
	o.rounds(forget, answered, answered)
	o.want(t, "b drains, and its agent never comes back", "b1 ", "")
	o.rounds(attempts, missed, missed)
	o.want(t, "both are dead", "a2 b2 ")
	o.nodes = o.nodes[:1]
	o.rounds(1, missed)
	o.want(t, "b is no member any more", "a2 ")
}

// A process that was stopped for a while has missed answers, not the others their time.
func TestAway(t *testing.T) {
	o := newOne("a")
	o.interval = time.Millisecond
	o.rounds(1, answered)
	quick := o.ask
	o.ask = func(ctx context.Context, to netip.AddrPort) answer {
		time.Sleep(3 * o.interval)
		return quick(ctx, to)
	}
	o.rounds(3*attempts, missed)
	o.want(t, "stopped")
}

// TestTCP: a port where nobody listens, one where somebody else does, one of an agent that
// drains, and an address of nobody.
func TestTCP(t *testing.T) {
	ask := func(to netip.AddrPort) answer {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		return askTCP(ctx, to)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := free.Addr().(*net.TCPAddr).AddrPort()
	go func() {
		for {
			conn, err := free.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "220 mail.example.com\r\n")
			defer conn.Close()
		}
	}()
	if got := ask(at); got != answered {
		t.Errorf("another's listener: %v", got)
	}
	free.Close()
	if got := ask(at); got != answered {
		t.Errorf("nobody listens: %v", got)
	}
	p := New(Options{
		Port: at.Port(), Timeout: time.Second, Log: zerolog.Nop(),
		Nodes: func() (Node, []Node) { return Node{"self", []netip.Addr{at.Addr()}}, nil },
	})
	for range 2 {
		if err := p.SetDraining(true); err != nil {
			t.Fatal(err)
		}
		for range 3 * atOnce { // each is done with at once
			if got := ask(at); got != drains {
				t.Fatalf("an agent that drains: %v", got)
			}
		}
		if err := p.SetDraining(false); err != nil {
			t.Fatal(err)
		}
		if got := ask(at); got != serves {
			t.Errorf("an agent that drains no more: %v", got)
		}
	}
	p.Close()
	if got := ask(at); got != answered {
		t.Errorf("an agent that has ended: %v", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	if got := askTCP(ctx, at); got != missed {
		t.Errorf("out of time: %v", got)
	}
}

func TestNoMember(t *testing.T) {
	p := New(Options{Timeout: time.Second, Nodes: func() (Node, []Node) { return Node{}, nil }})
	if err := p.SetDraining(true); err == nil {
		t.Error("a node that is no member says that it drains")
	}
}
