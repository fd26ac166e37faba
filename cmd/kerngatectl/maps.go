package main

import (
	"fmt"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/inspect"
	"github.com/kerngate/kerngate/loader/lists"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/look/explain"
)

// readMaps reads the pinned maps of this node, once, as plain values.
func readMaps(bpffs string) (_ *explain.Maps, err error) {
	i, err := inspect.Open(bpffs)
	if err != nil {
		return nil, err
	}
	defer i.Close()
	meta, err := i.Meta()
	if err != nil {
		return nil, fmt.Errorf("read kg_meta: %w", err)
	}
	m := &explain.Maps{ABI: meta.ABI, Serving: meta.Serving, Generations: generations(i)}
	if err := addLoad(m, i); err != nil {
		return nil, err
	}
	if m.Listeners, err = listeners(i); err != nil {
		return nil, err
	}
	deny, allow, err := i.Prefixes()
	if err != nil {
		return nil, err
	}
	m.Deny, m.Allow = prefixes(deny), prefixes(allow)
	return m, nil
}

// readLoad reads services, backends and counters alone: the lists of prefixes can be long.
func readLoad(bpffs string) (*explain.Maps, error) {
	i, err := inspect.Open(bpffs)
	if err != nil {
		return nil, err
	}
	defer i.Close()
	m := &explain.Maps{}
	return m, addLoad(m, i)
}

func addLoad(m *explain.Maps, i *inspect.Inspector) (err error) {
	m.Backends = backends(i)
	if m.Services, err = services(i); err != nil {
		return err
	}
	counters, err := i.Counters()
	for _, c := range counters {
		m.Counters = append(m.Counters, explain.Counter{Program: c.Program, Reason: c.Reason, Count: c.Packets})
	}
	return err
}

func listeners(i *inspect.Inspector) ([]explain.Listener, error) {
	list, err := i.Listeners()
	out := make([]explain.Listener, len(list))
	for n, l := range list {
		mode := "L7"
		if l.Mode == state.L4 {
			mode = "L4"
		}
		out[n] = explain.Listener{Address: l.Address, Protocol: protocolName(l.Protocol), Mode: mode, Service: l.Service}
	}
	return out, err
}

func generations(i *inspect.Inspector) []explain.Generation {
	out := []explain.Generation{}
	for _, g := range i.Generations() {
		e := explain.Generation{Number: g.Number, State: generationState(g.State)}
		for _, w := range i.Workers(g) {
			e.Workers = append(e.Workers, explain.Worker{ID: w.ID, Connections: w.Connections, Pending: w.Pending,
				Accepted: w.Accepted, BusyMS: w.BusyNS / 1e6, Hung: w.Hung, Sockets: w.Sockets})
		}
		out = append(out, e)
	}
	return out
}

func services(i *inspect.Inspector) ([]explain.Service, error) {
	list, err := i.Services()
	out := make([]explain.Service, len(list))
	for n, s := range list {
		out[n] = explain.Service{ID: s.ID, Name: s.Name, Algorithm: algorithmName(s.Algorithm), PreferLocal: s.PreferLocal,
			LocalOnly: s.LocalOnly, Affinity: s.Affinity, Restricted: s.Restricted,
			Block: explain.Block{Offset: s.Block.Offset(), Count: s.Block.Count(), Generation: s.Block.Generation()}, Backends: s.Backends}
	}
	return out, err
}

func backends(i *inspect.Inspector) []explain.Backend {
	out := []explain.Backend{}
	for _, b := range i.Backends() {
		e := explain.Backend{ID: b.ID, Address: b.Address, Protocol: protocolName(b.Protocol), Local: b.Local, Draining: b.Draining,
			Weight: b.Weight, InFlight: b.InFlight, Requests: b.Requests, Failures: b.Failures, LatencyUS: b.LatencyUS}
		if e.Ill = illness(b.Verdict); e.Ill != nil {
			e.IllFor, e.Ignored = b.FoundAgo(), b.Health == 0
		}
		out = append(out, e)
	}
	return out
}

// illness names the bits of a verdict.
func illness(verdict uint32) (names []string) {
	if verdict&abi.HealthEjected != 0 {
		names = append(names, "ejected")
	}
	if verdict&abi.HealthCheck != 0 {
		names = append(names, "check")
	}
	return names
}

func prefixes(list []lists.Prefix) []explain.Prefix {
	out := make([]explain.Prefix, len(list))
	for n, p := range list {
		out[n] = explain.Prefix{Prefix: p.Prefix, Source: declaredBy(p.Source)}
	}
	return out
}

func protocolName(p state.Protocol) string {
	switch p {
	case state.TCP:
		return "TCP"
	case state.UDP:
		return "UDP"
	}
	return fmt.Sprintf("protocol %d", p)
}

func algorithmName(a uint16) string {
	switch a {
	case abi.AlgorithmRoundRobin:
		return "round-robin"
	case abi.AlgorithmMaglev:
		return "maglev"
	case uint16(state.EWMA):
		return "ewma"
	}
	return "p2c"
}

func generationState(s uint16) string {
	switch s {
	case abi.GenerationStarting:
		return "starting"
	case abi.GenerationServing:
		return "serving"
	case abi.GenerationDraining:
		return "draining"
	}
	return fmt.Sprintf("state %d", s)
}
