package main

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"github.com/rs/zerolog"

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
	client, connection, err := cluster.Client(config)
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
	return origin{source: source, reporter: reporter, rings: shared.Rings(), keys: shared.Run}, nil
}
