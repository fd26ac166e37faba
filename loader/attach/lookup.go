package attach

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/rs/zerolog"

	"github.com/kerngate/kerngate/loader/pins"
)

// Lookup is the attachment of kg_lookup to this network namespace.
type Lookup struct {
	link link.Link // ours, pinned
	// predecessors hold kg_lookup of other maps: another ABI, or maps whose pins were
	// lost. Proxies of those still take connections through them. A selection by one
	// program beats a refusal by another, so both can stand side by side until a proxy
	// serves from our maps.
	predecessors []link.Link
}

// OpenLookup makes program the kg_lookup of this thread's network namespace, in place of
// an earlier one on the same maps, beside one on other maps.
func OpenLookup(folder string, program *ebpf.Program, meta ebpf.MapID, log zerolog.Logger) (_ *Lookup, err error) {
	l := new(Lookup)
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	defer ns.Close()
	here, err := netnsInode()
	if err != nil {
		return nil, err
	}

	pin := filepath.Join(folder, pins.Lookup)
	if err := l.takeOver(pin, program, meta, here); err != nil {
		return nil, err
	}
	found, err := findLinks(link.NetNsType, "kg_lookup")
	if err != nil {
		log.Warn().Err(err).Msg("cannot see whether an earlier kg_lookup is still attached; going by the pins")
	}
	for _, f := range found {
		switch {
		case f.netns != here || l.is(f.id):
			f.Close()
		case f.uses(meta) && l.link == nil: // its pin is lost
			if err := f.Update(program); err != nil {
				f.Close()
				return nil, fmt.Errorf("update kg_lookup found attached (link %d): %w", f.id, err)
			}
			l.link = f.Link
			if err := l.link.Pin(pin); err != nil {
				return nil, fmt.Errorf("pin kg_lookup again: %w", err)
			}
			log.Info().Uint32("link", uint32(f.id)).Msg("took over kg_lookup, whose pin was lost")
		case f.uses(meta): // a second one on the same maps does nothing but cost time
			if err := detach(f.Link); err != nil {
				log.Warn().Err(err).Uint32("link", uint32(f.id)).Msg("cannot detach a duplicate kg_lookup")
			}
			f.Close()
		default:
			log.Info().Uint32("link", uint32(f.id)).Msg("kg_lookup of other maps stays until a proxy serves from these")
			l.predecessors = append(l.predecessors, f.Link)
		}
	}
	if l.link != nil {
		return l, nil
	}
	if l.link, err = link.AttachNetNs(int(ns.Fd()), program); err != nil {
		return nil, fmt.Errorf("attach kg_lookup (kernel >= 5.9 and CAP_NET_ADMIN needed): %w", err)
	}
	if err := l.link.Pin(pin); err != nil {
		return nil, fmt.Errorf("pin kg_lookup: %w", err)
	}
	return l, nil
}

// takeOver updates the pinned link if it is attached here and on our maps. If not, it
// makes room for another pin without ending the link.
func (l *Lookup) takeOver(pin string, program *ebpf.Program, meta ebpf.MapID, here uint32) error {
	pinned, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pinned kg_lookup: %w", err)
	}
	if info, err := pinned.Info(); err == nil && info.NetNs() != nil && info.NetNs().NetnsInode == here {
		if _, maps, err := DescribeProgram(info.Program); err == nil {
			f := foundLink{mapIDs: maps}
			if f.uses(meta) {
				if err := pinned.Update(program); err != nil {
					pinned.Close()
					return fmt.Errorf("update kg_lookup: %w", err)
				}
				l.link = pinned
				return nil
			}
		}
	}
	defer pinned.Close()
	old := filepath.Join(filepath.Dir(pin), pins.LookupOld)
	if err := pins.Remove(old); err != nil {
		return err
	}
	if err := os.Rename(pin, old); err != nil {
		return fmt.Errorf("put the pin of an earlier kg_lookup aside: %w", err)
	}
	return nil
}

// is reports whether id is our own link.
func (l *Lookup) is(id link.ID) bool {
	if l.link == nil {
		return false
	}
	info, err := l.link.Info()
	return err == nil && info.ID == id
}

// EndPredecessors detaches kg_lookup of other maps, for a proxy serves from ours now.
func (l *Lookup) EndPredecessors(folder string, log zerolog.Logger) {
	for _, p := range l.predecessors {
		if err := detach(p); err != nil {
			log.Warn().Err(err).Msg("cannot detach kg_lookup of other maps")
		}
		p.Close()
	}
	l.predecessors = nil
	if err := pins.Remove(filepath.Join(folder, pins.LookupOld)); err != nil {
		log.Warn().Err(err).Msg("cannot remove the pin of an earlier kg_lookup")
	}
}

// Close lets go of the descriptors; pinned links stay attached.
func (l *Lookup) Close() {
	if l.link != nil {
		l.link.Close()
	}
	for _, p := range l.predecessors {
		p.Close()
	}
}
