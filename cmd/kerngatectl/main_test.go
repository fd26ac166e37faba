package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/kerngate/kerngate/userspace/look/explain"
	"github.com/kerngate/kerngate/userspace/look/status"
	"github.com/kerngate/kerngate/userspace/model"
)

var update = flag.Bool("update", false, "rewrite testdata from what the command prints now")

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// node is a node whose agent and maps answer from these values.
func node() (*explain.Maps, map[string]any) {
	maps := &explain.Maps{
		ABI: 1, Serving: 2,
		Listeners:   []explain.Listener{{Address: netip.MustParseAddrPort("192.0.2.10:80"), Protocol: "TCP", Mode: "L7"}, {Address: netip.MustParseAddrPort("192.0.2.10:443"), Protocol: "TCP", Mode: "L7"}, {Address: netip.MustParseAddrPort("192.0.2.10:443"), Protocol: "UDP", Mode: "L7"}},
		Generations: []explain.Generation{{Number: 2, State: "serving", Workers: []explain.Worker{{ID: 128, Connections: 7, Accepted: 40, Sockets: 2}, {ID: 129, Hung: true, BusyMS: 812, Connections: 1, Accepted: 4, Sockets: 2}}}},
		Services: []explain.Service{
			{ID: 1, Name: "shop/info:http", Algorithm: "p2c", Block: explain.Block{Offset: 0, Count: 2, Generation: 4}, Backends: []uint32{1, 2}},
			{ID: 2, Name: "shop/intro:80", Algorithm: "round-robin", PreferLocal: true, Block: explain.Block{Offset: 2, Count: 1, Generation: 1}, Backends: []uint32{2}},
		},
		Backends: []explain.Backend{
			{ID: 1, Address: netip.MustParseAddrPort("10.0.1.5:8080"), Protocol: "TCP", Weight: 1, InFlight: 1, Requests: 20, Failures: 2, LatencyUS: 1500, Ill: []string{"ejected"}, IllFor: 90 * time.Second},
			{ID: 2, Address: netip.MustParseAddrPort("10.0.2.7:8080"), Protocol: "TCP", Weight: 1, Local: true, Requests: 22, LatencyUS: 900},
		},
		Counters: []explain.Counter{{Program: "kg_lookup", Reason: "steered", Count: 44}, {Program: "kg_lookup", Reason: "no_proxy"}, {Program: "kg_ingress", Reason: "node_owner", Count: 17}, {Program: "kg_ingress", Reason: "node_hops"}},
	}
	at := noon.Add(-90 * time.Second)
	answers := map[string]any{
		status.QueryStatus: status.Status{Version: "v0.1.0", MapABI: 1, Node: "n1", Uptime: status.Duration(90 * time.Second), Ready: true,
			Source: status.Source{Kind: "manifests", Location: "/etc/kerngate", Synced: true}, Class: "kerngate", Addresses: []string{"192.0.2.10"},
			Listeners: []status.Listener{{Name: "http", Address: "192.0.2.10:80", Protocol: "HTTP"}, {Name: "https", Address: "192.0.2.10:443", Protocol: "HTTPS and HTTP/3"}},
			Attached:  []status.Attachment{{Program: "kg_lookup", Where: "netns"}, {Program: "kg_xdp", Where: "eth0", Mode: "generic", Reason: "driver without XDP"}},
			Features:  []status.Feature{{Name: "sk_lookup", Present: true, NeededFor: "steering"}, {Name: "tcx", NeededFor: "L4", ReplacedBy: "nothing uses it yet"}},
			Maps:      []status.Map{{Name: "kg_services", Entries: 2, MaxEntries: 16384, Bytes: 262144}},
			Proxies: []status.Generation{
				{Number: 2, State: "serving", PID: 99, Build: "v0.1.0", Connected: true, Config: 3, Since: at,
					Walls: []status.Wall{{Name: "undumpable", InForce: true}, {Name: "landlock", Missing: "the kernel has no Landlock"}, {Name: "seccomp", InForce: true}}},
				{Number: 1, State: "draining", PID: 98, Build: "v0.0.9", Connected: true, Config: 3, Since: at},
			},
			Fabric: &status.Fabric{Connections: true, DSR: true, Port: 6080, Slots: 16384, Nodes: []status.FabricNode{
				{Name: "n1", ID: "00000001", Addresses: []string{"192.0.2.1", "2001:db8::1"}, State: "serving", Self: true, Slots: 12288},
				{Name: "n2", ID: "00000002", Addresses: []string{"192.0.2.2"}, State: "draining"},
				{ID: "00000003", Addresses: []string{"192.0.2.3"}, State: "gone"}}},
			Counts: status.Counts{Hosts: 1, Routes: 2, Services: 2, Backends: 2, Warnings: 1}, Apply: status.Apply{At: &at, Took: status.Duration(300 * time.Microsecond), Applied: 4}},
		status.QueryRoutes: status.Routes{Hosts: []status.Host{{Name: "host.example.com", Routes: []status.Route{
			{Path: "/intro", Match: "Prefix", Service: "shop/intro:80", Source: "shop/main", RedirectHTTPS: true}, {Path: "/info", Match: "Prefix", Service: "shop/info:http", Source: "shop/main", Upstream: "grpc"}},
			TLS: &status.TLS{Certificates: []string{"shop/web-tls"}, Client: &status.ClientAuth{Mode: "required", Authority: "shop/ca", Depth: 1}, Source: "shop/main"}}},
			Authorities: []string{"shop/ca"}, DefaultCertificate: "shop/fallback", Default: "shop/intro:80"},
		status.QueryCertificates: status.Certificates{Certificates: []status.Certificate{
			{ID: "shop/fallback", Hosts: []string{}, Names: []string{"*.example.com"}, Type: "RSA 2048", Issuer: "CN=Example CA", NotBefore: noon.AddDate(-1, 0, 0), NotAfter: noon.Add(-time.Hour), Fingerprint: strings.Repeat("0f", 32), Default: true, UsedBy: []string{}},
			{ID: "shop/web-tls", Hosts: []string{"host.example.com", "*.example.com", "", "a.example"}, Names: []string{"host.example.com"}, Type: "ECDSA P-256", Issuer: "CN=Example CA", NotBefore: noon.AddDate(0, -1, 0), NotAfter: noon.AddDate(0, 2, 0), Fingerprint: strings.Repeat("a1", 32), Stapled: true, UsedBy: []string{"shop/main"}}}},
		status.QueryServices: status.Services{Services: []status.Service{{ID: 1, Name: "shop/info:http", Algorithm: "p2c", Backends: []status.Backend{{Address: "10.0.1.5:8080", Pod: "shop/info-a", Node: "n2"}}},
			{Name: "shop/later:80", Algorithm: "p2c", Backends: []status.Backend{{Address: "10.0.9.9:80"}}}}},
		status.QueryRules + "/intro": status.Rules{MaxBody: 8 << 20, Policy: &model.Policy{
			Redirects: []model.Redirect{{Path: "/intro/old", Status: 301, Target: "/intro/new", By: "nginx.ingress.kubernetes.io/configuration-snippet"}},
			Access:    &model.Access{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, External: &model.ExternalAuth{To: model.Destination{Authority: "auth.example.com", Path: "/verify"}, SignIn: "https://$host/start"}},
			Limits:    &model.Limits{Rates: []model.Rate{{Requests: 10, Period: time.Second, Burst: 50}}, Status: 503, Scope: "x"},
			Origins:   model.Origins{model.RuleAllow: {"nginx.ingress.kubernetes.io/whitelist-source-range"}, model.RuleExternal: {"nginx.ingress.kubernetes.io/auth-url"}, model.RuleRate: {"nginx.ingress.kubernetes.io/limit-rps"}}}},
		status.QueryRules + "/info": status.Rules{},
		status.QueryDrain:           status.Drain{Node: "n1", Draining: true},
		status.QueryUndrain:         status.Drain{Node: "n1"},
		status.QueryProblems:        status.Problems{Problems: []status.Problem{{Object: "Ingress shop/other", Severity: "Warning", Reason: "Conflict", Message: "shop/main publishes /info already; it is older", Since: at}}},
	}
	return maps, answers
}

