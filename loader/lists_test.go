package loader

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/lists"
	"github.com/kerngate/kerngate/loader/netnstest"
	"github.com/kerngate/kerngate/loader/pins"
	"github.com/kerngate/kerngate/loader/state"
)

func mustLists(t *testing.T, d *Datapath) *lists.Lists {
	t.Helper()
	l, err := lists.Open(d.Folder())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// onList returns what is on a list, each as "prefix/source bits".
func onList(t *testing.T, l *lists.Lists, list lists.List) string {
	t.Helper()
	entries, err := l.Entries(list)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, fmt.Sprintf("%v=%d", e.Prefix, e.Source))
	}
	return strings.Join(out, " ")
}

func parsed(texts ...string) (out []netip.Prefix) {
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// What configuration and operator declare comes and goes without the other's, over restarts of
// the agent too.
func TestListsHaveTwoOwners(t *testing.T) {
	netnstest.Enter(t)
	bpffs := netnstest.BPFFS(t)
	d := openTest(t, bpffs)
	l := mustLists(t, d)
	change := func(do func(lists.List, []netip.Prefix) (int, error), want int, prefixes ...string) {
		t.Helper()
		if n, err := do(lists.Deny, parsed(prefixes...)); err != nil || n != want {
			t.Errorf("%v: %d changed, %v; want %d", prefixes, n, err, want)
		}
	}
	check := func(want string) {
		t.Helper()
		if got := onList(t, l, lists.Deny); got != want {
			t.Errorf("kg_deny holds %q, want %q", got, want)
		}
	}
	s := state.State{Deny: parsed("192.0.2.0/24", "2001:db8::/32")}
	mustApply(t, d, s)
	// One that lies within another is one of its own.
	change(l.Add, 2, "192.0.2.0/24", "192.0.2.0/28")
	change(l.Add, 0, "192.0.2.0/24", "192.0.2.0/28")
	check("192.0.2.0/24=3 192.0.2.0/28=2 2001:db8::/32=1")

	d.Close()
	d = openTest(t, bpffs)
	s.Deny = s.Deny[1:]
	mustApply(t, d, s) // configuration takes one back that an operator has added too
	check("192.0.2.0/24=2 192.0.2.0/28=2 2001:db8::/32=1")
	change(l.Remove, 0, "2001:db8::/32", "192.0.2.0/25")
	change(l.Remove, 1, "192.0.2.0/28")
	s.Deny = parsed("192.0.2.0/24")
	mustApply(t, d, s)
	change(l.Remove, 1, "192.0.2.0/24")
	check("192.0.2.0/24=1")
	mustApply(t, d, state.State{})
	check("")
}

// An added prefix is in force when Add has returned, and out of force after Remove.
func TestListsAreInForce(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	l := mustLists(t, d)
	mustApply(t, d, vips())
	source := netip.MustParseAddr("203.0.113.8")
	packet := build(ether(0x0800), ip4(source, vip4, 6, nil, 0), tcp())
	verdict := func(want uint32) {
		t.Helper()
		if got := runXDP(t, d, packet); got != want {
			t.Errorf("verdict %d, want %d", got, want)
		}
	}
	do := func(change func(lists.List, []netip.Prefix) (int, error), list lists.List, prefix string) {
		t.Helper()
		if n, err := change(list, parsed(prefix)); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	verdict(xdpPass)
	do(l.Add, lists.Deny, "203.0.113.0/24")
	verdict(xdpDrop)
	do(l.Add, lists.Allow, "203.0.113.8/32")
	verdict(xdpPass)
	do(l.Remove, lists.Allow, "203.0.113.8/32")
	verdict(xdpDrop)
	do(l.Remove, lists.Deny, "203.0.113.0/24")
	verdict(xdpPass)
}

func TestFullList(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t), func(o *Options) { o.MaxPrefixes = 8 })
	l := mustLists(t, d)
	var many []netip.Prefix
	for i := range 20 {
		many = append(many, netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(i), 0, 1}), 32))
	}
	n, err := l.Add(lists.Deny, many)
	var full *FullError
	if n != 8 || !errors.As(err, &full) || full.Flag != "--max-prefixes" || !strings.Contains(err.Error(), "100.8.0.1/32") || !strings.Contains(err.Error(), "9 further prefixes") {
		t.Errorf("%d added, %v", n, err)
	}
	if n, err := l.Remove(lists.Deny, many); n != 8 || err != nil {
		t.Errorf("%d removed, %v", n, err)
	}
}

// Operators and the agent change the lists at once, and none undoes what another did.
func TestListsTogether(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t), func(o *Options) { o.MaxPrefixes = 256 })
	shared := parsed("198.51.100.0/24", "198.51.100.0/25", "198.51.100.0/26")
	d.lists.Wait = time.Minute // a busy machine gives the agent its turn late
	var operators sync.WaitGroup
	for id := range 3 {
		l := mustLists(t, d)
		l.Wait = time.Minute
		t.Cleanup(operators.Wait)
		own := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(id), 0, 0}), 16)
		operators.Go(func() {
			for range 10 {
				if _, err := l.Add(lists.Deny, append(parsed("198.51.100.0/27"), own)); err != nil {
					t.Error(err)
				}
				if _, err := l.Remove(lists.Deny, []netip.Prefix{own}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 20 {
		mustApply(t, d, state.State{Deny: shared[:1+i%3]})
	}
	operators.Wait()
	mustApply(t, d, state.State{Deny: shared[:2]})
	if got, want := onList(t, mustLists(t, d), lists.Deny), "198.51.100.0/24=1 198.51.100.0/25=1 198.51.100.0/27=2"; got != want {
		t.Errorf("kg_deny holds %q, want %q", got, want)
	}
}

// An operator's process that hangs with the lock delays the agent's lists, and nothing else.
func TestListsLockedByOther(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	d.lists.Wait = 20 * time.Millisecond
	dir, err := os.Open(filepath.Join(d.Folder(), pins.ListsLock))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	s := vips()
	s.Deny = append(s.Deny, parsed("198.51.100.0/24")...)
	if _, err := d.Apply(s); err == nil || !strings.Contains(err.Error(), "kerngatectl that hangs") {
		t.Errorf("error %v", err)
	}
	var listener abi.Listener
	key := abi.MakeListenerKey(netip.AddrPortFrom(vip4, 80), 6)
	if err := d.maps.Listeners.Map().Lookup(&key, &listener); err != nil {
		t.Errorf("the listener is not published: %v", err)
	}
	dir.Close()
	mustApply(t, d, s)
	if got := onList(t, mustLists(t, d), lists.Deny); !strings.Contains(got, "198.51.100.0/24=1") {
		t.Errorf("kg_deny holds %q", got)
	}
}
