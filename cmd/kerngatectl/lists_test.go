package main

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/kerngate/kerngate/loader"
	"github.com/kerngate/kerngate/loader/netnstest"
	"github.com/kerngate/kerngate/loader/state"
)

// onNode has ctl change the real lists in a folder.
func onNode(change ...func(*env)) func(*env) {
	return func(e *env) {
		e.openLists = openLists
		e.getenv = func(string) string { return "" }
		e.ownAddresses = func() []netip.Addr { return nil }
		for _, c := range change {
			c(e)
		}
	}
}

// TestLists changes the lists of a real node, with and without an agent.
func TestLists(t *testing.T) {
	netnstest.Enter(t)
	bpffs := filepath.Join(netnstest.BPFFS(t), "kerngate")
	d, err := loader.Open(loader.Options{BPFFS: bpffs, MaxServices: 64, MaxBackends: 64, MaxSlots: 256, MaxPrefixes: 6, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { loader.Uninstall(loader.Options{BPFFS: bpffs, Log: zerolog.Nop()}) })
	declared := netip.MustParsePrefix("198.51.100.0/24")
	if _, err := d.Apply(state.State{Deny: []netip.Prefix{declared}}); err != nil {
		t.Fatal(err)
	}
	feed := filepath.Join(t.TempDir(), "feed")
	if err := os.WriteFile(feed, []byte("# bad ones\n203.0.113.0/24, 203.0.113.9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stdin := func(text string) func(*env) {
		return func(e *env) { e.stdin = strings.NewReader(text) }
	}
	for _, c := range []struct {
		args   string
		change func(*env)
		status int
		out    string
		says   string // on standard error
	}{
		{"deny add 198.51.100.0/24 2001:db8:bad::/48 2001:db8:bad::/48", onNode(), 0, "2 changed on the deny list\n", ""},
		{"deny add 198.51.100.0/24 2001:db8:bad::/48", onNode(), 0, "0 changed on the deny list, 2 were so already\n", ""},
		{"deny list", onNode(), 0, "PREFIX              DECLARED-BY\n198.51.100.0/24     config,operator\n2001:db8:bad::/48   operator\n", ""},
		{"deny del 198.51.100.0/24 192.0.2.1", onNode(), 0, "1 changed on the deny list, 1 were so already\n198.51.100.0/24 stays: the agent's configuration declares it\n", ""},
		{"deny add -f " + feed, onNode(), 0, "2 changed on the deny list\n", ""},
		{"deny del -f -", onNode(stdin("203.0.113.0/24\n203.0.113.9")), 0, "2 changed on the deny list\n", ""},
		{"deny add -f -", onNode(stdin("192.0.2.1\n192.0.2.0/23.\n192.0.2.1/24")), 1, "", "standard input: line 2: \"192.0.2.0/23.\" is not a prefix"},
		{"deny add -f -", onNode(stdin(strings.Repeat("x\n", 12))), 1, "", "standard input: 2 further lines are wrong"},
		{"allow add 198.51.100.7 --output json", onNode(), 0, "{\n  \"list\": \"allow\",\n  \"changed\": 1,\n  \"unchanged\": 0\n}\n", ""},
		{"deny add 0.0.0.0/0", onNode(), 1, "", "0.0.0.0/0 contains all addresses: add it with --force if that is intended"},
		{"deny add ::/0", onNode(), 1, "", "with --force"},
		{"deny add ::/0 --force", onNode(), 0, "1 changed on the deny list\n", ""},
		{"deny del ::/0", onNode(), 0, "1 changed on the deny list\n", ""},
		{"allow add 0.0.0.0/0", onNode(), 0, "1 changed on the allow list\n", ""},
		{"deny add 192.0.2.0/24", onNode(func(e *env) {
			e.getenv = func(name string) string {
				return map[string]string{"SSH_CONNECTION": "192.0.2.9 50000 10.0.0.1 22"}[name]
			}
		}), 0, "1 changed", "192.0.2.0/24 holds 192.0.2.9, where you come from by SSH"},
		{"deny add 192.0.2.0/25", onNode(func(e *env) {
			e.ownAddresses = func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.10")} }
		}), 0, "1 changed", "192.0.2.0/25 holds 192.0.2.10, an address of this node"},
		{"deny add 100.0.0.1 100.0.0.2 100.0.0.3 100.0.0.4", onNode(), 1, "2 changed", "prefix 100.0.0.3/32: map kg_deny is full (6 entries): raise --max-prefixes"},
		{"deny add", onNode(), 2, "", "deny add takes prefixes, or a file with -f"},
		{"deny add 198.51.100.1/24", onNode(), 2, "", "did you mean 198.51.100.0/24?"},
		{"deny add -f /nonexistent", onNode(), 1, "", "no such file"},
		{"deny del 198.51.100.0/24", func(e *env) {
			e.openLists = func(string) (prefixLists, error) { return nil, fs.ErrPermission }
		}, 1, "", "run kerngatectl as root"},
	} {
		status, out, errs := ctl(t, c.change, append(strings.Fields(c.args), "--bpffs", bpffs)...)
		if status != c.status || !strings.HasPrefix(out, c.out) || !strings.Contains(errs, c.says) || c.says == "" && errs != "" {
			t.Errorf("%s: status %d\nout: %s\nerr: %s", c.args, status, out, errs)
		}
	}

	d.Close() // the lists need no agent, and the next one keeps them
	if status, out, _ := ctl(t, onNode(), "allow", "list", "--bpffs", bpffs, "-o", "json"); status != 0 || !strings.Contains(out, `"prefix": "198.51.100.7/32"`) {
		t.Errorf("status %d, %s", status, out)
	}
}

// A feed of 100,000 prefixes is added and taken back at one go.
func TestLongList(t *testing.T) {
	netnstest.Enter(t)
	bpffs := filepath.Join(netnstest.BPFFS(t), "kerngate")
	d, err := loader.Open(loader.Options{BPFFS: bpffs, MaxServices: 64, MaxBackends: 64, MaxSlots: 256, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Close()
		loader.Uninstall(loader.Options{BPFFS: bpffs, Log: zerolog.Nop()})
	})
	var feed strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&feed, "100.%d.%d.%d\n", i>>16, i>>8&255, i&255)
	}
	for _, verb := range []string{"add", "del"} {
		status, out, errs := ctl(t, onNode(func(e *env) { e.stdin = strings.NewReader(feed.String()) }), "deny", verb, "-f", "-", "--bpffs", bpffs)
		if status != 0 || out != "100000 changed on the deny list\n" {
			t.Errorf("%s: status %d, %s%s", verb, status, out, errs)
		}
	}
}
