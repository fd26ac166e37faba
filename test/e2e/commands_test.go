//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/kerngate/kerngate/test/lab"
)

// A mistake in the command line or in a file costs one clear line and exit status 2.
func TestBadFlags(t *testing.T) {
	bin := binaries(t)
	dir := t.TempDir()
	config := lab.Manifests(dir)
	must(t, config.WriteText("broken.yaml", "http-port: [not, a, port]\n"))
	must(t, config.WriteText("unknown.yaml", "no-such-setting: 1\n"))
	for _, args := range [][]string{
		{lab.AgentBinary, "--no-such-flag"},
		{lab.AgentBinary, "unexpected-argument"},
		{lab.AgentBinary, "--manifests", filepath.Join(dir, "missing"), "--ingress-ip", "203.0.113.10"},
		{lab.AgentBinary, "--manifests", dir, "--ingress-ip", "not-an-address"},
		{lab.AgentBinary, "--manifests", dir, "--ingress-ip", "203.0.113.10", "--http-port", "99999"},
		{lab.AgentBinary, "--manifests", dir, "--kubeconfig", dir + "/config", "--ingress-ip", "203.0.113.10"},
		{lab.AgentBinary, "--manifests", dir, "--ingress-ip", "203.0.113.10", "--log-level", "loud"},
		{lab.AgentBinary, "--config", filepath.Join(dir, "missing.yaml")},
		{lab.AgentBinary, "--config", filepath.Join(dir, "broken.yaml")},
		{lab.AgentBinary, "--config", filepath.Join(dir, "unknown.yaml")},
		{lab.ProxyBinary, "--no-such-flag"},
		{lab.ProxyBinary, "--workers", "-1"},
		{lab.ProxyBinary, "--workers", "many"},
		{lab.ProxyBinary, "--log-level", "loud"},
		{lab.ProxyBinary, "unexpected-argument"},
		{lab.CtlBinary, "no-such-command"},
		{lab.CtlBinary, "status", "-o", "xml"},
		{lab.CtlBinary, "explain"},
		{lab.CtlBinary, "explain", "http://[bad/"},
	} {
		cmd := exec.Command(bin.Path(args[0]), args[1:]...)
		var stderr, stdout strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := runFor(cmd, 10*time.Second)
		text := strings.TrimRight(stderr.String(), "\n")
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 {
			t.Errorf("%v: %v, want exit status 2; stderr: %s", args, err, text)
			continue
		}
		if text == "" || strings.Contains(text, "\n") || stdout.Len() > 0 {
			t.Errorf("%v: want one line on stderr and nothing on stdout, got %q and %q", args, text, stdout.String())
		}
	}
}

// runFor runs a command that must end by itself.
func runFor(cmd *exec.Cmd, limit time.Duration) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	timer := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	return cmd.Wait()
}

// Each program explains itself.
func TestHelpAndVersion(t *testing.T) {
	bin := binaries(t)
	for _, name := range []string{lab.AgentBinary, lab.ProxyBinary, lab.CtlBinary} {
		out, err := exec.Command(bin.Path(name), "--help").Output()
		if err != nil || !strings.Contains(string(out), "--socket") || !strings.Contains(string(out), name) {
			t.Errorf("%s --help: %v, %q", name, err, out)
		}
	}
}

// backendInfo is what `kerngatectl backends -o json` says of one backend.
type backendInfo struct {
	Address  string   `json:"address"`
	Pod      string   `json:"pod"`
	Node     string   `json:"node"`
	Services []string `json:"services"`
	InFlight uint64   `json:"inFlight"`
	Requests uint64   `json:"requests"`
	Failures uint64   `json:"failures"`
}

func (s *site) backends() ([]backendInfo, error) {
	out, err := s.Ctl("backends", "-o", "json")
	if err != nil {
		return nil, err
	}
	var list struct {
		Backends []backendInfo `json:"backends"`
	}
	return list.Backends, json.Unmarshal([]byte(out), &list)
}

// kerngatectl against a running agent: what it says is what clients saw, in each format.
func TestKerngatectl(t *testing.T) {
	s := newSite(t, 2, []app{{"web", 3}, {"info", 1}},
		lab.Path{Host: webHost, Service: "web"}, lab.Path{Host: webHost, Path: "/info", Service: "info"})
	answered := make(map[string]uint64)
	for range 40 {
		answered["default/"+s.get("http://"+webHost+"/").Pod.Pod]++
	}

	for _, args := range [][]string{{"status"}, {"routes"}, {"services"}, {"backends"}, {"problems"}, {"explain", "http://" + webHost + "/info"}} {
		for _, format := range []string{"table", "json", "yaml"} {
			out, err := s.Ctl(append(slices.Clone(args), "-o", format)...)
			if err != nil {
				t.Errorf("kerngatectl %v -o %s: %v", args, format, err)
				continue
			}
			var value map[string]any
			switch format {
			case "json":
				err = json.Unmarshal([]byte(out), &value)
			case "yaml":
				err = yaml.UnmarshalStrict([]byte(out), &value)
			}
			if err != nil {
				t.Errorf("kerngatectl %v -o %s does not parse: %v\n%s", args, format, err, out)
			}
		}
	}

	backends, err := s.backends()
	must(t, err)
	requests := make(map[string]uint64)
	for _, b := range backends {
		requests[b.Pod] = b.Requests
		if b.InFlight != 0 || b.Failures != 0 {
			t.Errorf("backend %s has %d in flight and %d failures after the load", b.Pod, b.InFlight, b.Failures)
		}
	}
	if len(backends) != 4 {
		t.Errorf("%d backends, want 4: %+v", len(backends), backends)
	}
	for pod, n := range answered {
		if requests[pod] != n {
			t.Errorf("pod %s answered %d requests; the maps say %d", pod, n, requests[pod])
		}
	}

	out, err := s.Ctl("services")
	must(t, err)
	for _, want := range []string{"default/web:http", "default/info:http"} {
		if !strings.Contains(out, want) && !strings.Contains(out, strings.Replace(want, ":http", ":80", 1)) {
			t.Errorf("services does not name %s:\n%s", want, out)
		}
	}
	out, err = s.Ctl("explain", "http://"+webHost+"/info/x")
	must(t, err)
	for _, want := range []string{"/info", "default/info", "10.244.1.14:8080", "info-1"} {
		if !strings.Contains(out, want) && !strings.Contains(out, strings.Replace(want, ".1.14", ".1.13", 1)) {
			t.Errorf("explain does not name %s:\n%s", want, out)
		}
	}
	out, err = s.Ctl("explain", "http://unknown.test/")
	if err != nil || !strings.Contains(out, "404") {
		t.Errorf("explain of an unknown host: %v\n%s", err, out)
	}

	// Without an agent the maps still speak, and the errors say what to do.
	s.Agent.Kill()
	if out, err := s.Ctl("services"); err != nil || !strings.Contains(out, "default/web") {
		t.Errorf("services without an agent: %v\n%s", err, out)
	}
	if _, err := s.Ctl("routes"); err == nil || !strings.Contains(err.Error(), "agent") {
		t.Errorf("routes without an agent: %v; want an error that speaks of the agent", err)
	}
}
