package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kerngate/kerngate/userspace/look/status"
)

func newDrain(e env, o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "drain",
		Short: "Stop sending new connections to this node; open ones continue",
		Long: `drain makes the other nodes of the fabric stop forwarding new connections to this node. New
connections that still arrive here are forwarded to the other nodes. Open connections stay
until they end. The other nodes notice within the agents' --fabric-timeout; after that,
withdraw the announcement of the ingress addresses from this node.

The node stays drained until undrain or its next boot, even if the agent restarts.`,
		Example: `  kerngatectl drain && kerngatectl nodes`,
		Args:    atMost(0),
		RunE: func(c *cobra.Command, _ []string) error {
			return drain(c, e, o, status.QueryDrain)
		},
	}
}

func newUndrain(e env, o *options) *cobra.Command {
	return &cobra.Command{
		Use:     "undrain",
		Short:   "Send new connections to this node again",
		Long:    `undrain reverts drain. After that, announce the ingress addresses from this node again.`,
		Example: `  kerngatectl undrain`,
		Args:    atMost(0),
		RunE: func(c *cobra.Command, _ []string) error {
			return drain(c, e, o, status.QueryUndrain)
		},
	}
}

func drain(c *cobra.Command, e env, o *options, what string) error {
	d, err := ask[status.Drain](c.Context(), e, o, what)
	if err != nil {
		return err
	}
	return show(e.stdout, o, d, func(w io.Writer) {
		if d.Draining {
			fmt.Fprintf(w, "%s drains: new connections go to other nodes, open ones go on\n", d.Node)
			return
		}
		fmt.Fprintf(w, "%s gets new connections\n", d.Node)
	})
}
