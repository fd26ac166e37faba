package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kerngate/kerngate/userspace/look/explain"
)

// backendRow is one backend as `kerngatectl backends` shows it.
type backendRow struct {
	explain.Backend
	Pod      string   `json:"pod,omitempty"`
	Node     string   `json:"node,omitempty"`
	Services []string `json:"services"` // whose blocks name it
}

func newBackends(e env, o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "backends [SERVICE]",
		Short: "List the pods in the maps, with their load and health",
		Long: `backends lists the pods in the maps kg_backends and kg_backend_load: each pod's address,
its flags, its requests in flight, and the requests and failures that the running proxies
have counted. It also shows which pods the serving proxy considers unhealthy: "ejected"
means that too many requests in a row failed, "check" that the health check fails. Brackets
mean that the pod gets requests nevertheless, because too many pods are unhealthy. SERVICE
("namespace/name:port") shows the pods of one service.

A pod that two services share is one backend with one load.`,
		Example: `  kerngatectl backends
  kerngatectl backends shop/info:http`,
		Args: atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			v, err := look(c.Context(), e, o)
			if err != nil {
				return err
			}
			if v.maps == nil {
				return v.mapsErr
			}
			if len(args) == 1 {
				if _, err := one(v.maps.Services, args[0], func(s explain.Service) string { return s.Name }, "service"); err != nil {
					return err
				}
			}
			rows := backendRows(v)
			if len(args) == 1 {
				rows = slices.DeleteFunc(rows, func(r backendRow) bool { return !slices.Contains(r.Services, args[0]) })
			}
			v.notes(e)
			return show(e.stdout, o, map[string]any{"backends": rows}, func(w io.Writer) {
				var cells [][]string
				for _, r := range rows {
					cells = append(cells, append(loadCells(r.Backend, r.Pod, r.Node), strings.Join(r.Services, ",")))
				}
				columns(w, loadHeading+" SERVICES", cells)
			})
		},
	}
}

func backendRows(v view) []backendRow {
	of := map[uint32][]string{}
	for _, s := range v.maps.Services {
		for _, id := range unique(s.Backends) {
			of[id] = append(of[id], s.Name)
		}
	}
	type place struct{ pod, node string }
	places := map[string]place{}
	if v.services != nil {
		for _, s := range v.services.Services {
			for _, b := range s.Backends {
				places[b.Address] = place{b.Pod, b.Node}
			}
		}
	}
	rows := []backendRow{}
	for _, b := range v.maps.Backends {
		p := places[b.Address.String()]
		names := of[b.ID]
		if names == nil {
			names = []string{}
		}
		rows = append(rows, backendRow{Backend: b, Pod: p.pod, Node: p.node, Services: names})
	}
	return rows
}

const loadHeading = "ID ADDRESS FLAGS POD NODE IN-FLIGHT REQUESTS FAILURES LATENCY HEALTH"

// loadCells is a backend under loadHeading.
func loadCells(b explain.Backend, pod, node string) []string {
	var flags []string
	if b.Local {
		flags = append(flags, "local")
	}
	if b.Draining {
		flags = append(flags, "draining")
	}
	if b.Weight > 1 {
		flags = append(flags, fmt.Sprintf("weight=%d", b.Weight))
	}
	latency := ""
	if b.LatencyUS > 0 {
		latency = (time.Duration(b.LatencyUS) * time.Microsecond).String()
	}
	return []string{fmt.Sprint(b.ID), b.Address.String(), strings.Join(flags, ","), pod, node,
		fmt.Sprint(b.InFlight), fmt.Sprint(b.Requests), fmt.Sprint(b.Failures), latency, health(b)}
}

// health tells what the serving proxy has found, and for how long; in brackets what it
// sets aside, because too many are ill.
func health(b explain.Backend) string {
	if len(b.Ill) == 0 {
		return "ok"
	}
	text := strings.Join(b.Ill, ",") + " for " + b.IllFor.Round(time.Second).String()
	if b.Ignored {
		return "(" + text + ")"
	}
	return text
}
