package attach

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/datapath"
)

// Feature is one thing that the kernel was asked for at start.
type Feature struct {
	Name       string
	Present    bool
	Kernel     string // the first release that has it
	NeededFor  string
	ReplacedBy string // what is used where it is missing; "" if nothing can
	Err        error  // why it could not be found out, else nil
}

// Features is the result of Probe.
type Features []Feature

// Has reports whether the named feature is present.
func (f Features) Has(name string) bool {
	for _, feature := range f {
		if feature.Name == name {
			return feature.Present
		}
	}
	return false
}

// Missing returns those that are absent and that nothing replaces.
func (f Features) Missing() Features {
	var out Features
	for _, feature := range f {
		if !feature.Present && feature.ReplacedBy == "" {
			out = append(out, feature)
		}
	}
	return out
}

// Refusal returns why Kerngate cannot run on this kernel, nil if it can.
func (f Features) Refusal() error {
	var lacks []string
	for _, m := range f.Missing() {
		if m.Err != nil {
			return fmt.Errorf("find out whether the kernel has %s (CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN needed): %w", m.Name, m.Err)
		}
		lacks = append(lacks, fmt.Sprintf("%s (Linux >= %s; needed for %s)", m.Name, m.Kernel, m.NeededFor))
	}
	if lacks == nil {
		return nil
	}
	return fmt.Errorf("this kernel lacks %s: boot Linux 5.15 or newer on this node, or keep Kerngate off it (the DaemonSet's nodeSelector)",
		strings.Join(lacks, ", "))
}

// Probe asks the running kernel what it can do.
func Probe() Features {
	list := []struct {
		Feature
		probe func() error
	}{
		{Feature{Name: "sk_lookup", Kernel: "5.9", NeededFor: "steering connections to the proxy"},
			func() error { return features.HaveProgramType(ebpf.SkLookup) }},
		{Feature{Name: "sockmap", Kernel: "4.14", NeededFor: "naming the proxy's sockets"},
			func() error { return features.HaveMapType(ebpf.SockMap) }},
		{Feature{Name: "mmapable_arrays", Kernel: "5.5", NeededFor: "reading services and backends without system calls"},
			func() error { return features.HaveMapFlag(features.BPF_F_MMAPABLE) }},
		{Feature{Name: "syscall_programs", Kernel: "5.14", NeededFor: "writing the sealed maps"},
			func() error { return features.HaveProgramType(ebpf.Syscall) }},
		{Feature{Name: "lpm_trie", Kernel: "4.11", NeededFor: "deny and allow lists"},
			func() error { return features.HaveMapType(ebpf.LPMTrie) }},
		{Feature{Name: "xdp", Kernel: "4.8", NeededFor: "dropping denied sources early", ReplacedBy: "kg_ingress, in tc"},
			func() error { return features.HaveProgramType(ebpf.XDP) }},
		{Feature{Name: "xdp_frags", Kernel: "5.18", NeededFor: "XDP on interfaces with large MTU", ReplacedBy: "XDP without fragments: native mode needs an MTU of about 3500 or less"},
			probeXDPFrags},
		{Feature{Name: "tcx", Kernel: "6.6", NeededFor: "L4 services, beside other programs on an interface", ReplacedBy: "filters of a clsact qdisc"},
			ProbeTCX},
	}
	out := make(Features, len(list))
	for i, f := range list {
		out[i] = f.Feature
		err := f.probe()
		out[i].Present = err == nil
		if err != nil && !errors.Is(err, ebpf.ErrNotSupported) {
			out[i].Err = err
		}
	}
	return out
}

// probeXDPFrags loads a program "return XDP_PASS" with that flag.
func probeXDPFrags() error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.XDP,
		Flags:        datapath.XDPHasFrags,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
		License:      "Dual BSD/GPL",
	})
	if err == nil {
		return p.Close()
	}
	return orUnsupported(err)
}

// ProbeTCX asks for the programs on the loopback interface's ingress.
func ProbeTCX() error {
	_, err := link.QueryPrograms(link.QueryOptions{Target: 1, Attach: ebpf.AttachTCXIngress})
	return orUnsupported(err)
}

// orUnsupported turns the kernel's "invalid argument", its word for what it does not know,
// into ErrNotSupported.
func orUnsupported(err error) error {
	if errors.Is(err, unix.EINVAL) {
		return ebpf.ErrNotSupported
	}
	return err
}
