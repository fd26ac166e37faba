package skmsg

import (
	"fmt"

	"github.com/cilium/ebpf/features"
)

// A release of the kernel, in which every patch of a series has a number.
type release struct{ version, series, patch int }

func (r release) String() string { return fmt.Sprintf("%d.%d.%d", r.version, r.series, r.patch) }

// fixed lists the first release of each series in which a pod may listen with MPTCP, as every
// server written in Go 1.24 or later does, and have its sockets in a sockmap. Before,
// accept(2) takes such a socket for one of MPTCP's and writes over its memory
// (CVE-2025-68227, "mptcp: Fix proto fallback detection with BPF"). That cannot be tried out
// without harm, so it goes by numbers. The same releases have "tcp_bpf: Charge receive socket
// buffer in bpf_tcp_ingress()" (6.13), without which memory is charged to the wrong end.
var fixed = []release{
	{5, 15, 197}, {6, 1, 159}, {6, 6, 118}, {6, 12, 60}, {6, 17, 10},
}

// firstGood is the series that had the fixes from its beginning.
var firstGood = release{6, 18, 0}

// knownBad returns why the running kernel is not to be trusted, whatever a test may say.
func knownBad() error {
	// Distributions keep 0 as the patch in what uname says; this is the real one.
	code, err := features.LinuxVersionCode()
	if err != nil {
		return fmt.Errorf("find out the kernel's version: %w", err)
	}
	return judge(release{int(code >> 16), int(code >> 8 & 0xff), int(code & 0xff)})
}

func judge(r release) error {
	if r.version > firstGood.version || r.version == firstGood.version && r.series >= firstGood.series {
		return nil
	}
	for _, f := range fixed {
		if r.version == f.version && r.series == f.series {
			if r.patch >= f.patch {
				return nil
			}
			return fmt.Errorf("Linux %v corrupts memory when a pod listens with MPTCP (CVE-2025-68227): %v has it fixed", r, f)
		}
	}
	return fmt.Errorf("Linux %v corrupts memory when a pod listens with MPTCP (CVE-2025-68227) and its series is not mended: use 6.1, 6.6, 6.12 or 6.18", r)
}
