package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/netnstest"
	"github.com/kerngate/kerngate/loader/state"
)

func withNotrack(o *Options) { o.Notrack = true }

// A full table of tracked connections drops those to the ingress addresses, unless they
// bypass it: from this node and from elsewhere, over TCP and UDP, IPv4 and IPv6.
func TestNotrack(t *testing.T) {
	client := netnstest.Enter(t)
	node := netnstest.Enter(t)
	joinNamespaces(t, client)
	track(t)
	bpffs := netnstest.BPFFS(t)
	d := openTest(t, bpffs)
	mustApply(t, d, vips())
	p := startProxy(t, d, 1)
	if err := d.Serve(p.number); err != nil {
		t.Fatal(err)
	}
	fillTracking(t)

	reach := func() (failed []string) {
		var mu sync.Mutex
		var asked sync.WaitGroup
		for _, from := range []struct {
			name string
			ns   *netnstest.Namespace
		}{{"node", node}, {"client", client}} {
			for _, network := range []string{"tcp", "udp"} {
				for _, a := range []netip.Addr{vip4, vip6} {
					asked.Go(func() {
						if _, err := ask(from.ns, network, addrPort(a, 80)); err != nil {
							mu.Lock()
							defer mu.Unlock()
							failed = append(failed, fmt.Sprintf("%s to %v from the %s: %v", network, a, from.name, err))
						}
					})
				}
			}
		}
		asked.Wait()
		return failed
	}
	if failed := reach(); len(failed) != 8 {
		t.Fatalf("with a full table and without --notrack all 8 ways should be dropped; these were: %v", failed)
	}
	reopen := func(change ...func(*Options)) {
		t.Helper()
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d = openTest(t, bpffs, change...)
	}
	reopen(withNotrack)
	mustApply(t, d, vips())
	if failed := reach(); failed != nil {
		t.Fatalf("with --notrack: %v", failed)
	}

	// An agent that restarts leaves it in force; so does one that ends.
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if failed := reach(); failed != nil {
		t.Errorf("without an agent: %v", failed)
	}
	d = openTest(t, bpffs, withNotrack)
	if failed := reach(); failed != nil {
		t.Errorf("before the new agent's first apply: %v", failed)
	}

	// It follows the addresses: of one that is not published any more nothing is left out.
	only4 := vips()
	only4.Addresses, only4.Listeners = only4.Addresses[:1], only4.Listeners[:2]
	mustApply(t, d, only4)
	if got, want := untracked(t), []string{"192.0.2.1:80/17", "192.0.2.1:80/6"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("left out are %v, want %v", got, want)
	}
	mustApply(t, d, vips())
	if got := untracked(t); len(got) != 4 {
		t.Errorf("left out are %v, want 4 endpoints", got)
	}

	// Whoever flushes everything takes it away for a second.
	flushRuleset(t)
	if _, err := d.Reap(time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := untracked(t); len(got) != 4 {
		t.Errorf("after somebody flushed all of nf_tables, left out are %v, want 4 endpoints", got)
	}

	// Without the option it is gone, and so after uninstalling.
	reopen()
	if got := tables(t); len(got) != 0 {
		t.Errorf("tables after the option was taken away: %v", got)
	}
	reopen(withNotrack)
	mustApply(t, d, vips())
	if got := tables(t); len(got) != 1 {
		t.Errorf("tables with the option: %v", got)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Uninstall(Options{BPFFS: bpffs}); err != nil {
		t.Fatal(err)
	}
	if got := tables(t); len(got) != 0 {
		t.Errorf("tables after uninstalling: %v", got)
	}
}

// Listeners of L4 services, whose connections pods end, stay tracked.
func TestNotrackLeavesL4(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t), withNotrack)
	s := vips()
	s.Services = []state.Service{{Name: "default/db:5432", Algorithm: state.Maglev, Backends: []state.Backend{backend("10.0.0.1:5432")}}}
	s.Listeners = append(s.Listeners, state.Listener{Address: netip.AddrPortFrom(vip4, 5432), Protocol: state.TCP, Mode: state.L4, Service: "default/db:5432"})
	mustApply(t, d, s)
	for _, endpoint := range untracked(t) {
		if strings.Contains(endpoint, ":5432") {
			t.Errorf("%s goes untracked", endpoint)
		}
	}
}

// More endpoints than fit a message, and none.
func TestNotrackMany(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t), withNotrack)
	s := vips()
	for port := range uint16(1000) {
		s.Listeners = append(s.Listeners, state.Listener{Address: netip.AddrPortFrom(vip6, 1000+port), Protocol: state.TCP, Mode: state.L7})
	}
	mustApply(t, d, s)
	if got := untracked(t); len(got) != 1004 {
		t.Errorf("%d endpoints go untracked, want 1004", len(got))
	}
	mustApply(t, d, state.State{})
	if got := untracked(t); len(got) != 0 {
		t.Errorf("left over: %v", got)
	}
}

