package feed

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// full returns a configuration in which every field of Config has a value, repeated ones
// n of them.
func full(t *testing.T, n int) *feedpb.Config {
	t.Helper()
	c := &feedpb.Config{}
	m := c.ProtoReflect()
	for i := range m.Descriptor().Fields().Len() {
		field := m.Descriptor().Fields().Get(i)
		if field.Name() == "more" {
			continue // says how it travels
		}
		if !field.IsList() {
			m.Set(field, sample(t, m.NewField(field), field, 1))
			continue
		}
		list := m.Mutable(field).List()
		for k := range n {
			list.Append(sample(t, list.NewElement(), field, k+1))
		}
	}
	return c
}

// sample returns a value that is not the zero value. Of a message it sets the first
// string or bytes field, or the first number.
func sample(t *testing.T, empty protoreflect.Value, field protoreflect.FieldDescriptor, k int) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(k))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(k))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(fmt.Sprintf("%s-%d", field.Name(), k))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(fmt.Appendf(nil, "%s-%d", field.Name(), k))
	case protoreflect.MessageKind:
		m := empty.Message()
		inner := m.Descriptor().Fields().Get(0)
		if inner.IsList() {
			list := m.Mutable(inner).List()
			list.Append(sample(t, list.NewElement(), inner, k))
		} else {
			m.Set(inner, sample(t, m.NewField(inner), inner, k))
		}
		return empty
	}
	t.Fatalf("field %s is of kind %s, which this test does not know", field.FullName(), field.Kind())
	return empty
}

// TestParts: whatever fields a configuration has, its parts are small and come to the same.
func TestParts(t *testing.T) {
	for _, size := range []int{1, 20, 100, 1000, 1 << 20} {
		for _, n := range []int{0, 1, 7, 100} {
			c := full(t, n)
			before := proto.CloneOf(c)
			parts := split(c, size)
			if !proto.Equal(before, c) {
				t.Fatalf("size %d, %d entries: split has changed its input", size, n)
			}
			if size >= proto.Size(c) && len(parts) != 1 {
				t.Errorf("size %d, %d entries: %d parts of what fits into one", size, n, len(parts))
			}
			var a assembly
			for i, part := range parts {
				if last := i == len(parts)-1; part.More == last {
					t.Errorf("size %d, %d entries: part %d of %d has more=%t", size, n, i+1, len(parts), part.More)
				} else if !last && entries(part) > 1 && proto.Size(part) > size+20 { // version, snapshot and more come on top
					t.Errorf("size %d, %d entries: part %d has %d bytes", size, n, i+1, proto.Size(part))
				}
				wire, err := proto.Marshal(part)
				if err != nil {
					t.Fatal(err)
				}
				received := &feedpb.Config{}
				if err := proto.Unmarshal(wire, received); err != nil {
					t.Fatal(err)
				}
				whole, err := a.add(received, len(wire))
				switch {
				case err != nil:
					t.Fatal(err)
				case (whole != nil) != (i == len(parts)-1):
					t.Fatalf("size %d, %d entries: whole after part %d of %d: %t", size, n, i+1, len(parts), whole != nil)
				case whole != nil && !proto.Equal(whole, c):
					t.Errorf("size %d, %d entries: the parts come to something else", size, n)
				}
			}
		}
	}
}

// entries counts the entries of all repeated fields.
func entries(c *feedpb.Config) (n int) {
	c.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.IsList() {
			n += value.List().Len()
		}
		return true
	})
	return n
}

// TestPartsRefused: parts that do not belong together, or never end, are an error.
func TestPartsRefused(t *testing.T) {
	var a assembly
	if _, err := a.add(&feedpb.Config{Version: 1, More: true}, 10); err != nil {
		t.Fatal(err)
	}
	if _, err := a.add(&feedpb.Config{Version: 2}, 10); err == nil || !strings.Contains(err.Error(), "configuration 2 came between") {
		t.Errorf("a part of another version: %v", err)
	}
	a = assembly{}
	var err error
	for range MaxConfig/MaxFromAgent + 1 {
		if _, err = a.add(&feedpb.Config{Version: 1, More: true}, MaxFromAgent); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("parts without end: %v", err)
	}
}
