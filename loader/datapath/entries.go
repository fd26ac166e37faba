package datapath

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/registry"
)

// Entries is registry.Entries over a hash or LPM map.
type Entries[K, V comparable] struct{ Map[K, V] }

// Put implements registry.Entries.
func (e Entries[K, V]) Put(k K, v V) error {
	err := e.Map.Put(k, v)
	if errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOSPC) {
		return &registry.FullError{Map: e.Name(), Flag: SizeFlag(e.Name()), Size: e.Len()}
	}
	return err
}

// Mirror reads a hash or LPM map and returns its mirror.
func Mirror[K, V comparable](m Map[K, V]) (*registry.Hash[K, V], error) {
	have, err := ReadAll(m)
	if err != nil {
		return nil, err
	}
	return registry.NewHash(m.Name(), Entries[K, V]{m}, have), nil
}
