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
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/kerngate/kerngate/loader/attach"
	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/netnstest"
)

// verifierInstructions is the kernel's limit, BPF_COMPLEXITY_LIMIT_INSNS.
const verifierInstructions = 1_000_000

// verifierStack is what functions that call each other may take, MAX_BPF_STACK.
const verifierStack = 512

var (
	processed = regexp.MustCompile(`processed (\d+) insns`)
	// "stack depth 64+0" for the functions in order; since 7.3 a line for each: "stack 64".
	stackDepth = regexp.MustCompile(`stack (?:depth )?([\d+]+)`)
)

// TestVerifier has the verifier say what each program costs it: as it is loaded without options,
// and with all that options can turn on. scripts/vm-matrix makes the table of docs/kernels.md from
// the lines that it prints for the greater of the two: "verifier: PROGRAM INSTRUCTIONS STACK", the
// stack in bytes of the chain of calls that takes most.
//
// Half of the limit is the most that is allowed: a kernel that is a little less clever
// about equal states must not refuse what all others take.
func TestVerifier(t *testing.T) {
	netnstest.Enter(t)
	features := attach.Probe()
	if len(features.Missing()) > 0 {
		testOldKernelIsRefused(t, features)
		return
	}
	most := make(map[string]cost)
	for _, options := range []Options{
		{SynCookies: SynCookiesOff},
		{Node: "a", TunnelPort: 5555, DSR: true, Fabric: true, SynCookies: SynCookiesAlways, Interfaces: []string{"lo"}},
	} {
		for name, c := range verifierCosts(t, features, options) {
			most[name] = cost{max(c.instructions, most[name].instructions), max(c.stack, most[name].stack)}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(most)) {
		c := most[name]
		t.Logf("verifier: %s %d %d", name, c.instructions, c.stack)
		if c.instructions == 0 || c.instructions > verifierInstructions/2 {
			t.Errorf("%s: the verifier looked at %d instructions, more than half of its limit", name, c.instructions)
		}
		if c.stack == 0 || c.stack > verifierStack {
			t.Errorf("%s: functions that call each other take %d bytes of stack: 1 to %d are right", name, c.stack, verifierStack)
		}
	}
}

// cost is what a program costs the verifier.
type cost struct{ instructions, stack int }

// verifierCosts loads the programs with options, and returns what each costs.
func verifierCosts(t *testing.T, features attach.Features, o Options) map[string]cost {
	t.Helper()
	o, err := o.complete()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := datapath.Prepare(o.constants(), features.Has("xdp_frags"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats},
	})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer all.Close()
	costs := make(map[string]cost)
	for name, program := range all.Programs {
		costs[name] = readCost(t, name, program.VerifierLog, spec.Programs[name].Instructions)
	}
	return costs
}

// readCost reads the statistics at the end of a verifier's log.
func readCost(t *testing.T, name, log string, program asm.Instructions) (c cost) {
	t.Helper()
	p, s := processed.FindStringSubmatch(log), stackDepth.FindAllStringSubmatch(log, -1)
	if p == nil || s == nil {
		t.Fatalf("%s: no statistics in the verifier's log %q", name, log)
	}
	c.instructions, _ = strconv.Atoi(p[1])
	var depths []int
	for _, match := range s {
		for _, depth := range strings.Split(match[1], "+") {
			n, _ := strconv.Atoi(depth)
			depths = append(depths, n)
		}
	}
	// Functions that nothing calls with these options are gone, and it is not said which: what is
	// left takes no more than when they are all there.
	functions, calls := callsOf(program)
	if len(functions) != len(depths) {
		return c
	}
	own := make(map[string]int)
	for i, function := range functions {
		own[function] = depths[i]
	}
	c.stack = deepest(functions[0], own, calls)
	return c
}

// callsOf returns the functions of a program in their order, and which calls which.
func callsOf(program asm.Instructions) (functions []string, calls map[string][]string) {
	calls = make(map[string][]string)
	for i := range program {
		instruction := &program[i]
		if btf.FuncMetadata(instruction) != nil {
			functions = append(functions, instruction.Symbol())
		}
		if instruction.IsFunctionCall() {
			at := functions[len(functions)-1]
			calls[at] = append(calls[at], instruction.Reference())
		}
	}
	return functions, calls
}

// deepest returns the stack that a function takes together with the most expensive of those that
// it calls. The kernel rounds up each as here, or to 16 where it compiles programs (since 6.8).
func deepest(function string, own map[string]int, calls map[string][]string) int {
	const unit = 32
	var below int
	for _, called := range calls[function] {
		below = max(below, deepest(called, own, calls))
	}
	return (max(own[function], 1)+unit-1)/unit*unit + below
}

// testOldKernelIsRefused opens a datapath on a kernel that cannot carry it: the error says
// what is missing and what to do, and nothing is left behind.
func testOldKernelIsRefused(t *testing.T, features attach.Features) {
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
