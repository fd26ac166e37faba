package explain

import (
	"fmt"
	"slices"

	"github.com/kerngate/kerngate/userspace/look/status"
)

// service tells where a route's service stands in the maps and which of its pods may
// answer.
func (w *walk) service(name string) {
	if name == "" {
		w.stop(Step{Name: "service", Summary: w.out.Object + " names a Service or port that does not exist"},
			Answer{Reason: reasonNoService, Status: 503, Summary: "503 from the proxy: the service does not exist",
				Next: "kerngatectl problems says which Service or port is missing; create it or correct the Ingress"})
		return
	}
	w.out.Service = name
	if w.in.Maps == nil {
		w.unknown("service", w.in.NoMaps)
		return
	}
	s := w.in.Maps.service(name)
	if s == nil {
		w.stop(Step{Name: "service", Summary: name + " is not in kg_services (yet)"},
			Answer{Reason: reasonNoService, Status: 503, Summary: "503 from the proxy: the service has no id in the maps",
				Next: "kerngatectl status shows the last apply to the maps and its error; --max-services bounds their number"})
		return
	}
	w.step(Step{Name: "service", Result: OK,
		Summary: fmt.Sprintf("%s is id %d in kg_services: slots %d to %d of kg_slots, publication %d, %s",
			name, s.ID, s.Block.Offset, s.Block.Offset+uint32(max(s.Block.Count, 1))-1, s.Block.Generation, s.Algorithm)})
	if s.Block.Count == 0 {
		w.out.Steps[len(w.out.Steps)-1].Summary = fmt.Sprintf("%s is id %d in kg_services, publication %d, with an empty block", name, s.ID, s.Block.Generation)
	}
	w.backends(s)
}

// backends lists the pods of a block and says of each whether it may answer.
func (w *walk) backends(s *Service) {
	slots := map[uint32]int{}
	for _, id := range s.Backends {
		slots[id]++
	}
	seen := map[uint32]bool{}
	for _, id := range s.Backends {
		b := w.in.Maps.backend(id)
		if seen[id] || b == nil {
			continue
		}
		seen[id] = true
		p := Pod{Backend: *b, Why: "in the block"}
		p.Pod, p.Node = w.podOf(s.Name, b)
		if slots[id] > 1 {
			p.Why = fmt.Sprintf("in %d slots of the block", slots[id])
		}
		if b.Draining {
			p.Why += "; terminating but still serving: used because nothing is ready"
		}
		w.out.Backends = append(w.out.Backends, p)
	}
	if len(w.out.Backends) == 0 && w.fallback != "" && !w.missing(w.fallback) {
		next := w.fallback
		w.fallback = ""
		w.step(Step{Name: "backends", Result: OK, Summary: fmt.Sprintf("%s has no ready pod; %s answers (default-backend)", s.Name, next)})
		w.service(next)
		return
	}
	if len(w.out.Backends) == 0 {
		w.stop(Step{Name: "backends", Summary: s.Name + " has no ready pod"},
			Answer{Reason: reasonNoEndpoint, Status: 503, Summary: "503 from the proxy: the service has no endpoint",
				Next: "look at the Service's EndpointSlices: are its pods ready, and does its selector match them?"})
		return
	}
	how := "of two drawn at random, the one with fewer requests in flight"
	switch s.Algorithm {
	case "round-robin":
		how = "each in its turn"
	case "ewma":
		how = "of two drawn at random, the one that is expected to answer sooner"
	}
	if s.PreferLocal {
		how += "; pods of this node are preferred, so the block holds no other while there is one"
	}
	w.step(Step{Name: "backends", Result: OK,
		Summary: fmt.Sprintf("%s may answer: %s", plural(len(w.out.Backends), "1 pod", "%d pods"), how)})
}

// podOf returns the pod and node behind a backend, as far as the agent tells them.
func (w *walk) podOf(service string, b *Backend) (pod, node string) {
	if w.in.Services == nil {
		return "", ""
	}
	i := slices.IndexFunc(w.in.Services.Services, func(s status.Service) bool { return s.Name == service })
	if i < 0 {
		return "", ""
	}
	for _, known := range w.in.Services.Services[i].Backends {
		if known.Address == b.Address.String() {
			return known.Pod, known.Node
		}
	}
	return "", ""
}
