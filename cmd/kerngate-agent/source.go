package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/kerngate/kerngate/loader"
	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/userspace/control/agent"
	"github.com/kerngate/kerngate/userspace/control/cluster"
	"github.com/kerngate/kerngate/userspace/control/folder"
	"github.com/kerngate/kerngate/userspace/control/report"
	"github.com/kerngate/kerngate/userspace/control/tickets"
)

// reporter also has work of its own to do.
type reporter interface {
	agent.Reporter
	Run(context.Context) error
}

// origin is where the desired state and the session ticket keys come from, and who is told
// about problems.
type origin struct {
	source   agent.Source
	reporter reporter // nil: the log alone, as nobody can write events to a folder
	rings    <-chan tickets.Ring
	keys     func(context.Context) // works for rings until ctx ends
	// keep has the objects kept on this node; nil: the source is on this node itself.
	keep func(*loader.Datapath, prometheus.Registerer) error
}

const (
	// defaultStateDir is on a tmpfs wherever systemd runs.
	defaultStateDir = "/run/kerngate-agent"
	// How long the API server may take to list everything before kept objects are served: less than clients
	// notice, or, while a proxy serves by what is in the maps already, long enough for a large cluster.
	patienceIdle    = 300 * time.Millisecond
	patienceServing = 5 * time.Second
)

// patience is how long an agent can do without objects.
func patience(d *loader.Datapath) time.Duration {
	for _, g := range d.Generations() {
		if g.State == abi.GenerationServing && g.Sockets > 0 {
			return patienceServing
		}
	}
	return patienceIdle
}

func (o *options) origin(log zerolog.Logger) (origin, error) {
	if o.flags.manifests != "" {
		rings := make(chan tickets.Ring)
		return origin{
			source: folder.New(o.flags.manifests, o.kube, log),
			rings:  rings,
			keys:   func(ctx context.Context) { tickets.InMemory(ctx, rings) },
		}, nil
	}
	config, err := cluster.Config(o.flags.kubeconfig, "kerngate-agent/"+version)
	if err != nil {
		return origin{}, fmt.Errorf("--kubeconfig: %w", err)
	}
	client, connection, err := cluster.Client(config, log)
	if err != nil {
		return origin{}, fmt.Errorf("--kubeconfig: %w", err)
	}
	cluster.LogTo(log)
	source, err := cluster.New(client, connection, o.kube, log)
	if err != nil {
		return origin{}, err
	}
	shared := report.NewTicketSecret(client, report.TicketOptions{Namespace: o.flags.leaseNamespace, Class: o.flags.ingressClass, Log: log})
	reporter := report.New(client, source, report.Options{
		Addresses:     o.node.Addresses,
		PublishStatus: o.flags.publishStatus,
		Namespace:     o.flags.leaseNamespace,
		Class:         o.flags.ingressClass,
		Identity:      cmp.Or(o.flags.nodeName, fmt.Sprintf("pid-%d", os.Getpid())),
		Tickets:       shared,
		Log:           log,
	})
	keep := func(d *loader.Datapath, registry prometheus.Registerer) error {
		return source.Keep(cluster.Keep{
			Folder: o.flags.stateDir, Node: o.flags.nodeName, Metrics: registry,
			Patience: func() time.Duration { return patience(d) },
		})
	}
	return origin{source: source, reporter: reporter, rings: shared.Rings(), keys: shared.Run, keep: keep}, nil
}
