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
		Short: "Have this node get no new connections, while those that it has go on",
		Long: `drain has the nodes of the fabric hand new connections to each other and none to this one,
which hands on those that still come to it. Open connections stay until they end. Other
nodes hear of it within the agents' --fabric-timeout; withdraw the announcement of the
ingress addresses from this node after that.

It holds until undrain or the node's next boot, whatever becomes of the agent.`,
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
		Short:   "Have this node get new connections again",
		Long:    `undrain takes drain back. Announce the ingress addresses from this node again after that.`,
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
