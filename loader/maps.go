package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/kerngate/kerngate/loader/abi"
)

// sealed are the maps that only kg_publish may write; see bpf/maps.h.
var sealed = []string{"kg_services", "kg_slots", "kg_backends", "kg_generations", metaMap}

// added are maps that came without a new KG_ABI, because no other changed with them: a set without
// them is complete, and gets them. None is sealed.
var added = []string{"kg_sinks"}

// pinAdded pins the maps that a pinned set did not have yet.
func pinAdded(folder string, maps, pinned map[string]*ebpf.Map) error {
	for _, name := range added {
		if pinned[name] != nil {
			continue
		}
		if err := maps[name].Pin(filepath.Join(folder, name)); err != nil {
			return fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	return nil
}

// sizes returns the number of entries of the maps whose size options decide.
func (o *Options) sizes() map[string]uint32 {
	return map[string]uint32{
		"kg_services":      uint32(o.MaxServices),
		"kg_listeners":     uint32(max(1024, 2*o.MaxServices)), // on an address of each family
		"kg_addresses":     uint32(max(1024, o.MaxServices/4)),
		"kg_service_names": uint32(o.MaxServices),
		"kg_backends":      uint32(o.MaxBackends),
		"kg_backend_load":  uint32(o.MaxBackends) * abi.Generations,
		"kg_slots":         uint32(o.MaxSlots),
		"kg_deny":          uint32(o.MaxPrefixes),
		"kg_allow":         uint32(o.MaxPrefixes),
		"kg_rate":          uint32(o.MaxSources),
		"kg_flows":         uint32(o.MaxFlows),
		"kg_loose":         uint32(max(2, o.MaxFlows/2)),
		"kg_opening":       uint32(max(2, o.MaxFlows/4)),
	}
}

// sizeFlags names the option that decides the size of a map.
var sizeFlags = map[string]string{
	"kg_services": "--max-services", "kg_listeners": "--max-services", "kg_addresses": "--max-services", "kg_backends": "--max-backends", "kg_slots": "--max-slots",
	"kg_deny": "--max-prefixes", "kg_allow": "--max-prefixes", "kg_flows": "--max-flows", "kg_loose": "--max-flows", "kg_rate": "--max-sources",
}

// openPinned opens the maps that an earlier agent left in folder, or returns nil if there
// is no complete set. A map that this build has added since is missing, and left out. The maps keep their sizes: a greater one would need a new set, and
// with it new proxies; the caller logs what is not as the options say.
func openPinned(folder string, spec *ebpf.CollectionSpec) (_ map[string]*ebpf.Map, err error) {
	maps := make(map[string]*ebpf.Map)
	defer func() {
		if err != nil {
			closeMaps(maps)
		}
	}()
	for name := range spec.Maps {
		if !pinnable(name) {
			continue
		}
		m, err := ebpf.LoadPinnedMap(filepath.Join(folder, name), nil)
		if errors.Is(err, fs.ErrNotExist) && slices.Contains(added, name) {
			continue
		}
		if errors.Is(err, fs.ErrNotExist) {
			closeMaps(maps)
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("open pinned map %s: %w", name, err)
		}
		maps[name] = m
	}
	return maps, checkRelations(maps)
}

// adoptSizes sets the sizes in spec to those of the maps, and returns the names of maps
// that differ.
func adoptSizes(spec *ebpf.CollectionSpec, maps map[string]*ebpf.Map) (differ []string) {
	for name, m := range maps {
		if s := spec.Maps[name]; s.MaxEntries != m.MaxEntries() {
			s.MaxEntries = m.MaxEntries()
			if sizeFlags[name] != "" {
				differ = append(differ, name)
			}
		}
	}
	return differ
}

// checkRelations checks what programs and readers take for granted about sizes.
func checkRelations(maps map[string]*ebpf.Map) error {
	if s, n := maps["kg_services"].MaxEntries(), maps["kg_service_names"].MaxEntries(); s != n {
		return fmt.Errorf("kg_services has %d entries but kg_service_names %d: run `kerngate-agent --uninstall` once", s, n)
	}
	if b, l := maps["kg_backends"].MaxEntries(), maps["kg_backend_load"].MaxEntries(); l != b*abi.Generations {
		return fmt.Errorf("kg_backend_load has %d entries, not %d times the %d of kg_backends: run `kerngate-agent --uninstall` once", l, abi.Generations, b)
	}
	return nil
}

// pinnable reports whether a map of the object is one of ours, and not a section of
// constants that belongs to one load of the programs.
func pinnable(name string) bool { return len(name) > 3 && name[:3] == "kg_" }

// sealAndPin freezes and pins a new set of maps, kg_meta last. On error it leaves no pin.
func sealAndPin(folder string, maps map[string]*ebpf.Map) (err error) {
	var done []*ebpf.Map
	defer func() {
		if err != nil {
			for _, m := range done {
				err = errors.Join(err, m.Unpin())
			}
		}
	}()
	for _, name := range sealed {
		if err := maps[name].Freeze(); err != nil {
			return fmt.Errorf("freeze map %s (kernel >= 5.5 needed): %w", name, err)
		}
	}
	pin := func(name string) error {
		path := filepath.Join(folder, name)
		// What is left of a set that was never finished.
		if err := removePin(path); err != nil {
			return fmt.Errorf("remove stale pin: %w", err)
		}
		if err := maps[name].Pin(path); err != nil {
			return fmt.Errorf("pin map %s: %w", name, err)
		}
		done = append(done, maps[name])
		return nil
	}
	for name := range maps {
		if pinnable(name) && name != metaMap {
			if err := pin(name); err != nil {
				return err
			}
		}
	}
	return pin(metaMap)
}

func closeMaps(maps map[string]*ebpf.Map) {
	for _, m := range maps {
		m.Close()
	}
}
