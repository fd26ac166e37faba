// Command init is the first process of a throw-away virtual machine (scripts/vm-matrix). It
// mounts what the tests need, loads the modules in /modules, runs the test binaries in
// /tests, tells how each ended, and powers the machine off.
//
// Lines for the script: "vm: kernel RELEASE", "vm: PASS NAME (N tests, S)" or
// "vm: FAIL NAME: REASON" for each binary, and "vm: end" when all had their turn. A word
// vm.run=PATTERN on the kernel's command line chooses the tests, as -test.run does. Binaries that
// the tests start are in /programs.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// limit bounds one test binary unless the command line says vm.limit=; emulation is some thirty
// times slower than a real machine.
const limit = 500 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Println("vm: error:", err)
	} else {
		fmt.Println("vm: end")
	}
	unix.Sync()
	// Returning from the first process would be a panic of the kernel.
	err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	fmt.Println("vm: error: power off:", err)
}

func run() error {
	for _, m := range []struct{ fstype, at string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}, {"tmpfs", "/run"}, {"bpf", "/sys/fs/bpf"},
		{"cgroup2", "/sys/fs/cgroup"},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.fstype, m.at, m.fstype, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	if err := loadModules(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte("vm")); err != nil {
		return err
	}
	if lo, err := netlink.LinkByName("lo"); err != nil {
		return err
	} else if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	fmt.Println("\nvm: kernel", unix.ByteSliceToString(name.Release[:]))

	tests, err := filepath.Glob("/tests/*")
	if err != nil {
		return err
	}
	pattern, limit, err := chosen()
	if err != nil {
		return err
	}
	for _, test := range tests {
		began := time.Now()
		passed, err := runTest(test, pattern, limit)
		if err != nil {
			fmt.Printf("vm: FAIL %s: %v\n", filepath.Base(test), err)
			continue
		}
		fmt.Printf("vm: PASS %s (%d tests, %v)\n", filepath.Base(test), passed, time.Since(began).Round(time.Second))
	}
	return nil
}

// loadModules loads what the kernel does not have built in. Modules need others before them:
// those that are refused are tried again as long as another was taken meanwhile.
func loadModules() error {
	modules, err := filepath.Glob("/modules/*")
	if err != nil {
		return err
	}
	for len(modules) > 0 {
		var refused []string
		var refusals []error
		for _, path := range modules {
			if err := loadModule(path); err != nil {
				refused = append(refused, path)
				refusals = append(refusals, fmt.Errorf("load module %s: %w", path, err))
			}
		}
		if len(refused) == len(modules) {
			return errors.Join(refusals...)
		}
		modules = refused
	}
	return nil
}

// loadModule loads a module. One that is there already is no error.
func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if !strings.HasSuffix(path, ".ko") { // .ko.xz: the kernel unpacks it
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	if err := unix.FinitModule(int(f.Fd()), "", flags); !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// chosen returns the pattern of the tests to run and how long each binary may take; all if the
// command line says nothing.
func chosen() (pattern string, most time.Duration, err error) {
	pattern, most = ".", limit
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return "", 0, err
	}
	for _, word := range strings.Fields(string(line)) {
		if value, ok := strings.CutPrefix(word, "vm.run="); ok {
			pattern = value
		}
		if value, ok := strings.CutPrefix(word, "vm.limit="); ok {
			if most, err = time.ParseDuration(value); err != nil {
				return "", 0, fmt.Errorf("kernel command line: %w", err)
			}
		}
	}
	return pattern, most, nil
}

// runTest runs the tests of a binary that the pattern names and returns how many passed.
func runTest(path, pattern string, limit time.Duration) (passed int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c := exec.CommandContext(ctx, path, "-test.v", "-test.run", pattern)
	c.Dir = "/tmp"
	c.Env = []string{
		"PATH=/usr/sbin:/usr/bin", "HOME=/tmp", "TMPDIR=/tmp", "KERNGATE_CACHE=/cache", "KERNGATE_TEST_NO_SKIP=1",
		"KERNGATE_TEST_BINARIES=/programs", "KERNGATE_TEST_PATIENCE=10", "KERNGATE_TEST_UPLINKS=veth,vlan,bond,virtio",
	}
	var output bytes.Buffer
	c.Stdout = io.MultiWriter(os.Stdout, &output)
	c.Stderr = c.Stdout
	if err := c.Run(); err != nil {
		if ctx.Err() != nil {
			return 0, fmt.Errorf("not done after %v", limit)
		}
		return 0, err
	}
	passed = strings.Count(output.String(), "--- PASS: ")
	if skipped := strings.Count(output.String(), "--- SKIP: "); skipped > 0 {
		return 0, fmt.Errorf("%d tests were skipped", skipped)
	}
	if passed == 0 {
		return 0, errors.New("no test ran")
	}
	return passed, nil
}
