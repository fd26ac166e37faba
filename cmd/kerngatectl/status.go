package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kerngate/kerngate/userspace/look/explain"
	"github.com/kerngate/kerngate/userspace/look/status"
)

// nodeStatus is what `kerngatectl status` shows: what the agent says, and what the maps
// hold, which goes on working without it.
type nodeStatus struct {
	Agent      *status.Status `json:"agent"`
	AgentError string         `json:"agentError,omitempty"`
	Kernel     *kernelStatus  `json:"kernel"`
	MapsError  string         `json:"mapsError,omitempty"`
}

// kernelStatus is the state of the maps in short.
type kernelStatus struct {
	ABI         uint32               `json:"abi"`
	Serving     uint32               `json:"serving"` // generation, 0: none
	Generations []explain.Generation `json:"generations"`
	Listeners   []explain.Listener   `json:"listeners"`
	Services    int                  `json:"services"`
	Backends    int                  `json:"backends"`
	Deny        int                  `json:"denyPrefixes"`
	Allow       int                  `json:"allowPrefixes"`
	Counters    []explain.Counter    `json:"counters"`
}

func newStatus(e env, o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the state of the node: agent, proxies, kernel programs and maps",
		Long: `status shows the state of the agent (source, sync, last apply, problems); the kernel
features that are used, and what replaces missing ones; the proxies, their workers, and which
restrictions they have put on themselves; the listeners; how full the maps are; and the outcomes
of packets and connection attempts.`,
		Example: `  kerngatectl status
  kerngatectl status -o json | jq .agent.ready`,
		Args: atMost(0),
		RunE: func(c *cobra.Command, _ []string) error {
			var s nodeStatus
			agent, agentErr := ask[status.Status](c.Context(), e, o, status.QueryStatus)
			if s.Agent = agent; agentErr != nil {
				s.AgentError = agentErr.Error()
			}
			maps, err := e.readMaps(o.bpffs)
			if err != nil {
				err = mapsError(o, err)
				s.MapsError = err.Error()
			} else {
				s.Kernel = kernelOf(maps)
			}
			if agentErr != nil && err != nil {
				return errors.Join(agentErr, err)
			}
			countConnections(&s)
			return show(e.stdout, o, s, func(w io.Writer) { statusTable(w, e.now(), s) })
		},
	}
}

// countConnections gives the agent's proxies the connections and workers that the maps
// tell of: the agent has no part in them.
func countConnections(s *nodeStatus) {
	if s.Agent == nil || s.Kernel == nil {
		return
	}
	for i := range s.Agent.Proxies {
		p := &s.Agent.Proxies[i]
		for _, g := range s.Kernel.Generations {
			if g.Number != p.Number {
				continue
			}
			p.Connections, p.Workers = 0, []status.Worker{}
			for n, w := range g.Workers {
				p.Connections += uint64(w.Connections)
				p.Workers = append(p.Workers, status.Worker{Index: n, Connections: w.Connections, Pending: w.Pending, Accepted: w.Accepted,
					Busy: status.Duration(time.Duration(w.BusyMS) * time.Millisecond), Hung: w.Hung})
			}
		}
	}
}

func kernelOf(m *explain.Maps) *kernelStatus {
	return &kernelStatus{ABI: m.ABI, Serving: m.Serving, Generations: m.Generations, Listeners: m.Listeners,
		Services: len(m.Services), Backends: len(m.Backends), Deny: len(m.Deny), Allow: len(m.Allow), Counters: m.Counters}
}

func statusTable(w io.Writer, now time.Time, s nodeStatus) {
	if s.Agent != nil {
		agentTable(w, now, s.Agent)
	} else {
		fmt.Fprintf(w, "AGENT\n%s\nThe maps, and so the traffic, do not need it; changes wait until it is back.\n", s.AgentError)
	}
	if s.Kernel == nil {
		fmt.Fprintf(w, "\nKERNEL\n%s\n", s.MapsError)
		return
	}
	kernelTable(w, s.Kernel)
}

