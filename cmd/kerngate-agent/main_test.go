package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/kerngate/kerngate/userspace/control/cert/certtest"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
)

// parse reads a command line as run does, and returns what it means.
func parse(t *testing.T, args ...string) (*options, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "kerngate-proxy"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	e := env{
		stdout: os.Stdout, stderr: os.Stderr,
		hostname:   func() (string, error) { return "host-1", nil },
		executable: func() (string, error) { return filepath.Join(dir, "kerngate-agent"), nil },
	}
	cmd, f := command(e)
	cmd.SetArgs(args)
	var o *options
	f.work = func() (err error) {
		if o, err = f.options(e); err != nil {
			return usageError{err}
		}
		return nil
	}
	err := cmd.ExecuteContext(t.Context())
	return o, err
}

func parsed(t *testing.T, args ...string) *options {
	t.Helper()
	o, err := parse(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	base := []string{"--manifests", dir, "--ingress-ip", "192.0.2.1"}
	for want, args := range map[string][]string{
		"unknown flag: --nope":                                                    {"--nope"},
		`unexpected argument "extra"`:                                             {"extra"},
		"--ingress-ip: at least one address is needed":                            {"--manifests", dir},
		`--ingress-ip "vip": not an IPv4 or IPv6 address`:                         {"--manifests", dir, "--ingress-ip", "vip"},
		"--ingress-ip 0.0.0.0: not an address that clients":                       {"--manifests", dir, "--ingress-ip", "0.0.0.0"},
		"--manifests: stat /nowhere":                                              {"--manifests", "/nowhere"},
		"exclude each other":                                                      append(base, "--kubeconfig", "x"),
		"did you mean 10.0.0.0/8?":                                                append(base, "--deny", "10.1.2.3/8"),
		`--allow: "x" is not a prefix`:                                            append(base, "--allow", "x"),
		"--source-packets-per-second 20000000: at most":                           append(base, "--source-packets-per-second", "20000000"),
		"-burst without --source-connections-per-second":                          append(base, "--source-connections-burst", "5"),
		"need an --interface, where packets are judged":                           append(base, "--deny", "10.0.0.0/8"),
		"--source-prefix-v4 33: want 1 to 32":                                     append(base, "--source-prefix-v4", "33"),
		"--source-prefix-v6 0: want 1 to 128":                                     append(base, "--source-prefix-v6", "0"),
		"--default-backend: \"web\" is not of the form":                           append(base, "--default-backend", "web"),
		"--load-balancing: \"fair\" is none":                                      append(base, "--load-balancing", "fair"),
		"--xdp-mode \"fast\": want auto":                                          append(base, "--xdp-mode", "fast"),
		"--log-level \"loud\"":                                                    append(base, "--log-level", "loud"),
		"--idle-timeout 0s":                                                       append(base, "--idle-timeout", "0s"),
		"--access-log \"some\"":                                                   append(base, "--access-log", "some"),
		"must not be root":                                                        append(base, "--proxy-user", "0"),
		"--proxy-user \"nobody\": want UID":                                       append(base, "--proxy-user", "nobody"),
		"there is no kerngate-proxy at /nowhere/x":                                append(base, "--proxy-binary", "/nowhere/x"),
		"--max-slots 1":                                                           append(base, "--max-slots", "1"),
		"--config: open /nowhere":                                                 {"--config", "/nowhere"},
		"--http-port and --https-port are both 80":                                append(base, "--https-port", "80"),
		"--http3 needs an --https-port":                                           append(base, "--https-port", "0", "--http3"),
		`--tls-min-version "1.1": want 1.2 or 1.3`:                                append(base, "--tls-min-version", "1.1"),
		`--tls-suite "AES" is unknown: want`:                                      append(base, "--tls-suite", "AES"),
		"suites of TLS 1.3 cannot be chosen":                                      append(base, "--tls-suite", "TLS_AES_128_GCM_SHA256"),
		"--tls-suite TLS_RSA_WITH_RC4_128_SHA: is broken":                         append(base, "--tls-suite", "TLS_RSA_WITH_RC4_128_SHA"),
		"has no max-age=SECONDS":                                                  append(base, "--hsts", "preload"),
		"--watch-namespace-selector: ":                                            append(base, "--watch-namespace-selector", "a in b"),
		"needs a --trusted-proxy":                                                 append(base, "--forwarded-for-header", "CF-Connecting-IP"),
		"does not say where a request comes from":                                 append(base, "--trusted-proxy", "10.0.0.0/8", "--forwarded-for-header", "Cookie"),
		"want printable ASCII":                                                    append(base, "--hsts", "max-age=1\r\nX: y"),
		"--max-streams 0: want 1 to 10000":                                        append(base, "--max-streams", "0"),
		`--trusted-proxy: "lb" is not a prefix`:                                   append(base, "--trusted-proxy", "lb"),
		"--proxy-protocol-from: 10.0.0.1/8 has bits":                              append(base, "--proxy-protocol-from", "10.0.0.1/8"),
		"want NAMESPACE/SECRET, or CHAIN,KEY":                                     append(base, "--default-certificate", "web"),
		"--default-certificate: open /nowhere/a":                                  append(base, "--default-certificate", "/nowhere/a,/nowhere/b"),
		"--request-buffer-bytes -1: must not be negative":                         append(base, "--request-buffer-bytes", "-1"),
		"--request-buffer-total 300000: want at least":                            append(base, "--request-buffer-total", "300000"),
		"--large-requests \"drop\": want spool, refuse or chunked":                append(base, "--large-requests", "drop"),
		"--request-spool-total 1000: want at least 1048576":                       append(base, "--request-spool-total", "1000"),
		"--large-requests=spool needs --request-spool-dir":                        append(base, "--large-requests", "spool"),
		"there is no folder /nowhere/spool; make one that UID 65532 can write to": append(base, "--request-spool-dir", "/nowhere/spool"),
		"without --run-proxy give it to kerngate-proxy":                           append(base, "--request-spool-dir", "/tmp", "--run-proxy=false"),
		"--tunnel-timeout 0s":                                                     append(base, "--tunnel-timeout", "0s"),
		"--l4-dsr and --l4-remote exclude":                                        append(base, "--l4-dsr", "--l4-remote"),
		"need to know the nodes":                                                  append(base, "--fabric", "--interface", "eth0"),
		"--fabric-service and --fabric-peer exclude":                              append(base, "--fabric", "--fabric-service", "a/b", "--fabric-peer", "n=192.0.2.2"),
		"--fabric and --l4-dsr need an --interface":                               append(base, "--l4-dsr", "--fabric-service", "a/b"),
		"--fabric-port must not be 0":                                             append(base, "--l4-dsr", "--fabric-service", "a/b", "--fabric-port", "0"),
		`--fabric-service "b": want NAMESPACE/NAME`:                               append(base, "--l4-dsr", "--interface", "eth0", "--fabric-service", "b"),
		`--fabric-peer "n": want NODE=ADDRESS`:                                    append(base, "--l4-dsr", "--interface", "eth0", "--fabric-peer", "n"),
		`--fabric-peer n: "127.0.0.1" is not an address by`:                       append(base, "--l4-dsr", "--interface", "eth0", "--fabric-peer", "n=127.0.0.1"),
		"--fabric-peer n: two addresses of one family":                            append(base, "--l4-dsr", "--interface", "eth0", "--fabric-peer", "n=192.0.2.2,192.0.2.3"),
		"--fabric-peer n: named twice":                                            append(base, "--l4-dsr", "--interface", "eth0", "--fabric-peer", "n=192.0.2.2", "--fabric-peer", "n=192.0.2.3"),
		"this node, host-1 (--node-name), is not among":                           append(base, "--l4-dsr", "--interface", "eth0", "--fabric-peer", "n=192.0.2.2"),
		"invalid argument \"70000\" for \"--http-port\"":                          append(base, "--http-port", "70000"),
	} {
		_, err := parse(t, args...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
			continue
		}
		var out bytes.Buffer
		if status := exitStatus(err, &out); status != 2 || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%v: exit status %d, output %q; want 2 and one line", args, status, out.String())
		}
	}
}

func TestConfigFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("manifests: " + dir + `
ingress-ip: [192.0.2.1, "2001:db8::1"]
http-port: 8080
prefer-local: true
load-balancing: round-robin
idle-timeout: 10s
deny: 198.51.100.0/24
interface: [eth0]
compression: [zstd, gzip]
max-body: 10000000000
default-backend: system/fallback:http
run-proxy: true
access-log: 100
`)
	o := parsed(t, "--config", path, "--http-port", "81")
	if l := o.kube.Listeners[0]; l.Port != 81 {
		t.Errorf("%s: the command line goes before the file", l)
	}
	if want := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}; !slices.Equal(o.node.Addresses, want) {
		t.Errorf("addresses %v", o.node.Addresses)
	}
	if !o.kube.PreferLocal || o.kube.Algorithm != model.RoundRobin || o.kube.DefaultBackend.String() != "system/fallback:http" || o.kube.Node != "host-1" {
		t.Errorf("kube %+v", o.kube)
	}
	if o.settings.IdleTimeoutMs != 10_000 || o.settings.MaxBodyBytes != 10_000_000_000 || o.settings.AccessLogSample != 100 || o.settings.HeadTimeoutMs != 15_000 {
		t.Errorf("settings %v", o.settings)
	}
	if len(o.node.Deny) != 1 || o.child == nil || o.child.UID != 65532 {
		t.Errorf("node %+v, child %+v", o.node, o.child)
	}

	for text, want := range map[string]string{
		"ingress-pi: 192.0.2.1":        `there is no setting "ingress-pi"`,
		"config: other.yaml":           `there is no setting "config"`,
		"http-port: [80, 81]":          "http-port takes one value, not a list",
		"http-port: {a: b}":            "http-port: ",
		"http-port: many":              "http-port: ",
		"a: b: c":                      "error converting YAML",
		"http-port: 1\nhttp-port: 2\n": `"http-port" already set in map`,
		"- a":                          "want lines of the form NAME: VALUE",
		"5":                            "want lines of the form NAME: VALUE",
	} {
		write(text)
		if _, err := parse(t, "--config", path); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %q on one line", text, err, want)
		}
	}
}

