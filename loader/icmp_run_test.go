package loader

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/netnstest"
)

// A datagram that its sender had to send in pieces is quoted with a fragment header, which stands
// between the quoted IPv6 header and the ports. Who sent it must hear of the error.
func TestICMPAboutFragments(t *testing.T) {
	d := openL4(t)
	mustApply(t, d, l4State(backends4, backends6))
	router := netip.MustParseAddr("2001:db8:9::9")
	// quote returns what is quoted of a fragment; offset counts 8 bytes.
	quote := func(from, to netip.AddrPort, protocol uint8, offset uint16) []byte {
		p := flowPacket{from: from, to: to, protocol: protocol, flags: ack, payload: make([]byte, 40),
			before: [][]byte{fragment6(protocol, offset)}, first: 44}
		return p.bytes()[14:]
	}
	for hook, pass := range hooks {
		for _, protocol := range []uint8{6, 17} {
			p := packetTo(client6, 31000+uint16(len(hook)), protocol)
			_, out := run(t, d, hook, p.bytes())
			chosen := netip.MustParseAddrPort(translated(t, p, out, backends6))

			in := icmpError(router, p.to.Addr(), 2, 0, 1280, quote(p.to, p.from, protocol, 0))
			want := icmpError(router, chosen.Addr(), 2, 0, 1280, quote(chosen, p.from, protocol, 0))
			before := counters(t, d)
			verdict, got := run(t, d, hook, in)
			sameICMP(t, got, want, protocol)
			if verdict != pass {
				t.Errorf("%s: verdict %d", hook, verdict)
			}
			expectCounters(t, d, before, map[string]uint64{hook + "/l4_icmp": 1})

			in = icmpError(router, p.from.Addr(), 2, 0, 1280, quote(p.from, chosen, protocol, 0))
			want = icmpError(router, p.from.Addr(), 2, 0, 1280, quote(p.from, p.to, protocol, 0))
			before = counters(t, d)
			_, got = run(t, d, "kg_egress", in)
			sameICMP(t, got, want, protocol)
			expectCounters(t, d, before, map[string]uint64{"kg_egress/l4_icmp": 1})

			// What is at the place of the ports in a later fragment is data.
			in = icmpError(router, p.to.Addr(), 2, 0, 1280, quote(p.to, p.from, protocol, 5))
			if _, got := run(t, d, hook, in); !bytes.Equal(in, got) {
				t.Errorf("%s: an error about a later fragment was changed", hook)
			}
		}
	}
}

// Frames to another host, which a promiscuous interface shows, are none of ours: no flow is
// opened, no source counted, no packet changed.
func TestFramesOfOtherHosts(t *testing.T) {
	d := openL4(t)
	s := l4State(backends4, backends6)
	s.Deny = []netip.Prefix{netip.MustParsePrefix("198.18.66.0/24")}
	mustApply(t, d, s)
	for _, client := range []netip.Addr{client4, client6, netip.MustParseAddr("198.18.66.1")} {
		p := packetTo(client, 20100, 6).bytes()
		copy(p, []byte{2, 0, 0, 0, 0, 1}) // the loopback interface, where it is run, has zeroes
		before := counters(t, d)
		if verdict, out := run(t, d, "kg_ingress", p); verdict != tcPass || !bytes.Equal(p, out) {
			t.Errorf("%v: verdict %d, %x became %x", client, verdict, p, out)
		}
		expectCounters(t, d, before, map[string]uint64{"kg_ingress/not_ours": 1})
	}
	for _, table := range []string{"kg_flows", "kg_opening"} {
		var key, value []byte
		for entries := d.maps.ByName(table).Iterate(); entries.Next(&key, &value); {
			t.Errorf("%s has %x", table, key)
		}
	}
}

// ICMP works at a closed address as anywhere: who asks whether it is alive is answered, and
// the kernel hears what a router says about packets of the proxies.
func TestICMPToClosedAddresses(t *testing.T) {
	ns := netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	mustApply(t, d, vips())
	for _, c := range []struct {
		client, vip, router netip.Addr
		echo, big, code     byte
	}{
		{client4, vip4, netip.MustParseAddr("198.18.9.9"), 8, 3, 4},
		{client6, vip6, netip.MustParseAddr("2001:db8:9::9"), 128, 2, 0},
	} {
		sent := flowPacket{from: netip.AddrPortFrom(c.vip, 80), to: netip.AddrPortFrom(c.client, 40000), protocol: 6, flags: ack, payload: make([]byte, 40)}
		for name, packet := range map[string][]byte{
			"echo request": icmpError(c.client, c.vip, c.echo, 0, 1<<16|1, []byte("are you there?")),
			"too big":      icmpError(c.router, c.vip, c.big, c.code, 1280, sent.bytes()[14:82]),
		} {
			for _, hook := range []struct {
				program, counts string
				pass            uint32
			}{{"kg_xdp", "kg_xdp", xdpPass}, {"kg_xdp_guard", "kg_xdp", xdpPass}, {"kg_ingress", "kg_ingress", tcPass}} {
				before := counters(t, d)
				if verdict, out := run(t, d, hook.program, packet); verdict != hook.pass || !bytes.Equal(packet, out) {
					t.Errorf("%s, %s to %v: verdict %d, %x became %x", hook.program, name, c.vip, verdict, packet, out)
				}
				expectCounters(t, d, before, map[string]uint64{hook.counts + "/passed": 1})
			}
		}
		if err := ping(ns, c.vip); err != nil {
			t.Errorf("ping %v: %v", c.vip, err)
		}
	}
	if n := counters(t, d)["kg_lookup/closed"]; n != 0 {
		t.Errorf("kg_lookup refused %d packets of ICMP", n)
	}
}

// ping sends an echo request from a namespace, and waits for the answer.
func ping(ns *netnstest.Namespace, to netip.Addr) (err error) {
	family, protocol, request, reply := unix.AF_INET, unix.IPPROTO_ICMP, byte(8), byte(0)
	var address unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte(to.AsSlice()[:4])}
	if to.Is6() {
		family, protocol, request, reply = unix.AF_INET6, unix.IPPROTO_ICMPV6, 128, 129
		address = &unix.SockaddrInet6{Addr: to.As16()}
	}
	ns.Do(func() {
		var fd int
		if fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol); err != nil {
			return
		}
		defer unix.Close(fd)
		message := []byte{request, 0, 0, 0, 0, 42, 0, 1}
		if to.Is4() {
			binary.BigEndian.PutUint16(message[2:], ^sum(message))
		}
		if err = unix.Sendto(fd, message, 0, address); err != nil {
			return
		}
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
		buffer := make([]byte, 512)
		for err == nil {
			var n int
			if n, _, err = unix.Recvfrom(fd, buffer, 0); err != nil {
				return
			}
			answer := buffer[:n]
			if to.Is4() {
				answer = answer[20:]
			}
			if len(answer) >= 8 && answer[0] == reply && answer[5] == 42 {
				return
			}
		}
	})
	return err
}
