package datapath

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

// Maps has all maps that bpf/maps.h declares, each with types of the sizes that it has there. Lists and Events have a part of them with the same types.
func TestMapsAreAll(t *testing.T) {
	spec, err := Spec()
	if err != nil {
		t.Fatal(err)
	}
	header, err := os.ReadFile("../../bpf/maps.h")
	if err != nil {
		t.Fatal(err)
	}
	var declared []string
	for _, m := range regexp.MustCompile(`(?m)^} (kg_\w+) SEC\("\.maps"\)`).FindAllSubmatch(header, -1) {
		declared = append(declared, string(m[1]))
	}
	var all Maps
	types := make(map[string]reflect.Type)
	var names []string
	for name, field := range fields(&all) {
		names, types[name] = append(names, name), reflect.TypeOf(field)
		s := spec.Maps[name]
		if s == nil {
			t.Errorf("the programs have no map %s", name)
			continue
		}
		key, value := sizesOf(field)
		if s.Type != ebpf.RingBuf && (uint32(key) != s.KeySize || uint32(value) != s.ValueSize) {
			t.Errorf("%s has keys of %d and values of %d bytes in Go, %d and %d in C", name, key, value, s.KeySize, s.ValueSize)
		}
		perCPU := s.Type == ebpf.PerCPUArray || s.Type == ebpf.PerCPUHash
		if got := strings.Contains(types[name].String(), "PerCPU"); got != perCPU {
			t.Errorf("%s is a %v, and %v in Go", name, s.Type, types[name])
		}
	}
	var compiled []string
	for name := range spec.Maps {
		if pinnable(name) {
			compiled = append(compiled, name)
		}
	}
	if want := slices.Sorted(slices.Values(compiled)); !slices.Equal(slices.Sorted(slices.Values(names)), want) {
		t.Errorf("the programs have maps %v, Maps %v", want, slices.Sorted(slices.Values(names)))
	}
	slices.Sort(declared)
	slices.Sort(names)
	if !slices.Equal(names, declared) {
		t.Errorf("bpf/maps.h declares %v, Maps has %v", declared, names)
	}
	for _, part := range []any{new(Lists), new(Events)} {
		for name, field := range fields(part) {
			if types[name] != reflect.TypeOf(field) {
				t.Errorf("%T: %s is %T, in Maps %v", part, name, field, types[name])
			}
		}
	}
}

// sizesOf returns what a Map[K, V] or PerCPU[V] takes for a key and a value.
func sizesOf(field bound) (key, value uintptr) {
	get, _ := reflect.TypeOf(field).Elem().MethodByName("Get")
	value = get.Type.Out(0).Size()
	if out := get.Type.Out(0); out.Kind() == reflect.Slice {
		value = out.Elem().Size()
	}
	return get.Type.In(1).Size(), value
}

// Programs and Constants have all that there are.
func TestProgramsAndConstantsAreAll(t *testing.T) {
	spec, err := Prepare(Constants{Self: 7, DSR: true, TunnelPort: 9}, true)
	if err != nil {
		t.Fatal(err)
	}
	tags := func(of any) (names []string) {
		for i := range reflect.TypeOf(of).NumField() {
			names = append(names, reflect.TypeOf(of).Field(i).Tag.Get("ebpf"))
		}
		return slices.Sorted(slices.Values(names))
	}
	if want := slices.Sorted(maps.Keys(spec.Programs)); !slices.Equal(tags(Programs{}), want) {
		t.Errorf("Programs has %v, the object %v", tags(Programs{}), want)
	}
	var constants []string
	for name, v := range spec.Variables {
		if v.Constant() {
			constants = append(constants, name)
		}
	}
	if want := slices.Sorted(slices.Values(constants)); !slices.Equal(tags(Constants{}), want) {
		t.Errorf("Constants has %v, the object %v", tags(Constants{}), want)
	}
	var self uint32
	var dsr uint8
	var port uint16
	for name, value := range map[string]any{"kg_self": &self, "kg_dsr": &dsr, "kg_tunnel_port": &port} {
		if err := spec.Variables[name].Get(value); err != nil {
			t.Errorf("read %s: %v", name, err)
		}
	}
	if self != 7 || dsr != 1 || port != 9 {
		t.Errorf("kg_self %d, kg_dsr %d, kg_tunnel_port %d", self, dsr, port)
	}
}

// A map of other sizes is not taken for one of these types.
func TestBindRefusesOtherSizes(t *testing.T) {
	for name, spec := range map[string]ebpf.MapSpec{
		"kg_nodes": {Type: ebpf.Hash, KeySize: 8, ValueSize: 72, MaxEntries: 1},
		"kg_meta":  {Type: ebpf.Array, KeySize: 4, ValueSize: 24, MaxEntries: 1},
	} {
		raw, err := ebpf.NewMap(&spec)
		if err != nil {
			t.Skipf("cannot make a map (CAP_BPF needed): %v", err)
		}
		defer raw.Close()
		for at, field := range fields(new(Maps)) {
			if at != name {
				continue
			}
			if err := field.bind(name, raw); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "--uninstall") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// What is missing in a folder says so; nothing stays open.
func TestOpenNothing(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "none")
	if _, err := OpenMaps(folder); err == nil || !strings.Contains(err.Error(), "is kerngate-agent running on this node") {
		t.Errorf("opened nothing: %v", err)
	}
}
