// Package lists changes kg_deny and kg_allow, the lists of source prefixes, and the sieve that is
// computed from them. The agent and operators do so side by side.
package lists

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/pins"
	"github.com/kerngate/kerngate/loader/registry"
)

// List is one of the two lists of source prefixes.
type List string

const (
	Deny  List = "kg_deny"
	Allow List = "kg_allow"
)

// operatorWait is how long an operator waits for the lock of the lists, and AgentWait how long
// the agent does, which has more to do and tries again by itself. Who holds it has a few
// hundred thousand system calls to make at most.
const (
	operatorWait = 10 * time.Second
	AgentWait    = time.Second
)

// Prefix is one source prefix and who declared it.
type Prefix struct {
	Prefix netip.Prefix
	Source uint32 // bits: abi.PrefixConfig, PrefixOperator
}

// Lists are kg_deny and kg_allow. Agent and operator both change them, so each entry says who
// declares it, and goes when nobody does any more; a lock in the folder of the pins keeps one
// out while the other works.
type Lists struct {
	lock   string        // a folder: bpffs has no plain files
	Wait   time.Duration // for the lock
	tables map[List]*Table
	sieve  *sieved
	own    *datapath.Lists // that Close closes; nil: an agent's
}

// Open opens the lists of a running node, for an operator.
func Open(bpffs string) (_ *Lists, err error) {
	if bpffs == "" {
		bpffs = pins.DefaultBPFFS
	}
	folder, err := pins.Folder(bpffs)
	if err != nil {
		return nil, err
	}
	maps, err := datapath.OpenLists(folder)
	if err != nil {
		return nil, err
	}
	l, err := New(folder, maps, abi.PrefixOperator, operatorWait)
	if err != nil {
		return nil, errors.Join(err, maps.Close())
	}
	l.own = maps
	return l, nil
}

// New returns the lists for one source of prefixes.
func New(folder string, maps *datapath.Lists, source uint32, wait time.Duration) (*Lists, error) {
	sieve, err := openSieve(maps)
	if err != nil {
		return nil, err
	}
	return &Lists{
		lock: filepath.Join(folder, pins.ListsLock), Wait: wait,
		tables: map[List]*Table{Deny: {m: maps.Deny, source: source}, Allow: {m: maps.Allow, source: source}}, sieve: sieve,
	}, nil
}

// Close releases the lists.
func (l *Lists) Close() error {
	var errs []error
	if l.sieve != nil {
		errs = append(errs, l.sieve.close())
	}
	if l.own != nil {
		errs = append(errs, l.own.Close())
	}
	return errors.Join(errs...)
}

// Add puts prefixes on a list, and returns how many of them this source had not put there
// before. A prefix that finds no place does not keep the others out.
func (l *Lists) Add(list List, prefixes []netip.Prefix) (added int, err error) {
	return l.each(list, prefixes, (*Table).put)
}

// Remove takes prefixes back that this source has put on a list, and returns how many they
// were. One that another source declares as well stays in force.
func (l *Lists) Remove(list List, prefixes []netip.Prefix) (removed int, err error) {
	return l.each(list, prefixes, (*Table).remove)
}

func (l *Lists) each(list List, prefixes []netip.Prefix, change func(*Table, abi.Prefix) (bool, error)) (changed int, err error) {
	var errs []error
	err = l.Hold(func() error {
		for n, p := range prefixes {
			yes, err := change(l.tables[list], abi.MakePrefix(p))
			if yes {
				changed++
			}
			if err == nil {
				continue
			}
			if errs = append(errs, fmt.Errorf("prefix %s: %w", p, err)); len(errs) == maxListErrors {
				errs = append(errs, fmt.Errorf("%d further prefixes were not tried", len(prefixes)-n-1))
				break
			}
		}
		return nil
	})
	return changed, errors.Join(append([]error{err}, errs...)...)
}

// maxListErrors is after how many failures a change of many prefixes is given up.
const maxListErrors = 3

// Entries returns what is on a list, sorted.
func (l *Lists) Entries(list List) (entries []Prefix, err error) {
	// A walk through the trie loses its way when what it stands on is removed.
	err = l.Hold(func() error {
		entries, err = Read(l.tables[list].m)
		return err
	})
	return entries, err
}

// Table returns one of the lists, for who holds the lock.
func (l *Lists) Table(list List) *Table { return l.tables[list] }