// TestTLSFlags: what is asked of TLS reaches settings, node and source.
func TestTLSFlags(t *testing.T) {
	dir := t.TempDir()
	chain, key := certtest.NewAuthority("Test CA").Pair(certtest.ECDSA, "a.example.com")
	for name, text := range map[string][]byte{"chain": chain, "key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	base := []string{"--manifests", dir, "--ingress-ip", "192.0.2.1"}
	o := parsed(t, append(base, "--https-port", "8443", "--http3", "--tls-min-version", "1.3", "--tls-suite", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
		"--hsts", "max-age=60", "--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "2001:db8::1", "--proxy-protocol-from", "192.0.2.7", "--forwarded-for-header", "CF-Connecting-IP",
		"--max-streams", "7", "--max-connections-per-source", "9", "--public-https-port", "444", "--disable-http2", "--tunnel-timeout", "2m", "--default-certificate", filepath.Join(dir, "chain")+","+filepath.Join(dir, "key"))...)
	want := &feedpb.Settings{
		RedirectPort: 8443, Http3: true, TlsMinVersion: "1.3", TlsSuites: []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"},
		Hsts: "max-age=60", TrustedProxies: []string{"10.0.0.0/8", "2001:db8::1/128"}, ProxyHeaderFrom: []string{"192.0.2.7/32"}, OwnAddresses: []string{"192.0.2.1"},
		ForwardedForHeader: "cf-connecting-ip",
		MaxStreams:         7, DisableHttp2: true, TunnelTimeoutMs: 120_000, MinRequestRate: 16, MinResponseRate: 240, MaxConnectionsPerSource: 9, PublicHttpsPort: 444,
		HeadTimeoutMs: 15_000, IdleTimeoutMs: 75_000, ConnectTimeoutMs: 5_000, FirstConnectTimeoutMs: 250, ResponseTimeoutMs: 60_000, BodyTimeoutMs: 60_000, DrainTimeoutMs: 240_000, MaxHeadBytes: 32 << 10, MaxResponseHeadBytes: 32 << 10, MaxFields: 512,
		RequestBufferBytes: proto.Uint64(4 << 20), RequestBufferTotal: 64 << 20,
	}
	if diff := cmp.Diff(want, o.settings, protocmp.Transform()); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if fmt.Sprint(o.kube.Listeners) != "[http 192.0.2.1:80 HTTP https 192.0.2.1:8443 HTTPS and HTTP/3]" || o.defaultFiles == nil || o.kube.DefaultCertificate != "" {
		t.Errorf("listeners %v, files %v, Secret %q", o.kube.Listeners, o.defaultFiles != nil, o.kube.DefaultCertificate)
	}
	if o := parsed(t, append(base, "--default-certificate", "infra/web")...); o.kube.DefaultCertificate != "infra/web" || o.defaultFiles != nil {
		t.Errorf("Secret %q, settings %v", o.kube.DefaultCertificate, o.settings)
	}
	_, err := parse(t, append(base, "--default-certificate", filepath.Join(dir, "key")+","+filepath.Join(dir, "chain"))...)
	if err == nil || !strings.Contains(err.Error(), "key: holds a private key where a certificate should be") || certtest.Leaks(err.Error(), key) != "" {
		t.Errorf("swapped files: %v", err)
	}
}

// TestRunProxy: a child by default with a folder of manifests, none with a cluster.
func TestRunProxy(t *testing.T) {
	dir := t.TempDir()
	base := []string{"--ingress-ip", "192.0.2.1"}
	if o := parsed(t, append(base, "--manifests", dir)...); o.child == nil || !slices.Contains(o.child.Args, "/run/kerngate/agent.sock") {
		t.Errorf("manifests: %+v", o.child)
	}
	if o := parsed(t, append(base, "--manifests", dir, "--run-proxy=false")...); o.child != nil {
		t.Errorf("--run-proxy=false: %+v", o.child)
	}
	if o := parsed(t, append(base, "--kubeconfig", "x")...); o.child != nil {
		t.Errorf("cluster: %+v", o.child)
	}
}

// TestLargeRequests: the child proxy gets the folder, and every proxy hears what is set.
func TestLargeRequests(t *testing.T) {
	dir := t.TempDir()
	base := []string{"--ingress-ip", "192.0.2.1", "--manifests", dir}
	o := parsed(t, base...)
	if slices.Contains(o.child.Args, "--request-spool-dir") || o.settings.LargeRequestsChunked || o.settings.LargeRequestsRefused {
		t.Errorf("by default: %q, %v", o.child.Args, o.settings)
	}
	o = parsed(t, append(base, "--request-spool-dir", dir, "--request-spool-total", "5000000")...)
	if got := strings.Join(o.child.Args, " "); !strings.Contains(got, "--request-spool-dir "+dir+" --request-spool-total 5000000") {
		t.Errorf("with a folder: %s", got)
	}
	for value, want := range map[string][2]bool{"refuse": {false, true}, "chunked": {true, false}} {
		o := parsed(t, append(base, "--request-spool-dir", dir, "--large-requests", value)...)
		if got := [2]bool{o.settings.LargeRequestsChunked, o.settings.LargeRequestsRefused}; got != want {
			t.Errorf("%s: %v", value, got)
		}
	}
	// A proxy in a container of its own has its own folder.
	o = parsed(t, "--ingress-ip", "192.0.2.1", "--kubeconfig", "x", "--large-requests", "spool")
	if o.settings.LargeRequestsChunked || o.settings.LargeRequestsRefused {
		t.Errorf("spool in a cluster: %v", o.settings)
	}
}

// TestHelp: every flag says what it is for.
func TestHelp(t *testing.T) {
	cmd, _ := command(env{})
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--help"})
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"Examples:", "--manifests folder", "--uninstall", "--version"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("help does not say %q:\n%s", part, out.String())
		}
	}
}

