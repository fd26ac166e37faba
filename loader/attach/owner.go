package attach

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Bounds of the search for the owner of a program.
const (
	ownerPins        = 4096    // pins that are looked at
	ownerDescriptors = 1 << 18 // open files of all processes
	ownerNames       = 3       // of each kind that are told
)

// owner says, for people, whose program this is: its name and id, which process holds it or
// its link, and where it is pinned. What cannot be found out is left out: processes of a
// node are not seen from a container that does not share its process ids.
func owner(id ebpf.ProgramID, bpffs string) string {
	name, _, err := DescribeProgram(id)
	if err != nil {
		return fmt.Sprintf("a program (id %d) that cannot be looked at (%v)", id, err)
	}
	links := linksOf(id)
	text := fmt.Sprintf("program %q (id %d) of somebody else", name, id)
	if held := holders(id, links); len(held) > 0 {
		text += ", held by " + strings.Join(held, " and ")
	}
	if pins := pinsOf(id, links, bpffs); len(pins) > 0 {
		text += ", pinned at " + strings.Join(pins, " and ")
	}
	return text
}

// linksOf returns the links by which a program is attached.
func linksOf(id ebpf.ProgramID) (ids []link.ID) {
	it := new(link.Iterator)
	defer it.Close()
	for it.Next() {
		if info, err := it.Link.Info(); err == nil && info.Program == id {
			ids = append(ids, info.ID)
		}
	}
	return ids
}

// holders returns the processes with a descriptor of the program or of one of the links.
func holders(id ebpf.ProgramID, links []link.ID) (names []string) {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	looked := 0
	for _, process := range processes {
		pid, _ := strconv.Atoi(filepath.Base(process))
		if pid == os.Getpid() { // has looked at it just now
			continue
		}
		files, err := os.ReadDir(filepath.Join(process, "fdinfo"))
		if err != nil {
			continue // ended meanwhile, or hidden
		}
		for _, f := range files {
			if looked++; looked > ownerDescriptors {
				return names
			}
			if !holds(process, f.Name(), id, links) {
				continue
			}
			command, _ := os.ReadFile(filepath.Join(process, "comm"))
			names = append(names, fmt.Sprintf("process %d (%s)", pid, bytes.TrimSpace(command)))
			break
		}
		if len(names) == ownerNames {
			break
		}
	}
	return names
}

// holds reports whether a descriptor of a process is that program or one of the links.
func holds(process, fd string, id ebpf.ProgramID, links []link.ID) bool {
	// Most descriptors are something else, and their fdinfo is dear.
	target, err := os.Readlink(filepath.Join(process, "fd", fd))
	if err != nil || target != "anon_inode:bpf-prog" && target != "anon_inode:bpf_link" && target != "anon_inode:[bpf_link]" {
		return false
	}
	info, err := os.ReadFile(filepath.Join(process, "fdinfo", fd))
	if err != nil {
		return false
	}
	for lines := bufio.NewScanner(bytes.NewReader(info)); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), ":")
		number, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32)
		if err != nil {
			continue
		}
		// The link's program may have been replaced since: its id is what counts.
		if key == "prog_id" && ebpf.ProgramID(number) == id || key == "link_id" && slices.Contains(links, link.ID(number)) {
			return true
		}
	}
	return false
}

// pinsOf returns the pins of the program or of its links on the bpf file system of a folder.
func pinsOf(id ebpf.ProgramID, links []link.ID, folder string) (pins []string) {
	top := folder
	for parent := filepath.Dir(top); parent != top && onBPFFS(parent); parent = filepath.Dir(top) {
		top = parent
	}
	looked := 0
	_ = filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if looked++; looked > ownerPins || len(pins) == ownerNames {
			return fs.SkipAll
		}
		if err != nil || !entry.Type().IsRegular() {
			return nil
		}
		if isPinOf(path, id, links) {
			pins = append(pins, path)
		}
		return nil
	})
	return pins
}

func onBPFFS(path string) bool {
	var st unix.Statfs_t
	err := unix.Statfs(path, &st)
	return err == nil && uint64(st.Type) == unix.BPF_FS_MAGIC || errors.Is(err, unix.ENOENT)
}

// isPinOf reports whether a pin is that program or one of the links. A pin of another kind
// cannot be opened so.
func isPinOf(path string, id ebpf.ProgramID, links []link.ID) bool {
	if p, err := ebpf.LoadPinnedProgram(path, &ebpf.LoadPinOptions{ReadOnly: true}); err == nil {
		defer p.Close()
		info, err := p.Info()
		if err != nil {
			return false
		}
		have, ok := info.ID()
		return ok && have == id
	}
	l, err := link.LoadPinnedLink(path, &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return false
	}
	defer l.Close()
	info, err := l.Info()
	return err == nil && slices.Contains(links, info.ID)
}