// ctl runs kerngatectl on the node and returns its exit status and output.
func ctl(t *testing.T, change func(*env), args ...string) (code int, stdout, stderr string) {
	t.Helper()
	maps, answers := node()
	var out, errs bytes.Buffer
	e := env{
		stdout: &out, stderr: &errs, now: func() time.Time { return noon },
		readMaps: func(string) (*explain.Maps, error) { return maps, nil },
		ask: func(_ context.Context, _, what string) ([]byte, error) {
			if of, isRules := status.ParseRuleOf(what); isRules {
				what = status.QueryRules + of.Path
			}
			a, ok := answers[what]
			if !ok {
				return nil, fmt.Errorf("unknown query %q", what)
			}
			return json.Marshal(a)
		},
	}
	if change != nil {
		change(&e)
	}
	code = exit(run(t.Context(), e, args), &errs)
	return code, out.String(), errs.String()
}

func noAgent(e *env) {
	e.ask = func(context.Context, string, string) ([]byte, error) {
		return nil, &fs.PathError{Op: "dial", Path: "agent.sock", Err: fs.ErrNotExist}
	}
}

func noMaps(e *env) {
	e.readMaps = func(string) (*explain.Maps, error) { return nil, fs.ErrNotExist }
}

// golden compares with testdata/name; -update rewrites it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update rewrites it); got:\n%s", file, got)
	}
}

