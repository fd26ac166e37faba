package attach

import (
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// foundLink is a link in the kernel that holds one of our programs, pinned or not.
type foundLink struct {
	link.Link
	id      link.ID
	program ebpf.ProgramID
	mapIDs  []ebpf.MapID // that its program uses
	netns   uint32       // inode, of sk_lookup links
	ifindex uint32       // of XDP links; says nothing about the namespace
}

// uses reports whether the link's program works on this map.
func (f *foundLink) uses(m ebpf.MapID) bool { return slices.Contains(f.mapIDs, m) }

// findLinks returns the links of a kind that hold a program of one of these names. Pins may be
// lost (a remounted bpffs) while what they named is still attached, so this asks the
// kernel. It needs CAP_SYS_ADMIN. The caller closes the links.
func findLinks(kind link.Type, programs ...string) (found []foundLink, err error) {
	defer func() {
		if err != nil {
			closeFound(found)
			found = nil
		}
	}()
	it := new(link.Iterator)
	defer it.Close()
	for it.Next() {
		info, err := it.Link.Info()
		if err != nil || info.Type != kind {
			continue // ended meanwhile, or a kind that is none of ours
		}
		f := foundLink{id: info.ID, program: info.Program}
		if ns := info.NetNs(); ns != nil {
			f.netns = ns.NetnsInode
		}
		if xdp := info.XDP(); xdp != nil {
			f.ifindex = xdp.Ifindex
		}
		name, mapIDs, err := DescribeProgram(info.Program)
		if err != nil || !slices.Contains(programs, name) {
			continue
		}
		f.mapIDs = mapIDs
		f.Link = it.Take()
		found = append(found, f)
	}
	if err := it.Err(); err != nil {
		return found, fmt.Errorf("list BPF links (CAP_SYS_ADMIN needed): %w", err)
	}
	return found, nil
}

// DescribeProgram returns the name of a loaded program and the maps that it uses.
func DescribeProgram(id ebpf.ProgramID) (name string, maps []ebpf.MapID, err error) {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return "", nil, err
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return "", nil, err
	}
	maps, _ = info.MapIDs()
	return info.Name, maps, nil
}

func closeFound(found []foundLink) {
	for _, f := range found {
		f.Close()
	}
}

// detach takes a link's program off its hook, whoever else still holds the link.
func detach(l link.Link) error {
	d, ok := l.(interface{ Detach() error })
	if !ok {
		return fmt.Errorf("a %T cannot be detached", l)
	}
	return d.Detach()
}
