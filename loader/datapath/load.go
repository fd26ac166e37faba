package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/pins"
)

// sealed are the maps that only kg_publish may write; see bpf/maps.h.
var sealed = []string{"kg_services", "kg_slots", "kg_backends", "kg_generations", pins.MetaMap}

// Added are maps that came without a new KG_ABI, because no other changed with them: a set without
// them is complete, and gets them. None is sealed.
var Added = []string{"kg_sinks"}

func isAdded(name string) bool { return slices.Contains(Added, name) }

// XDPPrograms are the programs for XDP.
var XDPPrograms = []string{"kg_xdp", "kg_xdp_guard"}

// Programs are all programs.
type Programs struct {
	XDP       *ebpf.Program `ebpf:"kg_xdp"`
	Guard     *ebpf.Program `ebpf:"kg_xdp_guard"`
	Ingress   *ebpf.Program `ebpf:"kg_ingress"`
	IngressL3 *ebpf.Program `ebpf:"kg_ingress_l3"`
	Egress    *ebpf.Program `ebpf:"kg_egress"`
	EgressL3  *ebpf.Program `ebpf:"kg_egress_l3"`
	Lookup    *ebpf.Program `ebpf:"kg_lookup"`
	QUIC      *ebpf.Program `ebpf:"kg_quic"`
	Publish   *ebpf.Program `ebpf:"kg_publish"`
}

// ByName returns a program by its name, nil if there is none.
func (p *Programs) ByName(name string) *ebpf.Program {
	v := reflect.ValueOf(p).Elem()
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("ebpf") == name {
			return v.Field(i).Interface().(*ebpf.Program)
		}
	}
	return nil
}

// ClosePrograms closes the programs of a struct such as Programs.
func ClosePrograms(of any) error {
	var errs []error
	v := reflect.ValueOf(of).Elem()
	for i := range v.NumField() {
		errs = append(errs, v.Field(i).Interface().(*ebpf.Program).Close()) // nil has nothing to close
	}
	v.SetZero()
	return errors.Join(errs...)
}

// HungAfterNS is how long a worker may be busy before kg_lookup passes it over: the value
// of kg_hung_after_ns in bpf/config.h, which Open sets.
const HungAfterNS = 500_000_000

// Constants are what the programs are told at load; see bpf/config.h.
type Constants struct {
	HungAfterNS    uint64 `ebpf:"kg_hung_after_ns"`
	Secret         uint64 `ebpf:"kg_secret"`
	TunnelPort     uint16 `ebpf:"kg_tunnel_port"` // network byte order
	Self           uint32 `ebpf:"kg_self"`
	DSR            bool   `ebpf:"kg_dsr"`
	Fabric         bool   `ebpf:"kg_fabric_on"`
	Strict         bool   `ebpf:"kg_strict"`
	UplinkLoopback bool   `ebpf:"kg_uplink_loopback"`
	SynCookies     bool   `ebpf:"kg_syn_cookies"`
	SynDoubt       uint32 `ebpf:"kg_syn_doubt"`
	MSSV4          uint16 `ebpf:"kg_mss_v4"`
	MSSV6          uint16 `ebpf:"kg_mss_v6"`
	backendsSize   uint32 `ebpf:"kg_backends_size"`
	rateSize       uint32 `ebpf:"kg_rate_size"`
}

