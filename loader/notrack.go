package loader

import (
	"errors"
	"fmt"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/notrack"
	"github.com/kerngate/kerngate/loader/state"
)

// openNotrack returns the table of connections that go untracked, or takes it away if there is
// to be none. A kernel that cannot do it is an error: whoever asks for it has a reason.
func openNotrack(on bool, log zerolog.Logger) (_ *notrack.Table, err error) {
	if !on {
		// What cannot be looked at does not keep an agent from serving.
		if err := removeNotrack(); err != nil {
			log.Warn().Err(err).Msg("cannot see whether connections bypass connection tracking since --notrack was on")
		}
		return nil, nil
	}
	t, err := notrack.Open()
	if err == nil {
		err = t.Probe()
	}
	if err != nil {
		if t != nil {
			t.Close()
		}
		return nil, fmt.Errorf("--notrack: %w", err)
	}
	return t, nil
}

// removeNotrack takes the table away, which is no error if there is none.
func removeNotrack() error {
	t, err := notrack.Open()
	if errors.Is(err, unix.EPROTONOSUPPORT) { // a kernel without netfilter
		return nil
	}
	if err != nil {
		return err
	}
	_, err = t.Remove()
	return errors.Join(err, t.Close())
}

// applyNotrack lets what the proxy serves go untracked.
func (d *Datapath) applyNotrack(listeners []state.Listener) (added, removed int, err error) {
	if d.untrack == nil {
		return 0, 0, nil
	}
	var want []notrack.Endpoint
	for _, l := range listeners {
		if l.Mode == state.L7 && l.Address.IsValid() {
			want = append(want, notrack.Endpoint{Address: l.Address, Protocol: uint8(l.Protocol)})
		}
	}
	return d.untrack.Apply(want)
}

// restoreNotrack makes the table again after somebody flushed all of nf_tables.
func (d *Datapath) restoreNotrack() error {
	if d.untrack == nil {
		return nil
	}
	restored, err := d.untrack.Restore()
	if restored {
		d.log.Warn().Msg("the table inet kerngate of --notrack was gone, perhaps by `nft flush ruleset`; made again")
	}
	return err
}
