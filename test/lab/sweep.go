//go:build linux

package lab

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const namedNamespaces = "/run/netns" // where ip-netns(8) looks for names

// Sweep removes labs whose owner ended without Close. A lab is alive while its folder is
// locked, so the labs of processes that run at the same time stay.
func Sweep() error {
	entries, err := os.ReadDir(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		dir := filepath.Join(root, entry.Name())
		lock, err := lockDir(dir)
		if err != nil {
			continue // alive, or just removed by its owner
		}
		errs = append(errs, remove("kgt-"+entry.Name(), dir))
		lock.Close()
	}
	return errors.Join(errs...)
}

// remove takes away everything that belongs to the lab: processes first, because they
// keep the rest busy.
func remove(name, dir string) error {
	spaces, err := namespaces(name)
	if err != nil {
		return err
	}
	errs := []error{killInside(spaces)}
	for _, space := range spaces {
		file := filepath.Join(namedNamespaces, space)
		// Not mounted if the owner died between making the file and mounting on it.
		if err := unix.Unmount(file, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", file, err))
		}
		errs = append(errs, os.Remove(file))
	}
	mounts, err := mountsBelow(dir)
	errs = append(errs, err)
	for _, mount := range mounts {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", mount, err))
		}
	}
	errs = append(errs, os.RemoveAll(dir))
	return errors.Join(errs...)
}

// namespaces lists the names of the lab's network namespaces.
func namespaces(name string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(namedNamespaces, name+"-*"))
	for i, file := range found {
		found[i] = filepath.Base(file)
	}
	return found, err
}

// killInside kills every process that lives in one of the namespaces, and waits for its
// end. A lab starts processes which start others (an agent its proxy); those are found
// here and not by their parent, which may be gone.
func killInside(spaces []string) error {
	inodes := make(map[uint64]bool)
	for _, space := range spaces {
		if inode, err := namespaceInode(filepath.Join(namedNamespaces, space)); err == nil {
			inodes[inode] = true
		}
	}
	pids, err := processesIn(inodes)
	if err != nil {
		return err
	}
	var errs []error
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	for _, pid := range pids {
		errs = append(errs, waitGone(pid, 5*time.Second))
	}
	return errors.Join(errs...)
}

func namespaceInode(file string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return 0, err
	}
	return st.Ino, nil
}

// processesIn lists the processes whose network namespace is among the inodes, except
// this one.
func processesIn(inodes map[uint64]bool) ([]int, error) {
	if len(inodes) == 0 {
		return nil, nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		inode, err := namespaceInode(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err == nil && inodes[inode] {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// processState returns the letter of proc(5)'s stat: R, S, Z, ...
func processState(pid int) (byte, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The command's name stands in brackets and may itself hold brackets and spaces.
	_, rest, found := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	if !found || rest == "" {
		return 0, fmt.Errorf("/proc/%d/stat has no state", pid)
	}
	return rest[0], nil
}

// mountsBelow lists mount points in the folder, innermost first.
func mountsBelow(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var mounts []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			mounts = append([]string{fields[4]}, mounts...)
		}
	}
	return mounts, lines.Err()
}