// SetConstants writes a struct such as Constants into the programs.
func SetConstants(spec *ebpf.CollectionSpec, constants any) error {
	v := reflect.ValueOf(constants).Elem()
	for i := range v.NumField() {
		name, field := v.Type().Field(i).Tag.Get("ebpf"), v.Field(i)
		variable := spec.Variables[name]
		if variable == nil {
			return fmt.Errorf("the programs have no constant %s", name)
		}
		var value any
		switch field.Kind() {
		case reflect.Bool:
			value = uint8(map[bool]uint8{true: 1}[field.Bool()])
		case reflect.Uint16:
			value = uint16(field.Uint())
		case reflect.Uint32:
			value = uint32(field.Uint())
		default:
			value = field.Uint()
		}
		if err := variable.Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// Sizes are how many entries maps get that do not exist yet.
type Sizes struct {
	Services int
	Backends int
	Slots    int
	Prefixes int // in each of kg_deny and kg_allow
	Sources  int // in kg_rate
	Flows    int // in kg_flows
}

// entries returns the number of entries of the maps whose size options decide.
func (s *Sizes) entries() map[string]uint32 {
	return map[string]uint32{
		"kg_services":      uint32(s.Services),
		"kg_listeners":     uint32(max(1024, 2*s.Services)), // on an address of each family
		"kg_addresses":     uint32(max(1024, s.Services/4)),
		"kg_service_names": uint32(s.Services),
		"kg_backends":      uint32(s.Backends),
		"kg_backend_load":  uint32(s.Backends) * abi.Generations,
		"kg_slots":         uint32(s.Slots),
		"kg_deny":          uint32(s.Prefixes),
		"kg_allow":         uint32(s.Prefixes),
		"kg_rate":          uint32(s.Sources),
		"kg_flows":         uint32(s.Flows),
		"kg_loose":         uint32(max(2, s.Flows/2)),
		"kg_opening":       uint32(max(2, s.Flows/4)),
	}
}

// sizeFlags names the option that decides the size of a map.
var sizeFlags = map[string]string{
	"kg_services": "--max-services", "kg_listeners": "--max-services", "kg_addresses": "--max-services", "kg_backends": "--max-backends", "kg_slots": "--max-slots",
	"kg_deny": "--max-prefixes", "kg_allow": "--max-prefixes", "kg_flows": "--max-flows", "kg_loose": "--max-flows", "kg_rate": "--max-sources",
}

// SizeFlag returns the option that decides the size of a map, "" if none does.
func SizeFlag(name string) string { return sizeFlags[name] }

// Objects are the programs and the maps that they use.
type Objects struct {
	Maps     Maps
	Programs Programs
	Fresh    bool       // the maps are new: they must be sealed before anybody gets a descriptor
	Kept     []KeptSize // maps that exist with other sizes than were asked for
}

// KeptSize is a map that keeps its size.
type KeptSize struct {
	Map     string
	Entries uint32
	Flag    string // that asks for another size
}

// Spec returns the compiled programs.
func Spec() (*ebpf.CollectionSpec, error) {
	spec, err := loadKerngate()
	if err != nil {
		return nil, fmt.Errorf("read the compiled programs: %w", err)
	}
	return spec, nil
}

// Prepare returns the compiled programs with constants set; frags says whether the kernel lets XDP
// programs take packets in several pieces of memory.
func Prepare(constants Constants, frags bool) (*ebpf.CollectionSpec, error) {
	spec, err := Spec()
	if err != nil {
		return nil, err
	}
	constants.backendsSize, constants.rateSize = spec.Maps["kg_backends"].MaxEntries, spec.Maps["kg_rate"].MaxEntries
	if err := SetConstants(spec, &constants); err != nil {
		return nil, err
	}
	for _, name := range XDPPrograms {
		if frags {
			spec.Programs[name].Flags |= XDPHasFrags
		}
	}
	return spec, nil
}

// XDPHasFrags is BPF_F_XDP_HAS_FRAGS: the program may be given packets that do not lie in
// one piece. kg_xdp looks at the first piece alone, where the headers are.
const XDPHasFrags = 1 << 5

// Load loads the programs on the maps pinned in the folder, or on new ones.
func Load(folder string, constants Constants, sizes Sizes, frags bool) (*Objects, error) {
	all, pinned, kept, err := load(folder, constants, sizes, frags)
	if err != nil {
		return nil, err
	}
	defer closeMaps(pinned)
	o := &Objects{Fresh: pinned == nil, Kept: kept}
	if err := Bind(&o.Maps, all.Maps); err != nil {
		all.Close()
		return nil, err
	}
	if err := all.Assign(&o.Programs); err != nil {
		all.Close()
		return nil, err
	}
	for name := range o.Maps.All() {
		delete(all.Maps, name)
	}
	all.Close() // what is left are sections of constants, which the programs hold
	if pinned == nil {
		return o, nil
	}
	if err := pinAdded(folder, &o.Maps, pinned); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

// Try loads the programs as Load would, and leaves nothing behind.
func Try(folder string, constants Constants, sizes Sizes, frags bool) error {
	all, pinned, _, err := load(folder, constants, sizes, frags)
	if err != nil {
		return err
	}
	closeMaps(pinned)
	all.Close()
	return nil
}

// load loads the programs on pinned, the maps of the folder, or on new maps.
func load(folder string, constants Constants, sizes Sizes, frags bool) (all *ebpf.Collection, pinned map[string]*ebpf.Map, kept []KeptSize, err error) {
	spec, err := Prepare(constants, frags)
	if err != nil {
		return nil, nil, nil, err
	}
	for name, size := range sizes.entries() {
		spec.Maps[name].MaxEntries = size
	}
	if pinned, err = openPinned(folder, spec); err != nil {
		return nil, nil, nil, err
	}
	kept = adoptSizes(spec, pinned)
	constants.backendsSize, constants.rateSize = spec.Maps["kg_backends"].MaxEntries, spec.Maps["kg_rate"].MaxEntries
	if err = SetConstants(spec, &constants); err == nil {
		all, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: pinned})
	}
	if err != nil {
		closeMaps(pinned)
		return nil, nil, nil, fmt.Errorf("load the programs: %w", err)
	}
	return all, pinned, kept, nil
}

// Close closes all descriptors. What is pinned or attached stays in force.
func (o *Objects) Close() error { return errors.Join(ClosePrograms(&o.Programs), o.Maps.Close()) }

// pinAdded pins the maps that a pinned set did not have yet.
func pinAdded(folder string, maps *Maps, pinned map[string]*ebpf.Map) error {
	for _, name := range Added {
		if pinned[name] != nil {
			continue
		}
		if err := maps.ByName(name).Pin(filepath.Join(folder, name)); err != nil {
			return fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	return nil
}

// openPinned opens the maps that an earlier agent left in folder, or returns nil if there
// is no complete set. A map that this build has added since is missing, and left out. The maps keep
// their sizes: a greater one would need a new set, and with it new proxies; the caller logs what is
// not as the options say.
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
		if errors.Is(err, fs.ErrNotExist) && isAdded(name) {
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

// adoptSizes sets the sizes in spec to those of the maps, and returns the maps of which an option
// wants another.
func adoptSizes(spec *ebpf.CollectionSpec, pinned map[string]*ebpf.Map) (differ []KeptSize) {
	for _, name := range slices.Sorted(maps.Keys(pinned)) {
		s, entries := spec.Maps[name], pinned[name].MaxEntries()
		if s.MaxEntries != entries {
			s.MaxEntries = entries
			if flag := sizeFlags[name]; flag != "" {
				differ = append(differ, KeptSize{name, entries, flag})
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

// Seal freezes and pins a new set of maps, kg_meta last. On error it leaves no pin.
func (m *Maps) Seal(folder string) (err error) {
	var done []*ebpf.Map
	defer func() {
		if err != nil {
			for _, m := range done {
				err = errors.Join(err, m.Unpin())
			}
		}
	}()
	for _, name := range sealed {
		if err := m.ByName(name).Freeze(); err != nil {
			return fmt.Errorf("freeze map %s (kernel >= 5.5 needed): %w", name, err)
		}
	}
	pin := func(name string, raw *ebpf.Map) error {
		path := filepath.Join(folder, name)
		// What is left of a set that was never finished.
		if err := pins.Remove(path); err != nil {
			return fmt.Errorf("remove stale pin: %w", err)
		}
		if err := raw.Pin(path); err != nil {
			return fmt.Errorf("pin map %s: %w", name, err)
		}
		done = append(done, raw)
		return nil
	}
	for name, raw := range m.All() {
		if name != m.Meta.Name() {
			if err := pin(name, raw); err != nil {
				return err
			}
		}
	}
	return pin(m.Meta.Name(), m.Meta.Map())
}

func closeMaps(maps map[string]*ebpf.Map) {
	for _, m := range maps {
		m.Close()
	}
}
