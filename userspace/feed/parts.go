package feed

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// Limits of a configuration that is sent in parts.
const (
	// partSize is the size in bytes that a part is filled up to. A part is larger only if
	// a single entry, such as one host, is.
	partSize = 8 << 20
	// MaxConfig is the size in bytes of the largest configuration that a proxy accepts,
	// all parts together. It bounds what a faulty agent can make a proxy hold.
	MaxConfig = 1 << 30
	// partsVersion is the first version of the conversation that knows parts.
	partsVersion = 2
)

// split divides a configuration into messages of about size bytes; all but the last have
// More set. A configuration that is small enough is returned as it is. The parts share
// their entries with c.
//
// It works on whatever fields Config has, so a field that is added later cannot be
// forgotten: entries of repeated fields are dealt out, everything else goes with the last part.
func split(c *feedpb.Config, size int) []*feedpb.Config {
	if proto.Size(c) <= size {
		return []*feedpb.Config{c}
	}
	var parts []*feedpb.Config
	last, room := &feedpb.Config{}, size
	into := last.ProtoReflect()
	c.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if !field.IsList() {
			return true
		}
		for i, list := 0, value.List(); i < list.Len(); i++ {
			n := sizeOf(field, list.Get(i))
			if n > room && room < size {
				last.Version, last.Snapshot, last.More = c.Version, c.Snapshot, true
				parts = append(parts, last)
				last, room = &feedpb.Config{}, size
				into = last.ProtoReflect()
			}
			into.Mutable(field).List().Append(list.Get(i))
			room -= n
		}
		return true
	})
	c.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if !field.IsList() {
			into.Set(field, value)
		}
		return true
	})
	return append(parts, last)
}

// sizeOf returns how many bytes an entry of a repeated field takes in a message: messages
// and strings, the kinds that can be long, exactly, and the longest number for numbers.
func sizeOf(field protoreflect.FieldDescriptor, value protoreflect.Value) int {
	tag := protowire.SizeTag(field.Number())
	switch field.Kind() {
	case protoreflect.MessageKind:
		return tag + protowire.SizeBytes(proto.Size(value.Message().Interface()))
	case protoreflect.StringKind:
		return tag + protowire.SizeBytes(len(value.String()))
	case protoreflect.BytesKind:
		return tag + protowire.SizeBytes(len(value.Bytes()))
	}
	return tag + 10 // the longest varint
}

// assembly puts parts together again.
type assembly struct {
	whole *feedpb.Config // nil: no part has come
	size  int            // bytes, of the messages that have come
}

// add takes the next part, which came as a message of n bytes. It returns the whole
// configuration with the last part, and nil before that.
func (a *assembly) add(part *feedpb.Config, n int) (*feedpb.Config, error) {
	if a.whole == nil && !part.More {
		return part, nil // the only part
	}
	if a.whole == nil {
		a.whole = &feedpb.Config{Version: part.Version, Snapshot: part.Snapshot}
	}
	if part.Version != a.whole.Version || part.Snapshot != a.whole.Snapshot {
		return nil, fmt.Errorf("a part of configuration %d came between the parts of configuration %d", part.Version, a.whole.Version)
	}
	if a.size += n; a.size > MaxConfig {
		return nil, fmt.Errorf("the parts of configuration %d have more than %d bytes", part.Version, MaxConfig)
	}
	into := a.whole.ProtoReflect()
	part.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if !field.IsList() {
			into.Set(field, value)
			return true
		}
		to := into.Mutable(field).List()
		for i, list := 0, value.List(); i < list.Len(); i++ {
			to.Append(list.Get(i))
		}
		return true
	})
	if part.More {
		return nil, nil
	}
	whole := a.whole
	whole.More = false
	*a = assembly{}
	return whole, nil
}
