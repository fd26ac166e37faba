package cgroup

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
)

// folders makes control groups below a root, as files.
func folders(t *testing.T) (root string, write func(group string, files map[string]string)) {
	root = t.TempDir()
	return root, func(group string, files map[string]string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(root, group), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(root, group, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestMemory(t *testing.T) {
	root, write := folders(t)
	write(".", map[string]string{"self": "1:name=systemd:/x\n0::/pods/proxy\n"})
	write("pods/proxy", map[string]string{"memory.max": "max\n", "memory.current": "900\n", "memory.stat": "anon 5\ninactive_file 60\nactive_file 40\n"})
	write("pods", map[string]string{"memory.max": "2000\n", "memory.current": "1700\n", "memory.stat": "inactive_file 200\n"})
	self := filepath.Join(root, "self")
	if use, limit := newGroup(root, self).Memory(); use != 1500 || limit != 2000 {
		t.Errorf("got %d of %d: the group above has the limit", use, limit)
	}
	write("pods/proxy", map[string]string{"memory.max": "1000\n"})
	if use, limit := newGroup(root, self).Memory(); use != 800 || limit != 1000 {
		t.Errorf("got %d of %d: the own group has less left", use, limit)
	}
	if limit := newGroup(root, self).Limit(); limit != 1000 {
		t.Errorf("the lowest limit is %d", limit)
	}
	if use, limit := newGroup(root, filepath.Join(root, "none")).Memory(); use != 0 || limit != 0 {
		t.Errorf("got %d of %d without a group", use, limit)
	}
}

// TestFirstVersion: in a container of version 1 the group's own path does not exist below the mount,
// which is the group itself.
func TestFirstVersion(t *testing.T) {
	root, write := folders(t)
	write(".", map[string]string{"self": "9:cpu,cpuacct:/kubepods/x\n4:memory:/kubepods/x\n0::/x\n"})
	self := filepath.Join(root, "self")
	write("memory", map[string]string{"memory.limit_in_bytes": "9223372036854771712\n", "memory.usage_in_bytes": "700\n", "memory.stat": "inactive_file 1\ntotal_inactive_file 50\ntotal_active_file 50\n"})
	if limit := newGroup(root, self).Limit(); limit != 0 {
		t.Errorf("the largest number of pages is a limit of %d", limit)
	}
	write("memory", map[string]string{"memory.limit_in_bytes": "1000\n"})
	if use, limit := newGroup(root, self).Memory(); use != 600 || limit != 1000 {
		t.Errorf("got %d of %d", use, limit)
	}
}

// TestLimitGo: the collector's goal is a share of the limit, unless the environment says another.
func TestLimitGo(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	root, write := folders(t)
	write(".", map[string]string{"self": "0::/proxy\n"})
	group := func() *Group { return newGroup(root, filepath.Join(root, "self")) }
	debug.SetMemoryLimit(math.MaxInt64)
	if got := group().LimitGo(0.9); got != 0 || debug.SetMemoryLimit(-1) != math.MaxInt64 {
		t.Errorf("without a limit: %d", got)
	}
	write("proxy", map[string]string{"memory.max": "1000000000\n"})
	t.Setenv("GOMEMLIMIT", "1GiB")
	if got := group().LimitGo(0.9); got != 0 || debug.SetMemoryLimit(-1) != math.MaxInt64 {
		t.Errorf("with GOMEMLIMIT: %d", got)
	}
	t.Setenv("GOMEMLIMIT", "")
	if got := group().LimitGo(0.9); got != 900_000_000 || debug.SetMemoryLimit(-1) != got {
		t.Errorf("got %d, in force %d", got, debug.SetMemoryLimit(-1))
	}
}
