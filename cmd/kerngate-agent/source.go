package main

import (
	"context"

	"github.com/rs/zerolog"

	"github.com/kerngate/kerngate/userspace/agent"
	"github.com/kerngate/kerngate/userspace/files"
)

// reporter also has work of its own to do.
type reporter interface {
	agent.Reporter
	Run(context.Context) error
}

// source returns where the desired state comes from, and who is told about problems.
func (o *options) source(log zerolog.Logger) (agent.Source, reporter, error) {
	return files.New(o.flags.manifests, o.kube, log), nil, nil
}
