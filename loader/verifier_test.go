package loader

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/kerngate/kerngate/loader/netnstest"
)

// verifierInstructions is the kernel's limit, BPF_COMPLEXITY_LIMIT_INSNS.
const verifierInstructions = 1_000_000

var (
	processed = regexp.MustCompile(`processed (\d+) insns`)
	// "stack depth 64+0" for the functions in order; since 7.3 a line for each: "stack 64".
	stackDepth = regexp.MustCompile(`stack (?:depth )?([\d+]+)`)
)

// TestVerifier has the verifier say what each program costs it. scripts/vm-matrix makes
// the table of docs/kernels.md from the lines that it prints: "verifier: PROGRAM
// INSTRUCTIONS STACK", the stack in bytes of the function that takes most.
//
// Half of the limit is the most that is allowed: a kernel that is a little less clever
// about equal states must not refuse what all others take.
func TestVerifier(t *testing.T) {
	netnstest.Enter(t)
	features := Probe()
	if len(features.Missing()) > 0 {
		testOldKernelIsRefused(t, features)
		return
	}
	spec, err := loadKerngate()
	if err != nil {
		t.Fatal(err)
	}
	if features.Has("xdp_frags") {
		for _, name := range xdpPrograms {
			spec.Programs[name].Flags |= xdpHasFrags
		}
	}
	all, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats},
	})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer all.Close()
	for _, name := range slices.Sorted(maps.Keys(all.Programs)) {
		log := all.Programs[name].VerifierLog
		instructions, stack := verifierCost(t, name, log)
		t.Logf("verifier: %s %d %d", name, instructions, stack)
		if instructions == 0 || instructions > verifierInstructions/2 {
			t.Errorf("%s: the verifier looked at %d instructions, more than half of its limit", name, instructions)
		}
	}
}

// verifierCost reads the statistics at the end of a verifier's log.
func verifierCost(t *testing.T, name, log string) (instructions, stack int) {
	t.Helper()
	p, s := processed.FindStringSubmatch(log), stackDepth.FindAllStringSubmatch(log, -1)
	if p == nil || s == nil {
		t.Fatalf("%s: no statistics in the verifier's log %q", name, log)
	}
	instructions, _ = strconv.Atoi(p[1])
	for _, match := range s {
		for _, depth := range strings.Split(match[1], "+") {
			n, _ := strconv.Atoi(depth)
			stack = max(stack, n)
		}
	}
	return instructions, stack
}

// testOldKernelIsRefused opens a datapath on a kernel that cannot carry it: the error says
// what is missing and what to do, and nothing is left behind.
func testOldKernelIsRefused(t *testing.T, features Features) {
	folder := filepath.Join(netnstest.BPFFS(t), "kerngate")
	d, err := Open(Options{BPFFS: folder})
	if err == nil {
		d.Close()
		t.Fatal("a kernel that lacks what nothing replaces was accepted")
	}
	for _, f := range features.Missing() {
		if !strings.Contains(err.Error(), f.Name) {
			t.Errorf("error %q does not name %s", err, f.Name)
		}
	}
	if !strings.Contains(err.Error(), "Linux 5.15") {
		t.Errorf("error %q does not say which kernel to boot", err)
	}
	left, readErr := os.ReadDir(folder)
	if readErr != nil && !errors.Is(readErr, fs.ErrNotExist) {
		t.Fatal(readErr)
	}
	for _, entry := range left {
		if entry.Name() != "lock" {
			t.Errorf("%s was left in the pin folder", entry.Name())
		}
	}
	t.Logf("refused: %v", err)
}
