package lists

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/sieve"
)

// sieved are kg_sieve_v4, kg_sieve_v6 and kg_sieve_hosts in this process's memory. They follow the lists: a
// prefix that the lists have and the sieve does not is not denied yet, and one that only the
// sieve has still is, so whoever changes the lists writes the sieve afterwards.
type sieved struct {
	v4       []uint64
	v6       []abi.SieveSlot
	hosts    []abi.SieveBucket
	mappings [][]byte
}

func openSieve(maps *datapath.Lists) (_ *sieved, err error) {
	s := &sieved{}
	if s.v4, err = mapWritable(s, maps.SieveV4, abi.SieveWords); err == nil {
		s.v6, err = mapWritable(s, maps.SieveV6, abi.SieveSlots+1)
	}
	if err == nil {
		s.hosts, err = mapWritable(s, maps.SieveHosts, abi.SieveBuckets)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func mapWritable[T any](s *sieved, table datapath.Map[uint32, T], n int) ([]T, error) {
	m := table.Map()
	if table.Len() != n {
		return nil, fmt.Errorf("%s has %d entries, want %d", table.Name(), table.Len(), n)
	}
	memory, err := unix.Mmap(m.FD(), 0, n*int(m.ValueSize()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s into memory: %w", table.Name(), err)
	}
	s.mappings = append(s.mappings, memory)
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(memory))), n), nil
}

func (s *sieved) close() error {
	var errs []error
	for _, memory := range s.mappings {
		errs = append(errs, unix.Munmap(memory))
	}
	*s = sieved{}
	return errors.Join(errs...)
}

// update makes the tables say what the lists hold. Programs read them meanwhile: what changes
// about a network says that the lists must be asked until its hosts are written.
func (s *sieved) update(deny, allow map[abi.Prefix]abi.PrefixInfo) {
	t := sieve.Make(prefixesOf(deny), prefixesOf(allow))
	for i, word := range t.V4 {
		if have := s.v4[i]; have != word {
			atomic.StoreUint64(&s.v4[i], sieve.Between(have, word))
		}
	}
	// Lengths come before prefixes of them.
	lengths := &s.v6[abi.SieveSlots]
	atomic.StoreUint64(&lengths.Prefix, lengths.Prefix|t.V6[abi.SieveSlots].Prefix)
	for i, want := range t.V6[:abi.SieveSlots] {
		if slot := &s.v6[i]; *slot != want {
			atomic.StoreUint64(&slot.State, abi.SievedAsk<<32)
		}
	}
	for i, want := range t.Hosts {
		if s.hosts[i] != want {
			replaceHosts(&s.hosts[i], want)
		}
	}
	for i, want := range t.V6[:abi.SieveSlots] {
		if slot := &s.v6[i]; *slot != want {
			atomic.StoreUint64(&slot.Prefix, want.Prefix)
			atomic.StoreUint64(&slot.State, want.State)
		}
	}
	atomic.StoreUint64(&lengths.Prefix, t.V6[abi.SieveSlots].Prefix)
	for i, word := range t.V4 {
		if s.v4[i] != word {
			atomic.StoreUint64(&s.v4[i], word)
		}
	}
}

// replaceHosts leaves hosts that stay where they are, so that no program misses one.
func replaceHosts(bucket *abi.SieveBucket, want abi.SieveBucket) {
	for i := range bucket.Hosts {
		if h := &bucket.Hosts[i]; h.Second != 0 && !slices.Contains(want.Hosts[:], *h) {
			atomic.StoreUint64(&h.Second, 0)
			atomic.StoreUint64(&h.First, 0)
		}
	}
	for _, h := range want.Hosts {
		if h.Second == 0 || slices.Contains(bucket.Hosts[:], h) {
			continue
		}
		free := &bucket.Hosts[slices.IndexFunc(bucket.Hosts[:], func(h abi.Host) bool { return h.Second == 0 })]
		atomic.StoreUint64(&free.First, h.First)
		atomic.StoreUint64(&free.Second, h.Second)
	}
}

func prefixesOf(list map[abi.Prefix]abi.PrefixInfo) []netip.Prefix {
	all := make([]netip.Prefix, 0, len(list))
	for p := range list {
		all = append(all, p.Prefix())
	}
	return all
}