// Mirror mirrors the prefixes of a list that its source declares. Those of others are not its to
// see or to remove.
func (t *Table) Mirror() (*registry.Hash[abi.Prefix, abi.PrefixInfo], error) {
	if err := t.read(); err != nil {
		return nil, err
	}
	have := make(map[abi.Prefix]abi.PrefixInfo)
	for k, v := range t.have {
		if v.Source&t.source != 0 {
			have[k] = abi.PrefixInfo{Source: t.source}
		}
	}
	return registry.NewHash(t.m.Name(), t, have), nil
}

// Sift makes the sieve say what the lists do. The lock must be held.
func (l *Lists) Sift() error {
	for _, t := range l.tables {
		if err := t.read(); err != nil {
			return err
		}
		t.changed = false
	}
	l.sieve.update(l.tables[Deny].have, l.tables[Allow].have)
	return nil
}

// Hold does something while nobody else changes the lists, and has the sieve follow them.
func (l *Lists) Hold(do func() error) error {
	if err := os.Mkdir(l.lock, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the lock of the prefix lists: %w", err)
	}
	dir, err := os.Open(l.lock)
	if err != nil {
		return fmt.Errorf("open the lock of the prefix lists: %w", err)
	}
	defer dir.Close() // and with it the lock ends
	for end := time.Now().Add(l.Wait); ; time.Sleep(time.Millisecond) {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock the prefix lists (%s): %w", l.lock, err)
		}
		if time.Now().After(end) {
			return fmt.Errorf("somebody else has been changing the prefix lists for %v: is there a kerngatectl that hangs? (lock %s)", l.Wait, l.lock)
		}
	}
	for _, t := range l.tables {
		t.have = nil // may have changed since
	}
	err = do()
	if l.tables[Deny].changed || l.tables[Allow].changed {
		err = errors.Join(err, l.Sift())
	}
	return err
}

// Table is registry.Entries over what one source declares in a list. The lock of the
// lists must be held.
type Table struct {
	m      datapath.Map[abi.Prefix, abi.PrefixInfo]
	source uint32 // enum kg_prefix_source
	// Who declares what; read when first needed. A look into the trie would not tell: it
	// finds the longest prefix that holds the one asked for.
	have    map[abi.Prefix]abi.PrefixInfo
	changed bool // since the sieve was computed
}

// Put implements registry.Entries.
func (t *Table) Put(k abi.Prefix, _ abi.PrefixInfo) error {
	_, err := t.put(k)
	return err
}

// Delete implements registry.Entries.
func (t *Table) Delete(k abi.Prefix) error {
	_, err := t.remove(k)
	return err
}

func (t *Table) read() (err error) {
	if t.have == nil {
		t.have, err = datapath.ReadAll(t.m) // nil if that fails
	}
	return err
}

// put notes that the source declares a prefix, and reports whether that is new.
func (t *Table) put(k abi.Prefix) (bool, error) {
	if err := t.read(); err != nil {
		return false, err
	}
	info := t.have[k]
	if info.Source&t.source != 0 {
		return false, nil
	}
	info.Source |= t.source
	if err := (datapath.Entries[abi.Prefix, abi.PrefixInfo]{Map: t.m}).Put(k, info); err != nil {
		return false, err
	}
	t.have[k], t.changed = info, true
	return true, nil
}

// remove notes that the source declares a prefix no longer, and reports whether it had.
func (t *Table) remove(k abi.Prefix) (bool, error) {
	if err := t.read(); err != nil {
		return false, err
	}
	info := t.have[k]
	if info.Source&t.source == 0 {
		return false, nil
	}
	table := datapath.Entries[abi.Prefix, abi.PrefixInfo]{Map: t.m}
	if info.Source &^= t.source; info.Source != 0 {
		if err := table.Put(k, info); err != nil {
			return false, err
		}
		t.have[k] = info
		return true, nil
	}
	if err := table.Delete(k); err != nil {
		return false, err
	}
	delete(t.have, k)
	t.changed = true
	return true, nil
}

// Read reads a list, sorted.
func Read(m datapath.Map[abi.Prefix, abi.PrefixInfo]) ([]Prefix, error) {
	entries, err := datapath.ReadAll(m)
	if err != nil {
		return nil, err
	}
	out := make([]Prefix, 0, len(entries))
	for k, v := range entries {
		out = append(out, Prefix{k.Prefix(), v.Source})
	}
	slices.SortFunc(out, func(a, b Prefix) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
	return out, nil
}
