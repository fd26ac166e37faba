package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kerngate/kerngate/userspace/look/explain"
	"github.com/kerngate/kerngate/userspace/look/status"
)

// nodeList is what `kerngatectl nodes` shows.
type nodeList struct {
	*status.Fabric
	Packets []explain.Counter `json:"packets"` // that nodes have handed to each other, by end
}

func newNodes(e env, o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "nodes",
		Short: "List the nodes that forward packets to each other, and count these packets",
		Long: `nodes lists the nodes of the fabric as this node sees them, with the share of connections
that each owns (--fabric). It also counts the packets that this node forwarded to others
(node_backend: to the node of the pod; node_owner: to the owner of the connection;
node_second: to another node that may have the connection), accepted from others
(node_arrived), and refused, by reason.`,
		Example: `  kerngatectl nodes
  kerngatectl nodes -o json | jq '.nodes[] | select(.state != "serving")'`,
		Args: atMost(0),
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := ask[status.Status](c.Context(), e, o, status.QueryStatus)
			if err != nil {
				return err
			}
			if s.Fabric == nil {
				return errors.New("this node forwards no packets to other nodes: start the agent with --fabric or --l4-dsr")
			}
			list := nodeList{Fabric: s.Fabric, Packets: []explain.Counter{}}
			maps, err := e.readMaps(o.bpffs)
			if err != nil {
				return mapsError(o, err)
			}
			for _, n := range maps.Counters {
				if strings.HasPrefix(n.Reason, "node_") && n.Count > 0 {
					list.Packets = append(list.Packets, n)
				}
			}
			return show(e.stdout, o, list, func(w io.Writer) { nodesTable(w, list) })
		},
	}
}

func nodesTable(w io.Writer, list nodeList) {
	var cells [][]string
	for _, n := range list.Nodes {
		name := cmp.Or(n.Name, "("+n.ID+")")
		if n.Self {
			name += " (this)"
		}
		share := ""
		if list.Connections && list.Slots > 0 {
			share = fmt.Sprintf("%.1f%%", 100*float64(n.Slots)/float64(list.Slots))
		}
		cells = append(cells, []string{name, n.State, share, strings.Join(n.Addresses, ",")})
	}
	columns(w, "NODE STATE OWNS ADDRESSES", cells)
	if len(list.Packets) > 0 {
		cells = nil
		for _, p := range list.Packets {
			cells = append(cells, []string{p.Program, p.Reason, fmt.Sprint(p.Count)})
		}
		fmt.Fprintln(w)
		columns(w, "PROGRAM PACKETS COUNT", cells)
	}
}
