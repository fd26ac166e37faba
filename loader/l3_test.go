package loader

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/netnstest"
	"github.com/kerngate/kerngate/loader/state"
)

// tunnel is a tun device of which a test holds the other end: packets there are bare, as they are
// on WireGuard, ipip and GRE.
type tunnel struct {
	t testing.TB
	f *os.File
}

// newTunnel makes a device and routes the prefixes to it.
func newTunnel(t testing.TB, name string, prefixes ...string) tunnel {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open /dev/net/tun: %v", err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		t.Fatalf("make %s: %v", name, err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { f.Close() })
	dev, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(dev)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range prefixes {
		prefix, err := netlink.ParseIPNet(p)
		if err == nil {
			err = netlink.RouteAdd(&netlink.Route{LinkIndex: dev.Attrs().Index, Dst: prefix})
		}
		if err != nil {
			t.Fatalf("route %s to %s: %v", p, name, err)
		}
	}
	return tunnel{t, f}
}

func (d tunnel) send(packet []byte) {
	d.t.Helper()
	if _, err := d.f.Write(packet); err != nil {
		d.t.Fatal(err)
	}
}

// expect reads until a packet comes that is this one but for its hop count, and the IPv4 header's
// checksum, which holds that.
func (d tunnel) expect(what string, want []byte) {
	d.t.Helper()
	buffer := make([]byte, 2048)
	var last []byte
	d.f.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		n, err := d.f.Read(buffer)
		if err != nil {
			d.t.Errorf("%s did not come: %v; last came\n%x, want\n%x", what, err, last, want)
			return
		}
		got := bytes.Clone(buffer[:n])
		if got[0]>>4 == 4 {
			got[8]++
			binary.BigEndian.PutUint16(got[10:], 0)
			binary.BigEndian.PutUint16(got[10:], ^sum(got[:20]))
		} else {
			got[7]++
		}
		if bytes.Equal(got, want) {
			return
		}
		last = got
	}
}

// bare is a packet without its Ethernet header.
func bare(p flowPacket) []byte { return p.bytes()[14:] }

// On an uplink without a link layer packets are denied, limited, sent to pods and given the ingress
// address back as on others.
func TestBareUplink(t *testing.T) {
	netnstest.Enter(t)
	for _, name := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := os.WriteFile("/proc/sys/net/"+name, []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
	uplink := newTunnel(t, "up0", "198.18.0.0/15", "2001:db8:c::/48")
	pods := newTunnel(t, "pods0", "10.0.0.0/24", "fd00::/64")
	d := openTest(t, netnstest.BPFFS(t), func(o *Options) { o.MaxSlots, o.Interfaces = 16384, []string{"up0"} })
	s := l4State([]string{"10.0.0.1:5432"}, []string{"[fd00::1]:5432"})
	s.Deny = []netip.Prefix{netip.MustParsePrefix("198.19.0.0/16"), netip.MustParsePrefix("2001:db8:c:d::/64")}
	mustApply(t, d, s)
	expectTC(t, "a tun device", "up0", true, "kg_ingress_l3")
	expectTC(t, "a tun device", "up0", false, "kg_egress_l3")
	for _, c := range []struct {
		client, denied netip.Addr
		backend        string
	}{
		{client4, netip.MustParseAddr("198.19.0.7"), "10.0.0.1:5432"},
		// What would pass for the type and the tag of an Ethernet header.
		{netip.MustParseAddr("198.18.8.0"), netip.MustParseAddr("198.19.129.0"), "10.0.0.1:5432"},
		{client6, netip.MustParseAddr("2001:db8:c:d::7"), "[fd00::1]:5432"},
	} {
		for _, protocol := range []uint8{6, 17} {
			before := counters(t, d)
			p := packetTo(c.client, 4000, protocol)
			uplink.send(bare(p))
			want := p
			want.to = netip.MustParseAddrPort(c.backend)
			pods.expect("the packet", bare(want))

			reply := flowPacket{from: want.to, to: p.from, protocol: protocol, flags: syn | ack, payload: []byte("answer")}
			pods.send(bare(reply))
			reply.from = p.to
			uplink.expect("the reply", bare(reply))

			p.from = netip.AddrPortFrom(c.denied, 4000)
			uplink.send(bare(p))
			expectGrowth(t, d, before, map[string]uint64{"kg_ingress/l4_new": 1, "kg_egress/l4_reply": 1, "kg_ingress/denied": 1})
		}
	}

	// A limit on what one source may send.
	s.Defence = state.Defence{Packets: state.Limit{PerSecond: 1, Burst: 5}}
	mustApply(t, d, s)
	before := counters(t, d)
	for range 30 {
		p := packetTo(netip.MustParseAddr("198.18.0.99"), 4000, 6)
		uplink.send(bare(p))
	}
	deadline := time.Now().Add(10 * time.Second)
	for counters(t, d)["kg_ingress/rate_packets"]-before["kg_ingress/rate_packets"] < 10 {
		if time.Now().After(deadline) {
			t.Fatal("a source that sends too much is not limited")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// expectGrowth waits until counters have grown so far at least.
func expectGrowth(t testing.TB, d *Datapath, before, grown map[string]uint64) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		now := counters(t, d)
		missing := ""
		for name, n := range grown {
			if now[name]-before[name] < n {
				missing = name
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("counter %s grew by %d, want %d", missing, now[missing]-before[missing], grown[missing])
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
