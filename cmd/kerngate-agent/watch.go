package main

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kerngate/kerngate/loader"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/control/peers"
)

// watch joins what is found out about other nodes, and whether this one drains, to the
// datapath.
type watch struct {
	datapath *loader.Datapath
	prober   *peers.Prober

	mu     sync.Mutex
	others map[string]peers.Verdict
}

// newWatch returns nil if connections are not handed to other nodes.
func newWatch(o *options, d *loader.Datapath, registry prometheus.Registerer) (*watch, error) {
	f := o.flags.fabric
	if !f.on {
		return nil, nil
	}
	w := &watch{datapath: d}
	w.prober = peers.New(peers.Options{
		Nodes: w.nodes, Judge: w.judge, Port: f.port, Timeout: cmp.Or(f.timeout, time.Second), Metrics: registry, Log: o.log,
	})
	return w, w.apply()
}

// nodes are those that may be asked: members, whatever else is said of them.
func (w *watch) nodes() (self peers.Node, others []peers.Node) {
	for _, n := range w.datapath.Nodes() {
		switch node := (peers.Node{Name: n.Name, Addresses: n.Addresses}); {
		case n.Self:
			self = node
		case n.Name != "":
			others = append(others, node)
		}
	}
	return self, others
}

func (w *watch) judge(others map[string]peers.Verdict) error {
	w.mu.Lock()
	w.others = others
	w.mu.Unlock()
	return w.apply()
}

// apply has connections go by what is known.
func (w *watch) apply() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	found := map[string]state.NodeState{}
	for name, verdict := range w.others {
		found[name] = map[peers.Verdict]state.NodeState{peers.Draining: state.NodeDraining, peers.Silent: state.NodeUnready}[verdict]
	}
	if w.datapath.Draining() {
		found[w.datapath.Self()] = state.NodeDraining
	}
	return w.datapath.Judge(found)
}

// drain has this node get no new connections, or some again. Other nodes hear of it when they
// ask next.
func (w *watch) drain(on bool) error {
	if err := w.prober.SetDraining(on); err != nil {
		return err
	}
	return errors.Join(w.datapath.SetDraining(on), w.apply())
}

// run asks other nodes until ctx ends.
func (w *watch) run(ctx context.Context, ask bool) error {
	defer w.prober.Close()
	// An earlier agent was told to drain; which addresses the node has is known a moment later.
	for w.datapath.Draining() && w.prober.SetDraining(true) != nil {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
	if ask {
		w.prober.Run(ctx)
	}
	<-ctx.Done()
	return nil
}
