package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader"
	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/netnstest"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/look/explain"
)

// TestReadsRealMaps loads the real programs, publishes, and reads everything back by way
// of the pins, as kerngatectl does on a node whose agent is gone.
func TestReadsRealMaps(t *testing.T) {
	netnstest.Enter(t)
	bpffs := filepath.Join(netnstest.BPFFS(t), "kerngate")
	d, err := loader.Open(loader.Options{BPFFS: bpffs, MaxServices: 64, MaxBackends: 64, MaxSlots: 256, MaxPrefixes: 16, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { loader.Uninstall(loader.Options{BPFFS: bpffs, Log: zerolog.Nop()}) })
	backend := func(address string) state.Backend {
		return state.Backend{Address: netip.MustParseAddrPort(address), Protocol: state.TCP}
	}
	local := backend("10.0.1.5:8080")
	local.Local = true
	vip := netip.MustParseAddr("192.0.2.10")
	_, err = d.Apply(state.State{
		Addresses: []netip.Addr{vip},
		Listeners: []state.Listener{{Address: netip.AddrPortFrom(vip, 80), Protocol: state.TCP, Mode: state.L7}},
		Services: []state.Service{
			{Name: "shop/info:http", Backends: []state.Backend{local, backend("10.0.2.7:8080")}},
			{Name: "shop/none:80", Algorithm: state.RoundRobin},
		},
		Deny: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:bad::/48")},
	})
	if err != nil {
		t.Fatal(err)
	}
	number, err := d.StartGeneration(1)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Listen(fd, 8); err != nil {
		t.Fatal(err)
	}
	if err := d.PlaceSockets(number, 0, abi.SocketTCP4, fd); err != nil {
		t.Fatal(err)
	}
	if err := d.Serve(number); err != nil {
		t.Fatal(err)
	}
	d.Close() // the agent is gone; the maps are not

	m, err := readMaps(bpffs)
	if err != nil {
		t.Fatal(err)
	}
	if m.ABI != abi.ABI || m.Serving != number {
		t.Errorf("meta: %+v", m)
	}
	if len(m.Listeners) != 1 || m.Listeners[0].Address.String() != "192.0.2.10:80" || m.Listeners[0].Protocol != "TCP" || m.Listeners[0].Mode != "L7" {
		t.Errorf("listeners %+v", m.Listeners)
	}
	if len(m.Generations) != 1 || m.Generations[0].State != "serving" || len(m.Generations[0].Workers) != 1 || m.Generations[0].Workers[0].Sockets != 1 {
		t.Errorf("generations %+v", m.Generations)
	}
	i := slices.IndexFunc(m.Backends, func(b explain.Backend) bool { return b.Address.String() == "10.0.1.5:8080" })
	if i < 0 || !m.Backends[i].Local || m.Backends[i].Protocol != "TCP" {
		t.Errorf("backends %+v", m.Backends)
	}
	for _, s := range m.Services {
		switch s.Name {
		case "shop/info:http":
			if len(s.Backends) != 2 || s.Algorithm != "p2c" || s.Block.Count != 2 {
				t.Errorf("%+v", s)
			}
		case "shop/none:80":
			if len(s.Backends) != 0 || s.Algorithm != "round-robin" {
				t.Errorf("%+v", s)
			}
		default:
			t.Errorf("unexpected %+v", s)
		}
	}
	if len(m.Services) != 2 || len(m.Deny) != 2 || m.Deny[0].Prefix.String() != "198.51.100.0/24" || m.Deny[0].Source != "config" || len(m.Allow) != 0 {
		t.Errorf("services %+v, deny %+v, allow %+v", m.Services, m.Deny, m.Allow)
	}
	if !slices.ContainsFunc(m.Counters, func(c explain.Counter) bool { return c.Program == "kg_lookup" && c.Reason == "steered" }) {
		t.Errorf("counters %+v", m.Counters)
	}

	// The same through the command, with no agent.
	status, out, errs := ctl(t, func(e *env) { e.readMaps = readMaps; noAgent(e) }, "backends", "shop/info:http", "--bpffs", bpffs)
	if status != 0 || !strings.Contains(out, "10.0.2.7:8080") || !strings.Contains(errs, "note: the agent does not listen") {
		t.Errorf("status %d\n%s\n%s", status, out, errs)
	}
}

func TestMapsThatAreNotThere(t *testing.T) {
	netnstest.RequireCapabilities(t)
	bpffs := netnstest.BPFFS(t)
	empty := filepath.Join(bpffs, "empty")
	for path, says := range map[string]string{
		empty:       "agent",
		t.TempDir(): "not on a bpf file system",
	} {
		_, err := readMaps(path)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", path, err, says)
		}
	}
	if _, err := os.Stat(empty); err == nil {
		t.Error("looking made a folder")
	}
}
