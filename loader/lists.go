package loader

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
)

// List is one of the two lists of source prefixes.
type List string

const (
	Deny  List = "kg_deny"
	Allow List = "kg_allow"
)

// operatorWait is how long an operator waits for the lock of the lists, and agentWait how long
// the agent does, which has more to do and tries again by itself. Who holds it has a few
// hundred thousand system calls to make at most.
const (
	operatorWait = 10 * time.Second
	agentWait    = time.Second
)

// Lists are kg_deny and kg_allow. Agent and operator both change them, so each entry says who
// declares it, and goes when nobody does any more; a lock in the folder of the pins keeps one
// out while the other works.
type Lists struct {
	lock   string // a folder: bpffs has no plain files
	wait   time.Duration
	tables map[List]*listTable
	sieve  *sieved
	own    *datapath.Lists // that Close closes; nil: an agent's
}

// OpenLists opens the lists of a running node, for an operator.
func OpenLists(bpffs string) (_ *Lists, err error) {
	if bpffs == "" {
		bpffs = DefaultBPFFS
	}
	folder, err := pins.Folder(bpffs)
	if err != nil {
		return nil, err
	}
	maps, err := datapath.OpenLists(folder)
	if err != nil {
		return nil, err
	}
	l, err := newLists(folder, maps, abi.PrefixOperator, operatorWait)
	if err != nil {
		return nil, errors.Join(err, maps.Close())
	}
	l.own = maps
	return l, nil
}

// newLists returns the lists for one source of prefixes.
func newLists(folder string, maps *datapath.Lists, source uint32, wait time.Duration) (*Lists, error) {
	sieve, err := openSieve(maps)
	if err != nil {
		return nil, err
	}
	return &Lists{
		lock: filepath.Join(folder, pins.ListsLock), wait: wait,
		tables: map[List]*listTable{Deny: {m: maps.Deny, source: source}, Allow: {m: maps.Allow, source: source}}, sieve: sieve,
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
	return l.each(list, prefixes, (*listTable).put)
}

// Remove takes prefixes back that this source has put on a list, and returns how many they
// were. One that another source declares as well stays in force.
func (l *Lists) Remove(list List, prefixes []netip.Prefix) (removed int, err error) {
	return l.each(list, prefixes, (*listTable).remove)
}

func (l *Lists) each(list List, prefixes []netip.Prefix, change func(*listTable, abi.Prefix) (bool, error)) (changed int, err error) {
	var errs []error
	err = l.hold(func() error {
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
func (l *Lists) Entries(list List) (entries []InspectedPrefix, err error) {
	// A walk through the trie loses its way when what it stands on is removed.
	err = l.hold(func() error {
		entries, err = readPrefixes(l.tables[list].m)
		return err
	})
	return entries, err
}

// sift makes the sieve say what the lists do. The lock must be held.
func (l *Lists) sift() error {
	for _, t := range l.tables {
		if err := t.read(); err != nil {
			return err
		}
		t.changed = false
	}
	l.sieve.update(l.tables[Deny].have, l.tables[Allow].have)
	return nil
}

// hold does something while nobody else changes the lists, and has the sieve follow them.
func (l *Lists) hold(do func() error) error {
	if err := os.Mkdir(l.lock, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the lock of the prefix lists: %w", err)
	}
	dir, err := os.Open(l.lock)
	if err != nil {
		return fmt.Errorf("open the lock of the prefix lists: %w", err)
	}
	defer dir.Close() // and with it the lock ends
	for end := time.Now().Add(l.wait); ; time.Sleep(time.Millisecond) {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock the prefix lists (%s): %w", l.lock, err)
		}
		if time.Now().After(end) {
			return fmt.Errorf("somebody else has been changing the prefix lists for %v: is there a kerngatectl that hangs? (lock %s)", l.wait, l.lock)
		}
	}
	for _, t := range l.tables {
		t.have = nil // may have changed since
	}
	err = do()
	if l.tables[Deny].changed || l.tables[Allow].changed {
		err = errors.Join(err, l.sift())
	}
	return err
}

// listTable is registry.Entries over what one source declares in a list. The lock of the
// lists must be held.
type listTable struct {
	m      datapath.Map[abi.Prefix, abi.PrefixInfo]
	source uint32 // enum kg_prefix_source
	// Who declares what; read when first needed. A look into the trie would not tell: it
	// finds the longest prefix that holds the one asked for.
	have    map[abi.Prefix]abi.PrefixInfo
	changed bool // since the sieve was computed
}

// Put implements registry.Entries.
func (t *listTable) Put(k abi.Prefix, _ abi.PrefixInfo) error {
	_, err := t.put(k)
	return err
}

// Delete implements registry.Entries.
func (t *listTable) Delete(k abi.Prefix) error {
	_, err := t.remove(k)
	return err
}

func (t *listTable) read() (err error) {
	if t.have == nil {
		t.have, err = datapath.ReadAll(t.m) // nil if that fails
	}
	return err
}

// put notes that the source declares a prefix, and reports whether that is new.
func (t *listTable) put(k abi.Prefix) (bool, error) {
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
func (t *listTable) remove(k abi.Prefix) (bool, error) {
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

// readPrefixes reads a list, sorted.
func readPrefixes(m datapath.Map[abi.Prefix, abi.PrefixInfo]) ([]InspectedPrefix, error) {
	entries, err := datapath.ReadAll(m)
	if err != nil {
		return nil, err
	}
	out := make([]InspectedPrefix, 0, len(entries))
	for k, v := range entries {
		out = append(out, InspectedPrefix{k.Prefix(), v.Source})
	}
	slices.SortFunc(out, func(a, b InspectedPrefix) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
	return out, nil
}
