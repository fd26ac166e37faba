package skmsg

import (
	"reflect"
	"testing"

	"github.com/cilium/ebpf"
)

// The Go types have every map, program and constant of the compiled object that is meant to be
// used, each map with keys and values of the size that it has in C.
func TestObjectsAreAll(t *testing.T) {
	spec, err := loadSkmsg()
	if err != nil {
		t.Fatal(err)
	}
	tags := func(of any) map[string]reflect.Type {
		all := make(map[string]reflect.Type)
		for i, v := 0, reflect.TypeOf(of); i < v.NumField(); i++ {
			all[v.Field(i).Tag.Get("ebpf")] = v.Field(i).Type
		}
		return all
	}
	typed := tags(maps{})
	for name, s := range spec.Maps {
		if name[0] == '.' { // a section of constants
			continue
		}
		field, ok := typed[name]
		if !ok {
			t.Errorf("maps has no %s", name)
			continue
		}
		delete(typed, name)
		get, _ := field.MethodByName("Get")
		key, value := get.Type.In(1), get.Type.Out(0)
		perCPU := s.Type == ebpf.PerCPUArray
		if perCPU != (value.Kind() == reflect.Slice) {
			t.Errorf("%s is a %v, and %v in Go", name, s.Type, field)
			continue
		}
		if perCPU {
			value = value.Elem()
		}
		if key.Size() != uintptr(s.KeySize) || value.Size() != uintptr(s.ValueSize) {
			t.Errorf("%s has keys of %d and values of %d bytes in Go, %d and %d in C", name, key.Size(), value.Size(), s.KeySize, s.ValueSize)
		}
	}
	for name := range typed {
		t.Errorf("the programs have no map %s", name)
	}
	loaded := tags(programs{})
	for name := range spec.Programs {
		if _, ok := loaded[name]; !ok {
			t.Errorf("programs has no %s", name)
		}
	}
	if len(loaded) != len(spec.Programs) {
		t.Errorf("programs has %d of the %d programs", len(loaded), len(spec.Programs))
	}
	for name, typ := range tags(constants{}) {
		if v := spec.Variables[name]; v == nil || uintptr(v.Size()) != typ.Size() {
			t.Errorf("the programs have no constant %s of %d bytes", name, typ.Size())
		}
	}
}
