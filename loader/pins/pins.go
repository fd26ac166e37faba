// Package pins is the folder in which programs and maps of a node outlive the agent: which one it is,
// what stands in it under which name, and who may write there.
package pins

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
)

// Names in the folder of pins, beside the maps under their own names. bpffs allows no
// dots, so interfaces are named by index.
const (
	Lookup    = "link_lookup"
	LookupOld = "link_lookup_old" // of other maps, in force until a proxy serves from ours
	XDP       = "link_xdp_"
	// ListsLock is a folder that is locked by who changes the prefix lists.
	ListsLock = "kg_lists_lock"
	// WatchLock is a folder that is locked by who reads events.
	WatchLock = "kg_watch_lock"
)

// MetaMap is pinned last of the maps: where it stands, the set is complete.
const MetaMap = "kg_meta"

// DefaultBPFFS is where the maps and links are pinned.
const DefaultBPFFS = "/sys/fs/bpf/kerngate"

// ErrLocked says that another agent has these pins.
var ErrLocked = errors.New("another kerngate-agent uses these maps: stop it first, or give this one its own --bpffs")

// CheckBPFFS reports whether path is, or would be made, on a bpf file system.
func CheckBPFFS(path string) error {
	at := path
	for {
		var st unix.Statfs_t
		err := unix.Statfs(at, &st)
		if err == nil && uint64(st.Type) == unix.BPF_FS_MAGIC {
			return nil
		}
		if err == nil {
			return fmt.Errorf("%s is not on a bpf file system: %s", path, advice(path))
		}
		if !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			return fmt.Errorf("look at %s: %w", at, err)
		}
		at = filepath.Dir(at)
	}
}

// advice says what to do about a path that is on no bpf file system.
func advice(path string) string {
	const usual = "/sys/fs/bpf"
	if path == usual || strings.HasPrefix(path, usual+"/") {
		return "mount one with `mount -t bpf bpf " + usual + "`"
	}
	return "name a folder on one, such as " + usual + "/kerngate"
}

// Beside is where maps of this build stand if bpffs holds those of another ABI.
func Beside(bpffs string) string { return fmt.Sprintf("%s_abi%d", bpffs, abi.ABI) }

// Folder returns the folder for maps of this build's ABI: bpffs itself, or one beside
// it while bpffs holds maps of another.
func Folder(bpffs string) (string, error) {
	if err := CheckBPFFS(bpffs); err != nil {
		return "", err
	}
	found, err := pinnedABI(bpffs)
	if err != nil {
		return "", err
	}
	beside := Beside(bpffs)
	if _, err := os.Stat(filepath.Join(beside, MetaMap)); err == nil && found != abi.ABI {
		return beside, nil
	}
	if found == 0 || found == abi.ABI {
		return bpffs, nil
	}
	return beside, nil
}

// pinnedABI returns the layout version of the maps in a folder, 0 if there are none.
func pinnedABI(folder string) (uint32, error) {
	m, err := ebpf.LoadPinnedMap(filepath.Join(folder, MetaMap), &ebpf.LoadPinOptions{ReadOnly: true})
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", filepath.Join(folder, MetaMap), err)
	}
	defer m.Close()
	value, err := m.LookupBytes(uint32(0))
	if err != nil || len(value) < 4 {
		return 0, fmt.Errorf("read %s: %w", filepath.Join(folder, MetaMap), err)
	}
	return uint32(value[0]) | uint32(value[1])<<8 | uint32(value[2])<<16 | uint32(value[3])<<24, nil
}

// Lock makes the folder and locks it against other agents until the file is closed.
func Lock(folder string) (*os.File, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, fmt.Errorf("make folder of pins: %w", err)
	}
	dir, err := os.Open(folder)
	if err != nil {
		return nil, fmt.Errorf("open folder of pins: %w", err)
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		dir.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", folder, ErrLocked)
		}
		return nil, fmt.Errorf("lock %s: %w", folder, err)
	}
	return dir, nil
}

// Remove removes a pin; one that is not there is no error.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
