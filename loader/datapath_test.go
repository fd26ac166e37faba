package loader

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/kerngate/kerngate/loader/inspect"
	"github.com/kerngate/kerngate/loader/netnstest"
	"github.com/kerngate/kerngate/loader/state"
)

// openTest opens a datapath in the test's namespace.
func openTest(t testing.TB, bpffs string, change ...func(*Options)) *Datapath {
	t.Helper()
	o := Options{
		BPFFS:       filepath.Join(bpffs, "kerngate"),
		MaxServices: 64, MaxBackends: 256, MaxSlots: 1024, MaxPrefixes: 64, MaxFlows: 4096,
		Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel),
	}
	for _, f := range change {
		f(&o)
	}
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func mustApply(t testing.TB, d *Datapath, s state.State) Report {
	t.Helper()
	r, err := d.Apply(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func backend(address string) state.Backend {
	return state.Backend{Address: netip.MustParseAddrPort(address), Protocol: state.TCP}
}

func listener(address string) state.Listener {
	return state.Listener{Address: netip.MustParseAddrPort(address), Protocol: state.TCP, Mode: state.L7}
}

func TestOpenAndInspect(t *testing.T) {
	netnstest.Enter(t)
	bpffs := netnstest.BPFFS(t)
	d := openTest(t, bpffs)
	want := state.State{
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		Listeners: []state.Listener{listener("192.0.2.1:80"), listener("[2001:db8::1]:80")},
		Services: []state.Service{
			{Name: "a/intro:80", Backends: []state.Backend{backend("10.0.0.1:8080"), backend("10.0.0.2:8080")}},
			{Name: "a/info:http", Algorithm: state.RoundRobin, Backends: []state.Backend{backend("10.0.0.2:8080"), backend("[fd00::1]:8080")}},
		},
		Deny:  []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:bad::/48")},
		Allow: []netip.Prefix{netip.MustParsePrefix("198.51.100.7/32")},
	}
	mustApply(t, d, want)
	if r := mustApply(t, d, want); r != (Report{}) {
		t.Errorf("the same state again changed something: %+v", r)
	}

	i, err := inspect.Open(filepath.Join(bpffs, "kerngate"))
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	services, err := i.Services()
	if err != nil {
		t.Fatal(err)
	}
	if len(services) != 2 || services[0].Name != "a/intro:80" || services[1].Name != "a/info:http" {
		t.Fatalf("services %+v", services)
	}
	if b := i.Backends(); len(b) != 3 || b[1].Address.String() != "10.0.0.2:8080" {
		t.Errorf("backends %+v, want three, one of them shared", b)
	}
	if services[0].Backends[1] != services[1].Backends[0] {
		t.Errorf("the shared backend has two ids: %v %v", services[0].Backends, services[1].Backends)
	}
	deny, allow, err := i.Prefixes()
	if err != nil || len(deny) != 2 || len(allow) != 1 || deny[0].Prefix != want.Deny[0] {
		t.Errorf("prefixes %v %v %v", deny, allow, err)
	}
	if l, err := i.Listeners(); err != nil || len(l) != 2 || l[1] != want.Listeners[1] {
		t.Errorf("listeners %v %v", l, err)
	}
}

func TestNotOnBPFFS(t *testing.T) {
	netnstest.RequireCapabilities(t)
	_, err := Open(Options{BPFFS: filepath.Join(t.TempDir(), "kerngate")})
	if err == nil || !strings.Contains(err.Error(), "name a folder on one, such as /sys/fs/bpf/kerngate") {
		t.Errorf("error %v does not say where a bpf file system is", err)
	}
}

func TestUninstallLeavesNothing(t *testing.T) {
	netnstest.Enter(t)
	bpffs := netnstest.BPFFS(t)
	d := openTest(t, bpffs)
	mustApply(t, d, state.State{
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		Listeners: []state.Listener{listener("192.0.2.1:80")},
	})
	o := Options{BPFFS: filepath.Join(bpffs, "kerngate")}
	if err := Uninstall(o); err == nil {
		t.Error("uninstalled under a running agent")
	}
	// Refused, it has touched nothing: without the routes the agent would serve nobody.
	if a := ourRoutes(t); len(a) != 2 {
		t.Errorf("the running agent is left with routes to %v", a)
	}
	d.Close()
	if err := Uninstall(o); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(bpffs, "kerngate*")); len(left) > 0 {
		t.Errorf("left in bpffs: %v", left)
	}
	if a := ourRoutes(t); len(a) > 0 {
		t.Errorf("left routes to %v", a)
	}
	if n := lookupsHere(t); n > 0 {
		t.Errorf("left %d kg_lookup attached", n)
	}
	if err := Uninstall(o); err != nil {
		t.Errorf("uninstalling nothing: %v", err)
	}
}
