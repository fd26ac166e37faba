package loader

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/pins"
)

// Prove shows, beside an agent that runs, that Open could take over from it: this process has the
// capabilities, the kernel accepts all programs on the maps as they are, and lets one be attached.
// Nothing is left behind. A roll-out of an agent that cannot work so ends at its first node, while
// the old agent goes on.
func Prove(o Options) error {
	o, err := o.complete()
	if err != nil {
		return err
	}
	folder, err := pins.Folder(o.BPFFS)
	if err != nil {
		return err
	}
	found, err := probe()
	if err != nil {
		return err
	}
	if err := datapath.Try(folder, o.constants(), o.sizes(), found.Has("xdp_frags")); err != nil {
		return err
	}
	return tryAttaching()
}

// tryAttaching attaches a program to this network namespace for a moment that leaves every
// connection to the others.
func tryAttaching() (err error) {
	const pass = 1 // SK_PASS
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "kg_prove", Type: ebpf.SkLookup, AttachType: ebpf.AttachSkLookup,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, pass), asm.Return()},
		License:      "Dual BSD/GPL",
	})
	if err != nil {
		return fmt.Errorf("load a program for sk_lookup: %w", err)
	}
	defer func() { err = errors.Join(err, program.Close()) }()
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer here.Close()
	l, err := link.AttachNetNs(int(here.Fd()), program)
	if err != nil {
		return fmt.Errorf("attach a program for sk_lookup (CAP_NET_ADMIN needed): %w", err)
	}
	return l.Close()
}
