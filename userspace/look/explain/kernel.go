package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// filter tells what kg_xdp makes of the client's address: a source in kg_allow passes,
// else one in kg_deny is dropped.
func (w *walk) filter() {
	if w.in.Maps == nil {
		w.unknown("filter", w.in.NoMaps)
		return
	}
	from := w.in.Target.From
	deny, denied := longest(w.in.Maps.Deny, from)
	allow, allowed := longest(w.in.Maps.Allow, from)
	switch {
	case denied && allowed:
		w.step(Step{Name: "filter", Result: OK,
			Summary: fmt.Sprintf("%s is denied by %s (%s) but allowed by %s (%s), which wins", from, deny.Prefix, deny.Source, allow.Prefix, allow.Source)})
	case denied:
		w.stop(Step{Name: "filter", Summary: fmt.Sprintf("%s is denied by %s (declared by %s)", from, deny.Prefix, deny.Source)},
			Answer{Reason: reasonDenied, Summary: "no answer: kg_xdp or kg_ingress drops the client's packets on the agent's --interface",
				Next: "remove " + deny.Prefix.String() + " from the deny list, or allow a prefix that holds " + from.String()})
	default:
		w.step(Step{Name: "filter", Result: OK, Summary: fmt.Sprintf("no deny prefix holds %s", from)})
	}
}

// longest returns the longest prefix that holds the address.
func longest(prefixes []Prefix, a netip.Addr) (best Prefix, found bool) {
	a = a.Unmap()
	for _, p := range prefixes {
		if p.Prefix.Contains(a) && (!found || p.Prefix.Bits() > best.Prefix.Bits()) {
			best, found = p, true
		}
	}
	return best, found
}

// listener tells whether the dialled address and port are published.
func (w *walk) listener() {
	if w.in.Maps == nil {
		w.unknown("listener", w.in.NoMaps)
		return
	}
	t := w.in.Target
	var considered []Candidate
	var hit []string
	var ports []string
	for _, l := range w.in.Maps.Listeners {
		c := Candidate{Rule: l.Address.String() + "/" + l.Protocol}
		switch {
		case l.Protocol != "TCP":
			c.Why = "for HTTP/3, over UDP"
		case l.Address.Port() != t.Port:
			c.Why = fmt.Sprintf("port %d, the request is to %d", l.Address.Port(), t.Port)
		case t.Address.IsValid() && l.Address.Addr() != t.Address:
			c.Why = "another address than " + t.Address.String()
		default:
			c.Chosen, c.Why = true, "in kg_listeners, "+l.Mode
			hit = append(hit, l.Address.String())
		}
		if p := fmt.Sprint(l.Address.Port()); l.Protocol == "TCP" && !slices.Contains(ports, p) {
			ports = append(ports, p)
		}
		considered = append(considered, c)
	}
	if len(hit) > 0 {
		w.step(Step{Name: "listener", Result: OK, Considered: considered,
			Summary: strings.Join(hit, ", ") + " is published: kg_lookup steers new connections to the proxy"})
		return
	}
	dialled := fmt.Sprintf("port %d", t.Port)
	if t.Address.IsValid() {
		dialled = netip.AddrPortFrom(t.Address, t.Port).String()
	}
	next := "kerngatectl status shows the ingress addresses; a client must dial one of them"
	switch {
	case len(w.in.Maps.Listeners) == 0:
		next = "no listener is published at all: start the agent with --ingress-ip, and see kerngatectl status"
	case !slices.Contains(ports, fmt.Sprint(t.Port)):
		next = "published ports: " + strings.Join(ports, ", ") + " (agent flags --http-port, --https-port)"
	}
	w.stop(Step{Name: "listener", Summary: dialled + " is not in kg_listeners", Considered: considered},
		Answer{Reason: reasonNotPublished, Summary: "not Kerngate's: the connection is left to the kernel, which refuses it unless another process listens", Next: next})
}

// worker tells which reactors a new connection can be given to.
func (w *walk) worker() {
	if w.in.Maps == nil {
		w.unknown("worker", w.in.NoMaps)
		return
	}
	g := w.in.Maps.generation()
	if g == nil {
		w.stop(Step{Name: "worker", Summary: "no proxy generation serves (kg_meta.serving is 0)"},
			Answer{Reason: reasonNoProxy, Summary: "no answer: kg_lookup drops the connection attempt, so that it reaches no other process",
				Next: "start kerngate-proxy (or the agent with --run-proxy) and look at its log"})
		return
	}
	var considered []Candidate
	alive, open := 0, 0
	for _, k := range g.Workers {
		c := Candidate{Rule: fmt.Sprintf("worker %d", k.ID), Why: plural(int(k.Connections), "1 connection", "%d connections")}
		switch {
		case k.Sockets == 0:
			c.Why = "has no listening socket (any more)"
		case k.Hung:
			open++
			c.Why = fmt.Sprintf("hung: has not come back to its event loop for %d ms; %s", k.BusyMS, c.Why)
		default:
			open++
			alive++
			c.Chosen = true
		}
		considered = append(considered, c)
	}
	switch {
	case open == 0:
		w.stop(Step{Name: "worker", Considered: considered, Summary: fmt.Sprintf("generation %d serves, but none of its workers has a listening socket", g.Number)},
			Answer{Reason: reasonNoWorker, Summary: "no answer: kg_lookup drops the connection attempt",
				Next: "the proxy has died or closed its sockets: look at its log; a new one takes over at once"})
	case alive == 0:
		w.step(Step{Name: "worker", Result: OK, Considered: considered,
			Summary: fmt.Sprintf("generation %d serves, but all of its workers are hung: connections wait in a backlog", g.Number)})
	default:
		w.step(Step{Name: "worker", Result: OK, Considered: considered,
			Summary: fmt.Sprintf("generation %d serves; the less loaded of two random workers gets the connection (%d of %d answer)", g.Number, alive, len(g.Workers))})
	}
}
