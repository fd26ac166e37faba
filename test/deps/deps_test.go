// Package deps holds the direction of imports, which is the architecture in one list:
//
//	cmd -> userspace -> loader -> bpf
//
// A rule that only a document states is broken within a month; these are checked.
package deps

import (
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/kerngate/kerngate"

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Standard     bool
}

// list runs `go list` in the module's root.
func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports,Standard"}, args...)...)
	cmd.Dir = "../.."
	cmd.Env = append(cmd.Environ(), "GOOS=linux")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v", strings.Join(args, " "), err)
	}
	var pkgs []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); err == io.EOF {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// within reports whether path is dir or below it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, dir+"/")
}

func anyOf(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return within(path, dir) })
}

// A rule forbids packages to import others.
type rule struct {
	from   []string // packages of this module, and those below them
	except []string // of from: not held to the rule
	to     []string // may not be imported; prefixes of import paths
	allow  []string // of to: may be imported all the same
	why    string
}

func local(paths ...string) []string {
	for i, p := range paths {
		paths[i] = module + "/" + p
	}
	return paths
}

// everything is every package of the module.
var everything = []string{module}

var rules = []rule{
	{
		from: local("userspace"), to: local("cmd"),
		why: "imports run cmd -> userspace -> loader -> bpf: a command wires parts together, parts do not know it",
	},
	{
		from: local("loader"), to: local("cmd", "userspace"),
		why: "imports run cmd -> userspace -> loader -> bpf: the loader knows maps and plain values, not who wants them",
	},
	{
		from: local("bpf"), to: everything, allow: local("bpf", "loader"),
		why: "bpf/ is C; Go there may only test it, through the loader",
	},
	{
		from: local("cmd", "userspace", "loader"), to: local("test"),
		why: "the product does not link its tests",
	},
	{
		from:   everything,
		except: local("userspace/control/kube", "userspace/control/gateway", "userspace/control/cluster", "userspace/control/folder", "userspace/control/report", "userspace/control/owner", "userspace/control/agent", "cmd/kerngate-agent", "test", "manifests"),
		to:     []string{"k8s.io", "sigs.k8s.io"},
		allow:  []string{"sigs.k8s.io/yaml"}, // has nothing of Kubernetes in it
		why:    "Kubernetes ends in userspace/control/kube and its sources (cluster, folder) and reporter: everything behind it works on userspace/model",
	},
	{
		from: everything, except: local("loader", "test"),
		to:  []string{"github.com/cilium/ebpf"},
		why: "only the loader talks to BPF, so that there is one place which orders writes to the maps",
	},
	{
		from: everything, except: local("loader", "userspace/control/agent", "cmd/kerngate-agent", "test"),
		to:  []string{"github.com/vishvananda/netlink", "github.com/vishvananda/netns"},
		why: "routes and interfaces are changed by the loader, in one place that also undoes it",
	},
	{
		from: local("userspace/control/kube", "userspace/control/gateway", "userspace/control/cluster", "userspace/control/folder", "userspace/control/report"), to: local("userspace/proxy", "cmd/kerngate-proxy"),
		why: "the control plane and the byte path meet in the feed alone",
	},
	{
		from: local("userspace/proxy"), to: local("userspace/control/kube", "userspace/control/cluster", "userspace/control/folder", "userspace/control/report", "userspace/control/agent", "userspace/control/compile"),
		why: "the byte path and the control plane meet in the feed alone: the proxy must run without Kubernetes",
	},
	{
		from:   local("userspace"),
		except: local("userspace/proxy/http1", "userspace/proxy/client/server", "userspace/proxy/pod/upstream", "userspace/look/explain"),
		to:     local("userspace/proxy/http1"),
		why:    "HTTP/1.1 ends where its bytes are read and written: everything else works on package message (explain reads a request as the proxy would)",
	},
	{
		from: local("userspace/proxy", "cmd/kerngate-proxy"),
		to:   local("loader"), allow: local("loader/abi", "loader/view", "loader/state"),
		why: "the proxy faces the internet: it maps descriptors that it is given and links no code that loads, attaches or pins",
	},
	{
		from: local("cmd/kerngatectl"),
		to:   local("loader"), allow: local("loader/abi", "loader/inspect", "loader/lists", "loader/pins", "loader/state", "loader/view"),
		why: "who looks into a node, or changes its lists, attaches nothing there",
	},
	{
		from: local("loader/attach"),
		to:   local("loader"), allow: local("loader/abi", "loader/attach", "loader/datapath", "loader/pins"),
		why: "attaching a program takes no knowledge of what its maps hold",
	},
	{
		from: local("loader/datapath", "loader/pins", "loader/lists", "loader/inspect"),
		to:   local("loader"), allow: local("loader/abi", "loader/datapath", "loader/inspect", "loader/lists", "loader/pins", "loader/registry", "loader/sieve", "loader/state", "loader/view"),
		why: "programs, maps and pins know nothing of interfaces: what reads maps links none of the code that attaches programs",
	},
}

