package manifests

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/kerngate/kerngate/loader"
	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/netnstest"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/feed"
)

// actAsAgent names the folder in which the test binary, started again with few
// capabilities, does what the agent needs them for.
const actAsAgent = "KERNGATE_TEST_ACT_AS_AGENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(actAsAgent); dir != "" {
		if err := act(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// act loads, attaches, publishes, adds a route, serves a generation, opens the socket for
// the proxy, and then takes all of it over as a second agent would.
func act(dir string) error {
	vip := netip.MustParseAddr("192.0.2.10")
	for range 2 {
		d, err := loader.Open(loader.Options{BPFFS: filepath.Join(dir, "bpf", "kerngate"), Interfaces: []string{"lo"}, Log: zerolog.Nop(),
			MaxServices: 64, MaxBackends: 64, MaxSlots: 256, MaxPrefixes: 16})
		if err != nil {
			return err
		}
		for _, a := range d.Attachments() {
			if a.Mode == "" && a.Program == "kg_xdp" {
				return fmt.Errorf("kg_xdp is not attached: %+v", a)
			}
		}
		if _, err := d.Apply(state.State{
			Addresses: []netip.Addr{vip},
			Listeners: []state.Listener{{Address: netip.AddrPortFrom(vip, 80), Protocol: state.TCP, Mode: state.L7}},
			Services:  []state.Service{{Name: "a/b:80", Backends: []state.Backend{{Address: netip.MustParseAddrPort("10.0.0.1:80"), Protocol: state.TCP}}}},
		}); err != nil {
			return err
		}
		number, err := d.StartGeneration(1)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		if err := unix.Listen(fd, 8); err != nil {
			return err
		}
		if err := d.PlaceSockets(number, 0, abi.SocketTCP4, fd); err != nil {
			return err
		}
		if err := d.Serve(number); err != nil {
			return err
		}
		if err := d.Close(); err != nil {
			return err
		}
	}
	_, err := feed.Listen(feed.Options{Path: filepath.Join(dir, "agent.sock"), ProxyUID: 65532, ProxyGID: 65532, Log: zerolog.Nop()})
	return err
}

// asAgent runs act with these capabilities and no others.
func asAgent(t *testing.T, capabilities []corev1.Capability) error {
	t.Helper()
	netnstest.Enter(t) // the child starts in the namespace of this thread
	dir := t.TempDir()
	bpffs := filepath.Join(dir, "bpf")
	if err := os.Mkdir(bpffs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", bpffs, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := loader.Uninstall(loader.Options{BPFFS: filepath.Join(bpffs, "kerngate"), Log: zerolog.Nop()}); err != nil {
			t.Error(err)
		}
		if err := unix.Unmount(bpffs, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	bounds := "-all"
	for _, c := range capabilities {
		bounds += ",+" + strings.ToLower(string(c))
	}
	cmd := exec.Command("setpriv", "--bounding-set", bounds, "--inh-caps", "-all", "--no-new-privs", os.Args[0])
	cmd.Env = append(os.Environ(), actAsAgent+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// TestCapabilitiesSuffice proves that the agent container can do its work, and that it
// could not with one capability less.
func TestCapabilitiesSuffice(t *testing.T) {
	add := install(t).container(t, "agent").SecurityContext.Capabilities.Add
	t.Run("all", func(t *testing.T) {
		if err := asAgent(t, add); err != nil {
			t.Errorf("with %v: %v", add, err)
		}
	})
	for _, without := range add {
		t.Run("without "+string(without), func(t *testing.T) {
			rest := slices.DeleteFunc(slices.Clone(add), func(c corev1.Capability) bool { return c == without })
			if asAgent(t, rest) == nil {
				t.Errorf("%v is not needed: take it out of install.yaml", without)
			}
		})
	}
}
