package main

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"github.com/rs/zerolog"

	"github.com/kerngate/kerngate/userspace/agent"
	"github.com/kerngate/kerngate/userspace/files"
	"github.com/kerngate/kerngate/userspace/kube"
)

// reporter also has work of its own to do.
type reporter interface {
	agent.Reporter
	Run(context.Context) error
}

// source returns where the desired state comes from, and who is told about problems: the
// log alone if it is a folder, which nobody can write events to.
func (o *options) source(log zerolog.Logger) (agent.Source, reporter, error) {
	if o.flags.manifests != "" {
		return files.New(o.flags.manifests, o.kube, log), nil, nil
	}
	config, err := kube.Config(o.flags.kubeconfig, "kerngate-agent/"+version)
	if err != nil {
		return nil, nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	client, connection, err := kube.Client(config)
	if err != nil {
		return nil, nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	kube.LogTo(log)
	cluster, err := kube.NewCluster(client, connection, o.kube, log)
	if err != nil {
		return nil, nil, err
	}
	return cluster, kube.NewReporter(client, cluster, kube.ReporterOptions{
		Addresses:     o.node.Addresses,
		PublishStatus: o.flags.publishStatus,
		Namespace:     o.flags.leaseNamespace,
		Class:         o.flags.ingressClass,
		Identity:      cmp.Or(o.flags.nodeName, fmt.Sprintf("pid-%d", os.Getpid())),
		Log:           log,
	}), nil
}
