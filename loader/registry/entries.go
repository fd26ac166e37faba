package registry

import (
	"errors"
	"fmt"
	"maps"
)

// Entries is a keyed table of the kernel. Deleting what is not there is no error.
type Entries[K, V comparable] interface {
	Put(K, V) error
	Delete(K) error
}

// Hash mirrors a keyed table.
type Hash[K, V comparable] struct {
	Name   string // of the map, for errors
	table  Entries[K, V]
	have   map[K]V
	unsure map[K]bool // the last write failed: the table may hold either value, or none
}

// NewHash returns a mirror of a table that holds have.
func NewHash[K, V comparable](name string, table Entries[K, V], have map[K]V) *Hash[K, V] {
	h := &Hash[K, V]{Name: name, table: table, have: make(map[K]V), unsure: make(map[K]bool)}
	maps.Copy(h.have, have)
	return h
}

// Add stores all of want that is not there yet, and returns how many that were. One that
// cannot be stored does not keep the others out.
func (h *Hash[K, V]) Add(want map[K]V, describe func(K) string) (added int, err error) {
	var errs []error
	for k, v := range want {
		have, ok := h.have[k]
		same := ok && have == v
		if same && !h.unsure[k] {
			continue
		}
		if err := h.table.Put(k, v); err != nil {
			h.unsure[k] = true
			errs = append(errs, fmt.Errorf("%s: %w", describe(k), err))
			continue
		}
		h.have[k] = v
		delete(h.unsure, k)
		if !same {
			added++
		}
	}
	return added, errors.Join(errs...)
}

// Prune deletes all that want does not hold, and returns how many that were.
func (h *Hash[K, V]) Prune(want map[K]V, describe func(K) string) (removed int, err error) {
	var errs []error
	drop := func(k K) {
		if _, ok := want[k]; ok {
			return
		}
		if err := h.table.Delete(k); err != nil {
			h.unsure[k] = true
			errs = append(errs, fmt.Errorf("remove %s: %w", describe(k), err))
			return
		}
		if _, ok := h.have[k]; ok {
			removed++
		}
		delete(h.have, k)
		delete(h.unsure, k)
	}
	for k := range h.have {
		drop(k)
	}
	for k := range h.unsure {
		drop(k)
	}
	return removed, errors.Join(errs...)
}

// Holds reports whether the table is known to hold just what want does.
func (h *Hash[K, V]) Holds(want map[K]V) bool { return len(h.unsure) == 0 && maps.Equal(h.have, want) }

// Doubt makes the next Add store everything again, for a table that others change too.
func (h *Hash[K, V]) Doubt() {
	for k := range h.have {
		h.unsure[k] = true
	}
}

// All returns what the table holds. The caller must not change it.
func (h *Hash[K, V]) All() map[K]V { return h.have }

// Len returns the number of entries.
func (h *Hash[K, V]) Len() int { return len(h.have) }
