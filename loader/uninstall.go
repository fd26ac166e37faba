package loader

import (
	"github.com/kerngate/kerngate/loader/attach"
	"github.com/kerngate/kerngate/loader/pins"
)

// Uninstall takes away everything that Kerngate made in this network namespace and under
// Options.BPFFS: attached programs, maps, pins, local routes and the table of --notrack. Nothing
// to take away is no error. It refuses while an agent runs.
func Uninstall(o Options) error {
	o, err := o.complete()
	if err != nil {
		return err
	}
	if err := attach.Uninstall(o.BPFFS, removeNotrack); err != nil {
		return err // perhaps an agent runs: its mark stays
	}
	return pins.Remove(o.BPFFS + drainMark)
}
