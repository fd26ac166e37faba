package loader

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/netnstest"
)

// listenEverywhere has a TCP and a UDP server like those of a node's own services answer "node"
// on all addresses, at the same port.
func listenEverywhere(t *testing.T, ns *netnstest.Namespace) (port uint16) {
	t.Helper()
	var listener net.Listener
	var socket net.PacketConn
	var err error
	ns.Do(func() {
		if listener, err = net.Listen("tcp", ":0"); err != nil {
			return
		}
		socket, err = net.ListenPacket("udp", listener.Addr().String())
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close(); socket.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte("node"))
			conn.Close()
		}
	}()
	go func() {
		buffer := make([]byte, 64)
		for {
			_, from, err := socket.ReadFrom(buffer)
			if err != nil {
				return
			}
			socket.WriteTo([]byte("node"), from)
		}
	}()
	return uint16(listener.Addr().(*net.TCPAddr).Port)
}

// What listens on all addresses of the node does not answer at an ingress address, unless
// that is on an interface or the option says so.
func TestClosedAddresses(t *testing.T) {
	for _, open := range []bool{false, true} {
		ns := netnstest.Enter(t)
		d := openTest(t, netnstest.BPFFS(t), func(o *Options) { o.OpenAddresses = open })
		mustApply(t, d, vips())
		port := listenEverywhere(t, ns)
		check := func(when string, closed bool) {
			t.Helper()
			for _, a := range []netip.Addr{vip4, vip6} {
				for _, network := range []string{"tcp", "udp"} {
					before := counters(t, d)
					name, err := ask(ns, network, addrPort(a, int(port)))
					grown := counters(t, d)["kg_lookup/closed"] - before["kg_lookup/closed"]
					if closed && (!errors.Is(err, unix.ECONNREFUSED) || grown == 0) {
						t.Errorf("%s, %s to %v: answered by %q, %v, %d counted; want refused", when, network, a, name, err, grown)
					}
					// The reply to a datagram may have another source, and is lost then.
					answered := err == nil && name == "node" || network == "udp" && errors.Is(err, os.ErrDeadlineExceeded)
					if !closed && (!answered || grown != 0) {
						t.Errorf("%s, %s to %v: answered by %q, %v, %d counted; want the node's service", when, network, a, name, err, grown)
					}
				}
			}
			for _, a := range []string{"127.0.0.1", "::1"} { // no ingress addresses
				if name, err := ask(ns, "tcp", addrPort(netip.MustParseAddr(a), int(port))); err != nil || name != "node" {
					t.Errorf("%s, %s: answered by %q, %v", when, a, name, err)
				}
			}
		}
		check("on no interface", !open)
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range []struct {
			do     func(netlink.Link, *netlink.Addr) error
			when   string
			closed bool
		}{{netlink.AddrAdd, "on an interface", false}, {netlink.AddrDel, "not on it any more", !open}} {
			for _, a := range []netip.Addr{vip4, vip6} {
				address := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}, Flags: unix.IFA_F_NODAD}
				if err := change.do(lo, address); err != nil {
					t.Fatal(err)
				}
			}
			reap(t, d)
			mustApply(t, d, vips()) // restores our routes
			check(change.when, change.closed)
		}
	}
}
