package loader

import (
	"errors"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/inspect"
)

// endWatch stops events that nobody reads any more: whoever asked for them did not come to
// say so. Until then each costs the programs a look at the time.
func (d *Datapath) endWatch() error {
	watch, err := d.maps.Watch.Get(0)
	if err != nil {
		return err
	}
	if watch.UntilNS == 0 || datapath.Monotonic() < watch.UntilNS {
		return nil
	}
	lock, err := inspect.LockWatch(d.folder)
	if errors.Is(err, inspect.ErrWatched) {
		return nil // it is back
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	return d.maps.Watch.Put(0, abi.Watch{})
}