// TestLimits: what bounds the proxies.
func TestLimits(t *testing.T) {
	base := []string{"--manifests", t.TempDir(), "--ingress-ip", "192.0.2.1"}
	o := parsed(t, append(base, "--divide-limits", "kerngate-system/kerngate", "--max-connections", "5000", "--compression", "br,gzip", "--compression-types", "text/*")...)
	if o.kube.ProxyService != "kerngate-system/kerngate" || o.settings.MaxConnections != 5000 {
		t.Errorf("%+v, %v", o.kube, o.settings)
	}
	if c := o.settings.Compression; !slices.Equal(c.GetEncodings(), []string{"br", "gzip"}) || !slices.Equal(c.GetTypes(), []string{"text/*"}) {
		t.Errorf("compression %v", c)
	}
	if o := parsed(t, base...); o.settings.Compression != nil || o.settings.MaxConnections != 0 || o.kube.ProxyService != "" {
		t.Errorf("by default %v", o.settings)
	}
	for _, bad := range [][]string{{"--divide-limits", "kerngate"}, {"--max-connections", "3"}, {"--compression", "deflate"}, {"--compression-types", "html"}, {"--compression-min-bytes", "0"}} {
		if _, err := parse(t, append(base, bad...)...); err == nil || !strings.Contains(err.Error(), bad[0]) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// TestFabric: who takes part is read from the flags, or named for the source.
func TestFabric(t *testing.T) {
	base := []string{"--manifests", t.TempDir(), "--ingress-ip", "192.0.2.1", "--interface", "eth0"}
	o := parsed(t, append(base, "--fabric", "--l4-dsr", "--fabric-service", "kerngate-system/kerngate")...)
	if o.kube.FabricService != "kerngate-system/kerngate" || !o.node.L4DSR || o.node.Members != nil ||
		!o.loader.Fabric || !o.loader.DSR || o.loader.TunnelPort != 6080 || o.loader.Node != "host-1" {
		t.Errorf("%+v, %+v, %+v", o.kube, o.node, o.loader)
	}
	o = parsed(t, append(base, "--fabric", "--fabric-peer", "host-2=2001:db8::2,192.0.2.12", "--fabric-peer", "host-1=192.0.2.11")...)
	want := "[host-1 [192.0.2.11] serving host-2 [192.0.2.12 2001:db8::2] serving]"
	if got := fmt.Sprint(o.node.Members); got != want {
		t.Errorf("members %s, want %s", got, want)
	}
}
