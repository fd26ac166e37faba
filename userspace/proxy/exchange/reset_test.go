package exchange

import (
	"reflect"
	"strings"
	"testing"
	"unsafe"
)

// notReset are the parts that a new request does not find as zero values, and why.
var notReset = map[string]string{
	"worker": "Init sets it", "down": "Init sets it", "conf": "Init sets it", "Request": "Init sets it",
	"Connection": "Init sets it", "Outcome": "Init sets it", "origin": "origin.find sets it",
	"co": "Serve sets it and clears it", "transport": "Serve sets it", "outgoing": "addFields begins it",
	"alarm": "is set up once", "Crowded": "is set once by the front end", "turns": "may have submitted something",
	"http1": "Open resets it", "http2": "Open resets it",
	"rules.request": "beginRules sets it", "rules.admitted": "endRules releases it",
	"path.matched": "is room", "path.resolved": "is room", "choice.hashed": "is room", "trace.tries": "is room",
	"reply.head": "is room", "reply.fields": "is room", "reply.location": "is room", "values": "is room",
	"body.store": "the exchange before has released it", "body.trailers": "is room",
}

// TestReset: whatever an exchange was, the one after it begins with zero values, but for what is
// named above. A field that is added has its place in one of the two.
func TestReset(t *testing.T) {
	x := new(Exchange)
	walk(reflect.ValueOf(x).Elem(), "", func(name string, v reflect.Value) { fill(v) })
	x.reset()
	kept := map[string]bool{}
	walk(reflect.ValueOf(x).Elem(), "", func(name string, v reflect.Value) {
		if part, ok := partOf(name); ok {
			kept[part] = true
		} else if !v.IsZero() {
			t.Errorf("%s is still %v", name, v)
		}
	})
	for part := range notReset {
		if !kept[part] {
			t.Errorf("there is no %s", part)
		}
	}
}

// partOf returns the part of notReset in which the field with this path is.
func partOf(name string) (string, bool) {
	for part := range notReset {
		if name == part || strings.HasPrefix(name, part+".") {
			return part, true
		}
	}
	return "", false
}

// walk calls f with every field that is no struct.
func walk(v reflect.Value, name string, f func(name string, v reflect.Value)) {
	if v.Kind() != reflect.Struct {
		f(strings.TrimPrefix(name, "."), reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem())
		return
	}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.Name == "_" {
			continue
		}
		inner := name + "." + field.Name
		if field.Anonymous {
			inner = name
		}
		walk(v.Field(i), inner, f)
	}
}

// fill gives v a value that is not zero, if it has a kind of which parts are made.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.String:
		v.SetString("x")
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Array:
		if v.Len() > 0 && v.Index(0).Kind() != reflect.Struct {
			fill(v.Index(0))
		}
	}
}