var commands = []string{"status", "routes", "services", "backends", "nodes", "drain", "undrain", "deny", "allow", "watch", "top", "explain", "problems", "certificates", "check", "migrate", "version"}

// TestHelp keeps the help stable: it is what scripts and people have learned.
func TestHelp(t *testing.T) {
	status, out, _ := ctl(t, nil, "--help")
	if status != 0 {
		t.Fatalf("status %d", status)
	}
	golden(t, "help", out)
	for _, name := range commands {
		status, out, errs := ctl(t, nil, name, "-h")
		if status != 0 || errs != "" || !strings.Contains(out, "Examples:\n  kerngatectl "+name) || !strings.Contains(out, "--bpffs") {
			t.Errorf("%s -h: status %d, %q, output:\n%s", name, status, errs, out)
		}
		golden(t, "help-"+name, out)
	}
}

func TestTables(t *testing.T) {
	for name, args := range map[string][]string{
		"status":         {"status"},
		"routes":         {"routes"},
		"services":       {"services"},
		"nodes":          {"nodes"},
		"drain":          {"drain"},
		"undrain":        {"undrain"},
		"backends":       {"backends"},
		"problems":       {"problems"},
		"explain":        {"explain", "http://host.example.com/info/x", "--from", "192.0.2.77"},
		"certificates":   {"certificates"},
		"explain-https":  {"explain", "https://host.example.com/info/x"},
		"explain-rules":  {"explain", "https://host.example.com/intro?a=b"},
		"explain-answer": {"explain", "https://host.example.com/intro/old", "--method", "POST", "--body-bytes", "9000000", "--cookie", "a=b", "--header", "X-A: b"},
		"explain-auth":   {"explain", "https://host.example.com/intro", "--auth-status", "200", "--from", "10.1.2.3"},
		"notfound":       {"explain", "http://hots.example.com/info"},
	} {
		status, out, errs := ctl(t, nil, args...)
		if status != 0 || errs != "" {
			t.Errorf("%s: status %d, %s", name, status, errs)
		}
		golden(t, name, out)
	}
}

// TestScripts checks that every command gives the same value as JSON and as YAML, and
// that lists are lists also when they are empty.
func TestScripts(t *testing.T) {
	for _, args := range [][]string{{"status"}, {"routes"}, {"services"}, {"backends"}, {"problems"}, {"certificates"}, {"explain", "https://host.example.com/info"}, {"version"}} {
		_, asJSON, _ := ctl(t, nil, append(args, "-o", "json")...)
		_, asYAML, _ := ctl(t, nil, append(args, "-o", "yaml")...)
		back, err := yaml.YAMLToJSON([]byte(asYAML))
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		var one, two any
		if err := errors.Join(json.Unmarshal([]byte(asJSON), &one), json.Unmarshal(back, &two)); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, asJSON)
		}
		if fmt.Sprint(one) == "map[]" {
			t.Errorf("%v: empty", args)
		}
		if a, b := fmt.Sprint(one), fmt.Sprint(two); a != b {
			t.Errorf("%v: JSON and YAML differ:\n%s\n%s", args, a, b)
		}
	}
	empty := func(e *env) {
		e.readMaps = func(string) (*explain.Maps, error) { return &explain.Maps{}, nil }
		e.ask = func(context.Context, string, string) ([]byte, error) { return []byte("{}"), nil }
	}
	for args, want := range map[string]string{"routes": `"hosts": []`, "services": `"services": []`, "backends": `"backends": []`, "problems": `"problems": []`, "certificates": `"certificates": []`} {
		if _, out, _ := ctl(t, empty, args, "-o", "json"); !strings.Contains(out, want) {
			t.Errorf("%s of an empty node: %s, want %s", args, out, want)
		}
	}
}

