package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kerngate/kerngate/userspace/look/explain"
)

// serviceRow is one service as `kerngatectl services` shows it.
type serviceRow struct {
	ID          uint32        `json:"id"` // 0: not in the maps
	Name        string        `json:"name"`
	Algorithm   string        `json:"algorithm"`
	PreferLocal bool          `json:"preferLocal,omitempty"`
	LocalOnly   bool          `json:"localOnly,omitempty"`  // L4
	Affinity    bool          `json:"affinity,omitempty"`   // L4
	Restricted  bool          `json:"restricted,omitempty"` // L4
	Listeners   []string      `json:"listeners,omitempty"`  // L4: "address:port/TCP"
	Block       explain.Block `json:"block"`
	Backends    int           `json:"backends"`
	InFlight    uint64        `json:"inFlight"`
	Requests    uint64        `json:"requests"`
	Failures    uint64        `json:"failures"`
	Published   bool          `json:"published"` // in the maps
}

func newServices(e env, o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "services [NAME]",
		Short: "List the services in the maps, with their load",
		Long: `services lists the services in the map kg_services: the ID, the block of backend slots, the
number of backends, and the sum of their load. The kernel forwards L4 services
("namespace/name:port/tcp4") to their pods; they do not pass through the proxy, so no load
is counted for them. NAME ("namespace/name:port") shows one service.

BLOCK is offset+count in kg_slots; PUB counts how often the block was replaced.`,
		Example: `  kerngatectl services
  kerngatectl services shop/info:http -o yaml`,
		Args: atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			v, err := look(c.Context(), e, o)
			if err != nil {
				return err
			}
			rows := serviceRows(v)
			if len(args) == 1 {
				if rows, err = one(rows, args[0], func(r serviceRow) string { return r.Name }, "service"); err != nil {
					return err
				}
			}
			v.notes(e)
			return show(e.stdout, o, map[string]any{"services": rows}, func(w io.Writer) {
				var cells [][]string
				for _, r := range rows {
					cells = append(cells, r.cells())
				}
				columns(w, "ID NAME ALGORITHM BACKENDS BLOCK PUB IN-FLIGHT REQUESTS FAILURES", cells)
			})
		},
	}
}

func (r serviceRow) cells() []string {
	if !r.Published {
		return []string{"", r.Name, r.Algorithm, fmt.Sprint(r.Backends), "", "", "", "", ""}
	}
	algorithm := r.Algorithm
	for _, f := range []struct {
		set  bool
		name string
	}{{r.PreferLocal, ",local"}, {r.LocalOnly, ",local-only"}, {r.Affinity, ",affinity"}, {r.Restricted, ",restricted"}} {
		if f.set {
			algorithm += f.name
		}
	}
	return []string{fmt.Sprint(r.ID), r.Name, algorithm, fmt.Sprint(r.Backends),
		fmt.Sprintf("%d+%d", r.Block.Offset, r.Block.Count), fmt.Sprint(r.Block.Generation),
		fmt.Sprint(r.InFlight), fmt.Sprint(r.Requests), fmt.Sprint(r.Failures)}
}

// serviceRows joins what the maps hold with what the agent wants, by name.
func serviceRows(v view) []serviceRow {
	rows := []serviceRow{}
	known := map[string]bool{}
	if v.maps != nil {
		load := backendsByID(v.maps)
		for _, s := range v.maps.Services {
			r := serviceRow{ID: s.ID, Name: s.Name, Algorithm: s.Algorithm, PreferLocal: s.PreferLocal, Block: s.Block, Published: true,
				LocalOnly: s.LocalOnly, Affinity: s.Affinity, Restricted: s.Restricted}
			for _, l := range v.maps.Listeners {
				if l.Service == s.Name {
					r.Listeners = append(r.Listeners, fmt.Sprintf("%s/%s", l.Address, l.Protocol))
				}
			}
			for _, id := range unique(s.Backends) {
				b := load[id]
				r.Backends++
				r.InFlight += b.InFlight
				r.Requests += b.Requests
				r.Failures += b.Failures
			}
			known[s.Name] = true
			rows = append(rows, r)
		}
	}
	if v.services != nil {
		for _, s := range v.services.Services {
			if !known[s.Name] {
				rows = append(rows, serviceRow{Name: s.Name, Algorithm: s.Algorithm, PreferLocal: s.PreferLocal, Backends: len(s.Backends)})
			}
		}
	}
	slices.SortFunc(rows, func(a, b serviceRow) int { return strings.Compare(a.Name, b.Name) })
	return rows
}

func backendsByID(m *explain.Maps) map[uint32]explain.Backend {
	out := make(map[uint32]explain.Backend, len(m.Backends))
	for _, b := range m.Backends {
		out[b.ID] = b
	}
	return out
}

// unique returns the ids without repetition, in order: weights repeat slots.
func unique(ids []uint32) []uint32 {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// one returns the row of that name, or an error that names the nearest ones.
func one[T any](rows []T, name string, of func(T) string, what string) ([]T, error) {
	names := make([]string, 0, len(rows))
	for _, r := range rows {
		if of(r) == name {
			return []T{r}, nil
		}
		names = append(names, of(r))
	}
	if near := explain.Nearest(name, names, 3); len(near) > 0 {
		return nil, fmt.Errorf("there is no %s %q; similar names: %s", what, name, strings.Join(near, ", "))
	}
	return nil, fmt.Errorf("there is no %s %q; kerngatectl %ss lists all %d", what, name, what, len(rows))
}
