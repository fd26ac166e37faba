package main

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader"
	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/userspace/look/status"
)

// describer returns what the agent's status says of the node, the kernel and the flags.
func describer(o *options, d *loader.Datapath) func() status.Status {
	kernel := kernelRelease()
	return func() status.Status {
		s := status.Status{
			Version:    version,
			GoVersion:  runtime.Version(),
			MapABI:     abi.ABI,
			PID:        os.Getpid(),
			Node:       o.flags.nodeName,
			Class:      o.flags.ingressClass,
			BPFFS:      d.Folder(),
			Kernel:     kernel,
			AccessLog:  o.flags.accessLog,
			ConfigFile: o.flags.config,
			Attached:   []status.Attachment{},
			Features:   []status.Feature{},
			Maps:       []status.Map{},
		}
		for _, a := range d.Attachments() {
			s.Attached = append(s.Attached, status.Attachment(a))
		}
		for _, f := range d.Features() {
			s.Features = append(s.Features, status.Feature{Name: f.Name, Present: f.Present, NeededFor: f.NeededFor, ReplacedBy: f.ReplacedBy})
		}
		s.Fabric = describeFabric(o, d)
		for _, m := range d.Memory() {
			s.Maps = append(s.Maps, status.Map(m))
		}
		return s
	}
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