func TestHalfANode(t *testing.T) {
	for _, c := range []struct {
		name       string
		change     func(*env)
		args       []string
		status     int
		out, stdio string // what standard output and standard error must mention
	}{
		{"status without agent", noAgent, []string{"status"}, 0, "the agent does not listen on /run/kerngate/agent.sock: start it", ""},
		{"status without agent still has workers", noAgent, []string{"status"}, 0, "HUNG for 812 ms", ""},
		{"status without maps", noMaps, []string{"status"}, 0, "no maps in /sys/fs/bpf/kerngate: start the agent", ""},
		{"services without agent", noAgent, []string{"services"}, 0, "shop/info:http", "note: the agent does not listen"},
		{"services without maps", noMaps, []string{"services"}, 0, "shop/later:80", "note: no maps in"},
		{"backends without maps", noMaps, []string{"backends"}, 1, "", "no maps in"},
		{"routes without agent", noAgent, []string{"routes"}, 1, "", "name its socket with --socket"},
		{"explain without agent", noAgent, []string{"explain", "host.example.com/info"}, 0, "=> unknown: not known: step host", ""},
		{"explain without maps", noMaps, []string{"explain", "host.example.com/info"}, 0, "Prefix /info matches", ""},
		{"nothing there", func(e *env) { noAgent(e); noMaps(e) }, []string{"status"}, 1, "", "no maps in"},
		{"maps without rights", func(e *env) {
			e.readMaps = func(string) (*explain.Maps, error) { return nil, fs.ErrPermission }
		}, []string{"backends"}, 1, "", "run kerngatectl as root"},
		{"slow agent", func(e *env) {
			e.ask = func(ctx context.Context, _, _ string) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }
		}, []string{"routes", "--timeout", "10ms"}, 1, "", "raise --timeout"},
		{"agent that hangs", func(e *env) {
			e.ask = func(context.Context, string, string) ([]byte, error) {
				return nil, fmt.Errorf("read: %w", os.ErrDeadlineExceeded)
			}
		}, []string{"routes"}, 1, "", "raise --timeout"},
		{"agent of another version", func(e *env) {
			e.ask = func(context.Context, string, string) ([]byte, error) { return []byte("[]"), nil }
		}, []string{"routes"}, 1, "", "kerngatectl of the agent's version"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, out, errs := ctl(t, c.change, c.args...)
			if status != c.status || !strings.Contains(out, c.out) || !strings.Contains(errs, c.stdio) {
				t.Errorf("status %d\nout: %s\nerr: %s", status, out, errs)
			}
		})
	}
}

func TestWrongUse(t *testing.T) {
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"statu"}, 2, `no command "statu"; did you mean status?`},
		{[]string{"status", "x"}, 2, "is an unexpected argument"},
		{[]string{"status", "--nope"}, 2, "unknown flag: --nope; see kerngatectl status --help"},
		{[]string{"status", "-o", "xml"}, 2, "table, json or yaml"},
		{[]string{"explain"}, 2, "explain takes one URL"},
		{[]string{"explain", "ftp://x/"}, 2, "not http or https"},
		{[]string{"explain", "http://x/", "--header", "Host: y"}, 2, "the URL says what the header Host is"},
		{[]string{"explain", "http://x/", "--auth-status", "7"}, 2, "7 is not a status"},
		{[]string{"explain", "http://x/", "--from", "me"}, 2, "--from \"me\" is not an IP address"},
		{[]string{"services", "shop/inf:http"}, 1, "similar names: shop/info:http"},
		{[]string{"backends", "zzz"}, 1, "kerngatectl services lists all 2"},
		{[]string{"certificates", "shop/web-tl"}, 1, "similar names: shop/web-tls"},
		{[]string{"routes", "hots.example.com"}, 1, "similar names: host.example.com"},
	} {
		status, _, errs := ctl(t, nil, c.args...)
		if status != c.status || !strings.Contains(errs, c.says) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%v: status %d, %q; want %d, one line with %q", c.args, status, errs, c.status, c.says)
		}
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if status, out, errs := ctl(t, nil, "completion", shell); status != 0 || !strings.Contains(out, "kerngatectl") {
			t.Errorf("%s: status %d, %s", shell, status, errs)
		}
	}
}
