package loader

import (
	"crypto/rand"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/state"
)

// leastBurst is the time that a bucket holds at least: the programs read a clock that goes
// on with the kernel's tick, which is 10 ms apart where it is slowest.
const leastBurst = 10 * time.Millisecond

// spend returns what one costs at a limit's rate, and the burst, in ns; see bpf/rate.h.
func spend(l state.Limit) (each, burst uint64) {
	if l.PerSecond == 0 {
		return 0, 0
	}
	each = uint64(time.Second) / uint64(min(l.PerSecond, state.MostPerSecond))
	if l.Burst == 0 {
		l.Burst = l.PerSecond
	}
	return each, max(uint64(l.Burst-1)*each, uint64(leastBurst))
}

// secret returns a value that nobody can guess.
func secret() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.NativeEndian.Uint64(b[:])
}

// limitsOf returns the limits as kg_defence holds them.
func limitsOf(want state.Defence, counted []uint32) (d abi.Defence) {
	d.PacketNS, d.PacketBurstNS = spend(want.Packets)
	d.ConnectionNS, d.ConnectionBurstNS = spend(want.Connections)
	v4, v6 := int(want.PrefixV4), int(want.PrefixV6)
	if v4 == 0 {
		v4 = 32
	}
	if v6 == 0 {
		v6 = 64
	}
	d.MaskV4, d.MaskV6 = mask(96+min(v4, 32)), mask(min(v6, 128))
	copy(d.Counted[:], counted)
	return d
}

// mask returns an address of that many ones.
func mask(bits int) (a abi.Address) {
	for i := range a.Bytes {
		a.Bytes[i] = ^byte(math.MaxUint8 >> min(max(bits-8*i, 0), 8))
	}
	return a
}

// counted returns the indices of the interfaces on which kg_xdp judges packets, so that
// kg_ingress does not count them again. Of more than kg_defence has room for, packets of the
// rest count twice.
func (d *Datapath) counted() (indices []uint32) {
	for _, a := range d.attachments {
		if a.Mode == "" || !slices.Contains(datapath.XDPPrograms, a.Program) {
			continue
		}
		if dev, err := d.net.LinkByName(a.Where); err == nil {
			indices = append(indices, uint32(dev.Attrs().Index))
		}
	}
	slices.Sort(indices)
	return indices
}

// storeDefence makes kg_defence hold the limits, for the interfaces as they are now.
func (d *Datapath) storeDefence() error {
	want := limitsOf(d.defence, d.counted())
	if want == d.limits {
		return nil
	}
	if err := d.maps.Defence.Put(0, want); err != nil {
		return err
	}
	d.limits = want
	return nil
}