// stdOnly import the standard library and each other, nothing else.
var stdOnly = map[string]string{
	module + "/userspace/model":         "the desired state is plain values that every part can link",
	module + "/userspace/route":         "the matcher is linked by proxy and kerngatectl and judged by itself",
	module + "/userspace/look/status":   "what the agent tells is linked by agent and kerngatectl alike",
	module + "/userspace/text/template": "both planes and the model read templates",
	module + "/userspace/text/rule":     "both planes check rules by it, and each links only what it needs itself",
	module + "/loader/state":            "what the maps must hold is plain values, tested without a kernel",
	module + "/loader/abi":              "the layouts are linked by the proxy, which has no BPF code",
}

func TestImportDirection(t *testing.T) {
	for _, p := range list(t, "./...") {
		for _, r := range rules {
			if !anyOf(p.ImportPath, r.from) || anyOf(p.ImportPath, r.except) {
				continue
			}
			for _, imported := range p.Imports {
				if anyOf(imported, r.to) && !anyOf(imported, r.allow) {
					t.Errorf("%s imports %s\n\t%s", p.ImportPath, imported, r.why)
				}
			}
		}
		if why, ok := stdOnly[p.ImportPath]; ok {
			for _, imported := range p.Imports {
				if _, also := stdOnly[imported]; !also && strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") {
					t.Errorf("%s imports %s, but it may import the standard library alone\n\t%s", p.ImportPath, imported, why)
				}
			}
		}
	}
}

// TestRulesBite proves that each rule names packages that exist, so that renaming a
// folder cannot switch a rule off unseen.
func TestRulesBite(t *testing.T) {
	pkgs := list(t, "./...")
	exists := func(dir string) bool {
		return slices.ContainsFunc(pkgs, func(p pkg) bool { return within(p.ImportPath, dir) })
	}
	for _, r := range rules {
		if !slices.ContainsFunc(r.from, exists) && !slices.Equal(r.from, local("bpf")) {
			t.Errorf("no package below %v: a rule holds nothing\n\t%s", r.from, r.why)
		}
	}
	for path := range stdOnly {
		if !exists(path) {
			t.Errorf("%s does not exist: a rule holds nothing", path)
		}
	}
}

// forbiddenIn lists what the whole of a binary must not contain, however it got there.
var forbiddenIn = []struct {
	command string
	module  []string
	why     string
}{
	{
		"kerngate-proxy",
		[]string{"k8s.io", "sigs.k8s.io/controller-runtime", "sigs.k8s.io/structured-merge-diff"},
		"the proxy faces the internet and holds no Kubernetes credentials: it has no use for a client",
	},
	{
		"kerngatectl",
		[]string{"k8s.io/client-go"},
		"kerngatectl judges manifests and asks agents; of a cluster it asks kubectl",
	},
	{
		"kerngate-proxy",
		[]string{"github.com/cilium/ebpf", "github.com/vishvananda/netlink", "github.com/vishvananda/netns"},
		"the proxy has no capability: code that loads BPF or changes routes in it could only serve whoever broke in",
	},
}

func TestBinariesLinkOnlyWhatTheyNeed(t *testing.T) {
	for _, f := range forbiddenIn {
		for _, p := range list(t, "-deps", "./cmd/"+f.command) {
			if anyOf(p.ImportPath, f.module) {
				t.Errorf("%s links %s\n\t%s\n\tsee: go mod why, go list -deps ./cmd/%s", f.command, p.ImportPath, f.why, f.command)
			}
		}
	}
}

// TestProductLinksNoTestCode keeps helpers of tests, which are packages named like
// proxytest or below test/, out of the binaries.
func TestProductLinksNoTestCode(t *testing.T) {
	isHelper := func(path string) bool {
		return within(path, module) && (strings.HasSuffix(path, "test") || within(path, module+"/test"))
	}
	for _, p := range list(t, "./...") {
		if isHelper(p.ImportPath) {
			continue
		}
		for _, imported := range p.Imports {
			if imported == "testing" || isHelper(imported) || within(imported, "sigs.k8s.io/controller-runtime") {
				t.Errorf("%s imports %s outside of its tests\n\ta product binary does not carry test code", p.ImportPath, imported)
			}
		}
	}
}