func agentTable(w io.Writer, now time.Time, a *status.Status) {
	ready := "yes"
	if !a.Ready {
		ready = "no: " + a.NotReady
	}
	source := a.Source.Kind + " " + a.Source.Location
	if !a.Source.Synced {
		source += ", not read yet"
		if len(a.Source.Waiting) > 0 {
			source += " (waiting for " + strings.Join(a.Source.Waiting, ", ") + ")"
		}
	}
	if a.Source.Kept != nil {
		source += ", not read yet: objects of " + ago(now, *a.Source.Kept) + " that were kept on this node are served"
	}
	if a.Source.Error != "" {
		source += ", error: " + a.Source.Error
	}
	apply := "never"
	if a.Apply.At != nil {
		apply = fmt.Sprintf("%s, took %s", ago(now, *a.Apply.At), short(time.Duration(a.Apply.Took)))
	}
	if a.Apply.Error != "" {
		apply += ", FAILED: " + a.Apply.Error
	}
	var listeners []string
	for _, l := range a.Listeners {
		listeners = append(listeners, fmt.Sprintf("%s (%s)", l.Address, l.Protocol))
	}
	problems := "none"
	if a.Counts.Warnings+a.Counts.Refused > 0 {
		problems = fmt.Sprintf("%d refused, %d warnings (kerngatectl problems)", a.Counts.Refused, a.Counts.Warnings)
	}
	fmt.Fprintln(w, "AGENT")
	pairs(w, [][2]string{
		{"ready", ready},
		{"version", a.Version},
		{"node", a.Node},
		{"running for", short(time.Duration(a.Uptime))},
		{"source", source},
		{"ingress class", a.Class},
		{"addresses", strings.Join(a.Addresses, ", ")},
		{"listeners", strings.Join(listeners, ", ")},
		{"published", fmt.Sprintf("%d hosts, %d routes, %d services, %d backends", a.Counts.Hosts, a.Counts.Routes, a.Counts.Services, a.Counts.Backends)},
		{"problems", problems},
		{"last apply", apply},
	})
	for _, r := range a.Replaced {
		fmt.Fprintf(w, "%s: %s instead of %s: %s\n", r.Setting, r.Used, r.Wanted, r.Reason)
	}
	if len(a.Attached) > 0 {
		var cells [][]string
		for _, x := range a.Attached {
			cells = append(cells, []string{x.Program, x.Where, x.Mode, x.Reason})
		}
		fmt.Fprintln(w)
		columns(w, "PROGRAM ATTACHED-TO MODE NOTE", cells)
	}
	if len(a.Features) > 0 {
		var cells [][]string
		for _, f := range a.Features {
			state := "present"
			if !f.Present {
				state = "missing"
			}
			cells = append(cells, []string{f.Name, state, f.NeededFor, f.ReplacedBy})
		}
		fmt.Fprintln(w)
		columns(w, "KERNEL-FEATURE STATE NEEDED-FOR REPLACED-BY", cells)
	}
	if len(a.Maps) > 0 {
		var cells [][]string
		var total uint64
		for _, m := range a.Maps {
			entries := ""
			if m.Entries >= 0 {
				entries = fmt.Sprint(m.Entries)
			}
			total += m.Bytes
			cells = append(cells, []string{m.Name, entries, fmt.Sprint(m.MaxEntries), bytesText(m.Bytes)})
		}
		cells = append(cells, []string{"total", "", "", bytesText(total)})
		fmt.Fprintln(w)
		columns(w, "MAP ENTRIES MAX MEMORY", cells)
	}
	if len(a.Proxies) > 0 {
		var cells [][]string
		for _, g := range a.Proxies {
			feed := "connected"
			if !g.Connected {
				feed = "away, serves what it last had"
			}
			if g.Refused != "" {
				feed += ", refused: " + g.Refused
			}
			cells = append(cells, []string{fmt.Sprint(g.Number), g.State, fmt.Sprint(g.PID), g.Build, fmt.Sprint(g.Config), fmt.Sprint(g.Connections), ago(now, g.Since), confined(g.Walls), feed})
		}
		fmt.Fprintln(w)
		columns(w, "PROXY STATE PID BUILD CONFIG CONNECTIONS SINCE CONFINED FEED", cells)
	}
	for _, g := range a.Proxies {
		for _, wall := range g.Walls {
			if !wall.InForce {
				fmt.Fprintf(w, "proxy %d serves without the restriction %s: %s\n", g.Number, wall.Name, wall.Missing)
			}
		}
	}
}

// confined says in a word which of its restrictions a proxy has put on itself.
func confined(walls []status.Wall) string {
	var missing []string
	for _, w := range walls {
		if !w.InForce {
			missing = append(missing, w.Name)
		}
	}
	switch {
	case len(walls) == 0:
		return "unknown"
	case len(missing) == 0:
		return "yes"
	case len(missing) == len(walls):
		return "NO"
	}
	return "in part, lacks " + strings.Join(missing, ", ")
}

func kernelTable(w io.Writer, k *kernelStatus) {
	var listeners []string
	for _, l := range k.Listeners {
		text := fmt.Sprintf("%s/%s", l.Address, l.Protocol)
		if l.Service != "" {
			text += " (L4 " + l.Service + ")"
		}
		listeners = append(listeners, text)
	}
	serving := "NONE: connections to the listeners are dropped; start a proxy"
	if k.Serving != 0 {
		serving = fmt.Sprintf("generation %d", k.Serving)
	}
	fmt.Fprintln(w, "\nKERNEL MAPS")
	pairs(w, [][2]string{
		{"layout", fmt.Sprintf("version %d", k.ABI)},
		{"listeners", strings.Join(listeners, ", ")},
		{"serving", serving},
		{"services", fmt.Sprint(k.Services)},
		{"backends", fmt.Sprint(k.Backends)},
		{"prefixes", fmt.Sprintf("%d denied, %d allowed", k.Deny, k.Allow)},
	})
	var cells [][]string
	for _, g := range k.Generations {
		for _, x := range g.Workers {
			state := "waiting"
			switch {
			case x.Sockets == 0:
				state = "no socket"
			case x.Hung:
				state = fmt.Sprintf("HUNG for %d ms", x.BusyMS)
			case x.BusyMS > 0:
				state = fmt.Sprintf("busy for %d ms", x.BusyMS)
			}
			cells = append(cells, []string{fmt.Sprint(x.ID), fmt.Sprint(g.Number), g.State, fmt.Sprint(x.Connections), fmt.Sprint(x.Pending), fmt.Sprint(x.Accepted), state})
		}
	}
	if len(cells) > 0 {
		fmt.Fprintln(w)
		columns(w, "WORKER GENERATION STATE CONNECTIONS PENDING ACCEPTED LOOP", cells)
	}
	counters := slices.DeleteFunc(slices.Clone(k.Counters), func(c explain.Counter) bool { return c.Count == 0 })
	if len(counters) > 0 {
		cells = nil
		for _, c := range counters {
			cells = append(cells, []string{c.Program, c.Reason, fmt.Sprint(c.Count)})
		}
		fmt.Fprintln(w)
		columns(w, "PROGRAM REASON COUNT", cells)
	}
}