// joinNamespaces joins the test's namespace and another by a veth pair, and lets the other
// reach the ingress addresses.
func joinNamespaces(t *testing.T, other *netnstest.Namespace) {
	t.Helper()
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	other.Do(func() {
		err = netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(here.Fd()),
		})
		if err == nil {
			err = address("eth0", "198.51.100.2/24", "2001:db8:1::2/64")
		}
	})
	if err == nil {
		err = address("eth0", "198.51.100.1/24", "2001:db8:1::1/64")
	}
	if err != nil {
		t.Fatal(err)
	}
	other.Do(func() {
		for _, way := range []struct{ to, via string }{{vip4.String() + "/32", "198.51.100.1"}, {vip6.String() + "/128", "2001:db8:1::1"}} {
			to, parseErr := netlink.ParseIPNet(way.to)
			err = errors.Join(err, parseErr, netlink.RouteAdd(&netlink.Route{Dst: to, Gw: netip.MustParseAddr(way.via).AsSlice()}))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func address(device string, addresses ...string) error {
	dev, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		parsed, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		parsed.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(dev, parsed); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(dev)
}

// track has the namespace's connections tracked, as kube-proxy and network policies do.
func track(t *testing.T) {
	t.Helper()
	c := mustNFTables(t)
	table := c.AddTable(&nftables.Table{Name: "firewall", Family: nftables.TableFamilyINet})
	for name, hook := range map[string]*nftables.ChainHook{"input": nftables.ChainHookInput, "output": nftables.ChainHookOutput} {
		chain := c.AddChain(&nftables.Chain{Table: table, Name: name, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityFilter})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Ct{Register: 1, Key: expr.CtKeySTATE}, &expr.Counter{},
		}})
	}
	if err := c.Flush(); err != nil {
		t.Fatalf("have connections tracked: %v", err)
	}
}

// fillTracking fills the namespace's table with established connections, which the kernel
// does not give up for new ones.
func fillTracking(t *testing.T) {
	t.Helper()
	most := conntrackValue(t, "nf_conntrack_max")
	if most > 1<<20 {
		t.Fatalf("nf_conntrack_max is %d, too many to fill in a test", most)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var batch []byte
	for n := range uint32(most + 100) {
		batch = append(batch, trackedFlow(n)...)
		if len(batch) < 100<<10 && int(n) != most+99 {
			continue
		}
		if err := unix.Sendto(fd, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			t.Fatalf("add tracked connections: %v", err)
		}
		batch = batch[:0]
		for buffer := make([]byte, 64<<10); ; { // answers: errors, once the table is full
			if _, _, err := unix.Recvfrom(fd, buffer, unix.MSG_DONTWAIT); err != nil {
				break
			}
		}
	}
	if count := conntrackValue(t, "nf_conntrack_count"); count < most {
		t.Fatalf("the table holds %d connections after filling it, of %d", count, most)
	}
}

func conntrackValue(t *testing.T, name string) int {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/netfilter/" + name)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// trackedFlow is a message that adds UDP flow n, answered and assured, for ten minutes.
func trackedFlow(n uint32) []byte {
	const status = 1<<1 | 1<<2 | 1<<3 // IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED
	client, server := binary.BigEndian.AppendUint32(nil, 100<<24|n), []byte{198, 18, 0, 1}
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_NEW, unix.NLM_F_CREATE)
	r.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET})
	r.AddData(tuple(nl.CTA_TUPLE_ORIG, client, server, 4000, 53))
	r.AddData(tuple(nl.CTA_TUPLE_REPLY, server, client, 53, 4000))
	r.AddData(nl.NewRtAttr(nl.CTA_STATUS, binary.BigEndian.AppendUint32(nil, status)))
	r.AddData(nl.NewRtAttr(nl.CTA_TIMEOUT, binary.BigEndian.AppendUint32(nil, 600)))
	return r.Serialize()
}

func tuple(kind int, from, to []byte, fromPort, toPort uint16) *nl.RtAttr {
	const nested = unix.NLA_F_NESTED
	t := nl.NewRtAttr(kind|nested, nil)
	ip := t.AddRtAttr(nl.CTA_TUPLE_IP|nested, nil)
	ip.AddRtAttr(nl.CTA_IP_V4_SRC, from)
	ip.AddRtAttr(nl.CTA_IP_V4_DST, to)
	proto := t.AddRtAttr(nl.CTA_TUPLE_PROTO|nested, nil)
	proto.AddRtAttr(nl.CTA_PROTO_NUM, []byte{unix.IPPROTO_UDP})
	proto.AddRtAttr(nl.CTA_PROTO_SRC_PORT, binary.BigEndian.AppendUint16(nil, fromPort))
	proto.AddRtAttr(nl.CTA_PROTO_DST_PORT, binary.BigEndian.AppendUint16(nil, toPort))
	return t
}

// untracked returns what goes untracked, as the kernel has it: address, port and protocol.
func untracked(t *testing.T) (out []string) {
	t.Helper()
	c := mustNFTables(t)
	table := &nftables.Table{Name: "kerngate", Family: nftables.TableFamilyINet}
	for _, name := range []string{"endpoints4", "endpoints6"} {
		elements, err := c.GetSetElements(&nftables.Set{Table: table, Name: name})
		if err != nil {
			t.Fatalf("read set %s: %v", name, err)
		}
		for _, e := range elements {
			rest := len(e.Key) - 8
			a, _ := netip.AddrFromSlice(e.Key[:rest])
			port := binary.BigEndian.Uint16(e.Key[rest+4:])
			out = append(out, fmt.Sprintf("%v/%d", netip.AddrPortFrom(a, port), e.Key[rest]))
		}
	}
	slices.Sort(out)
	return out
}

// tables returns the tables of ours.
func tables(t *testing.T) (out []string) {
	t.Helper()
	all, err := mustNFTables(t).ListTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range all {
		if strings.HasPrefix(table.Name, "kerngate") {
			out = append(out, table.Name)
		}
	}
	return out
}

func flushRuleset(t *testing.T) {
	t.Helper()
	c := mustNFTables(t)
	c.FlushRuleset()
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
}

func mustNFTables(t *testing.T) *nftables.Conn {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	return c
}
