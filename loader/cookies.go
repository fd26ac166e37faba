package loader

import (
	"time"

	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/datapath"
)

// SynCookies says when SYNs to the proxies are answered by cookies in kg_xdp or kg_ingress, so
// that neither memory nor the stack's time is spent on them.
type SynCookies string

const (
	// SynCookiesAuto: when SYNs come faster than Options.SynRate, and the queue of the
	// listening socket is full.
	SynCookiesAuto SynCookies = "auto"
	// SynCookiesAlways: when the queue is full, however slowly they come.
	SynCookiesAlways SynCookies = "always"
	SynCookiesOff    SynCookies = "off"
)

// DefaultSynRate is what honest clients hardly ever send to one CPU. It need not be exact:
// nothing happens as long as the queue has room.
const DefaultSynRate = 2000

// floodEnds is how long after the last sign of a flood kg_ingress stays where it is attached
// for that alone.
const floodEnds = time.Minute

// flood follows what kg_xdp, kg_xdp_guard and kg_ingress count of SYNs.
type flood struct {
	table    datapath.PerCPU[abi.Syns]
	counters datapath.PerCPU[uint64]
	log      zerolog.Logger
	until    time.Time // zero: there is none
	sent     uint64    // cookies, when last looked
	began    time.Time
	total    uint64 // of this flood
}

// look reports whether SYNs come too fast, or did within the last minute. uptime is
// CLOCK_MONOTONIC.
func (f *flood) look(now time.Time, uptime uint64) (bool, error) {
	cpus, err := f.table.Get(0)
	if err != nil {
		return false, err
	}
	var doubted bool
	for _, c := range cpus {
		doubted = doubted || c.DoubtedNS > uptime
	}
	sent, err := f.cookies()
	if err != nil {
		return false, err
	}
	answered := sent - f.sent
	f.sent = sent
	if doubted || answered > 0 {
		f.until = now.Add(floodEnds)
	}
	if answered > 0 {
		if f.total += answered; f.began.IsZero() {
			f.began = now
			f.log.Warn().Uint64("cookies", answered).Msg("more connections begin than the proxy can take: SYNs are answered by cookies")
		}
	}
	if f.until.IsZero() || now.Before(f.until) {
		return !f.until.IsZero(), nil
	}
	if !f.began.IsZero() {
		f.log.Info().Uint64("cookies", f.total).Dur("lasted", now.Sub(f.began)-floodEnds).Msg("no more SYNs are answered by cookies")
	}
	f.until, f.began, f.total = time.Time{}, time.Time{}, 0
	return false, nil
}

// cookies returns how many have been sent.
func (f *flood) cookies() (sent uint64, err error) {
	for _, reason := range []uint32{abi.ReasonXDPCookieSent, abi.ReasonIngressCookieSent} {
		cpus, err := f.counters.Get(reason)
		if err != nil {
			return 0, err
		}
		for _, n := range cpus {
			sent += n
		}
	}
	return sent, nil
}

// synDoubt is kg_syn_doubt of bpf/config.h: SYNs in a tenth of a second.
func (o *Options) synDoubt() uint32 {
	if o.SynCookies == SynCookiesAlways {
		return 0
	}
	return uint32(o.SynRate / 10)
}

// Headers of a packet without options, and what every host takes in a segment.
const (
	headersV4 = 20 + 20
	headersV6 = 40 + 20
	leastMTU  = 576
)

// segmentSizes returns what an answer may offer: the greatest segment that fits through the
// smallest of the uplinks.
func (o *Options) segmentSizes() (v4, v6 uint16) {
	mtu := 1500
	for _, name := range o.Interfaces {
		if dev, err := netlink.LinkByName(name); err == nil {
			mtu = min(mtu, max(leastMTU, dev.Attrs().MTU))
		}
	}
	return uint16(mtu - headersV4), uint16(mtu - headersV6)
}
