// Package netnstest gives tests a network namespace and a bpf file system of their own, so
// that they drive the real kernel and leave nothing behind.
package netnstest

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace that ends with its test.
type Namespace struct{ file *os.File }

// Enter moves the test's goroutine into a new network namespace with its loopback
// interface up, until the test ends. Goroutines that the test starts are not in it: see Do.
func Enter(t testing.TB) *Namespace {
	t.Helper()
	RequireCapabilities(t)
	runtime.LockOSThread()
	before := open(t)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	ns := &Namespace{open(t)}
	t.Cleanup(func() {
		if err := unix.Setns(int(before.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Errorf("leave the network namespace: %v", err) // the thread stays locked and ends
		} else {
			runtime.UnlockOSThread()
		}
		before.Close()
		ns.file.Close()
	})
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatalf("set lo up: %v", err)
	}
	return ns
}

// Do runs f in the namespace and returns when it has ended. For goroutines of a test.
func (ns *Namespace) Do(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the thread ends with the goroutine, and its namespace with it.
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.file.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err)
		}
		f()
	}()
	<-done
}

func open(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// BPFFS mounts a bpf file system for the test and returns its path.
func BPFFS(t testing.TB) string {
	t.Helper()
	RequireCapabilities(t)
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatalf("mount bpffs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount bpffs: %v", err)
		}
	})
	return dir
}

// RequireCapabilities skips the test without the capabilities that loading and attaching
// programs takes, naming them; with KERNGATE_TEST_NO_SKIP=1 it fails it.
func RequireCapabilities(t testing.TB) {
	t.Helper()
	var missing []string
	for _, c := range []struct {
		name string
		bit  uint
	}{
		{"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN},
		{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN},
		{"CAP_BPF", unix.CAP_BPF},
	} {
		if !has(c.bit) {
			missing = append(missing, c.name)
		}
	}
	if len(missing) == 0 {
		return
	}
	if os.Getenv("KERNGATE_TEST_NO_SKIP") == "1" {
		t.Fatalf("needs %s, and KERNGATE_TEST_NO_SKIP=1 forbids skipping", strings.Join(missing, ", "))
	}
	t.Skipf("needs %s: run as root", strings.Join(missing, ", "))
}

// has reports whether the process effectively has a capability.
func has(bit uint) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[bit/32].Effective&(1<<(bit%32)) != 0
}
