package programs

// prerequisites are what the README asks for before anything is installed; gofmt comes with Go.
var prerequisites = []string{"go", "gofmt", "git", "make"}

// exempt are programs that no group of scripts/setup has to install, or not for one script.
var exempt = map[string]string{
	"kubectl":           "kerngatectl check --cluster runs the operator's own; its tests put one of their own into PATH",
	"helm-build":        "a script of this repository, which runs Go and nothing else that is not of Debian's base system",
	"scripts/demo: nft": "only tests call lab.Kerngate.Inventory",
	"ipvsadm":           "make bench-l4 measures IPVS where the kernel has it and ipvsadm is installed, and says so where not",
}

// indirect are programs that another program runs, which neither Go code nor a script shows: by
// script, or by stage of scripts/test.
var indirect = []struct{ by, program, why string }{
	{"race", "gcc", "go test -race links with cgo"},
	{"controlplane", "nft", "kube-proxy in its mode nftables"},
	{"controlplane", "iptables", "kube-proxy in its mode iptables"},
	{"controlplane", "ipset", "kube-proxy in its mode ipvs"},
	{"scripts/vm-matrix", "iptables", "copied into a machine for kube-proxy, by with_libraries"},
	{"scripts/vm-matrix", "ipset", "copied into a machine for kube-proxy, by with_libraries"},
	{"scripts/vm-matrix", "etcd", "copied into a machine for kube-proxy, by with_libraries"},
	{"make generate", "clang-19", "bpf2go compiles the BPF C with it (go:generate)"},
	{"make generate", "llvm-strip-19", "bpf2go strips the BPF objects with it (go:generate)"},
	{"make generate", "protoc", "compiles the feed's messages (go:generate)"},
}

const (
	built = "built by this repository, or by scripts/k8s-build or scripts/applications-build"
	flag  = "a variable that is true or false"
)

// followedGo is Go code whose program the analysis cannot follow, with the reason why no package
// has to be installed for it.
var followedGo = map[string]string{
	"cmd/kerngate-agent: f.proxyBinary":                      "the operator's choice: --proxy-binary",
	"cmd/kerngate-agent: filepath.Abs()":                     built,
	"cmd/kerngate-agent: filepath.Join()":                    built,
	"test/applications: elements of args":                    "svnadmin, from scripts/setup applications, and chown",
	"test/applications: filepath.Join()":                     "PostgreSQL's initdb, which Debian keeps out of PATH: scripts/setup applications",
	"test/applications: builtProgram()":                      built,
	"test/applications: w.program()":                         built,
	"test/applications: phpBinary()":                         "php-fpm, which has a version in its name: scripts/setup applications",
	"test/applications: s.listen()":                          "no program: listen of lab.Pod has a parameter of that name",
	"test/attack: filepath.Join()":                           built,
	"test/attack: k.Binaries.Path()":                         built,
	"test/bench: filepath.Join()":                            built,
	"test/bench: k.Binaries.Path()":                          built,
	"test/benchcontrol: bin.Path()":                          built,
	"test/benchcontrol: a function literal's parameter path": "etcd and what scripts/k8s-build builds, as test/controlplane runs them",
	"test/conformance/ingress: binaries.Path()":              built,
	"test/conformance/ingress: plane.Binary()":               built,
	"test/controlplane: helm.path":                           "scripts/helm-build builds it",
	"test/controlplane: filepath.Join()":                     built,
	"test/e2e: bin.Path()":                                   built,
	"test/e2e: s.Binaries.Path()":                            built,
	"test/e2e: pod.Listen()":                                 "no program: listen of lab.Pod has a parameter of that name",
	"test/flood: binaries.Path()":                            built,
	"test/h2spec: build()":                                   built,
	"test/lab: buildPod()":                                   built,
	"test/lab: k.Binaries.Path()":                            built,
	"test/lab/demo: filepath.Join()":                         built,
	"test/vm/init: elements of filepath.Glob()":              "the tests that scripts/vm-matrix put into the machine",
	"userspace/feed: filepath.Join()":                        "a copy of this very program",
}

// followedShell: the same for words of scripts.
var followedShell = map[string]string{
	"scripts/attack: \"$bin/attack\"":               built,
	"scripts/bench-control: \"$work/benchcontrol\"": built,
	"scripts/bench-flood: \"$work/flood\"":          built,
	"scripts/bench-l4: \"$work/benchl4\"":           built,
	"scripts/bench: \"$bin/bench\"":                 built,
	"scripts/chart-render: \"$helm\"":               "scripts/helm-build builds it",
	"scripts/demo: \"$bin/demo\"":                   built,
	"scripts/images-build: \"$work/images\"":        built,
	"scripts/setup: \"$proof\"":                     "what scripts/setup looks for",
	"scripts/setup: $list":                          flag,
	"scripts/test-bare: \"${environment[@]}\"":      "assignments for env, and then scripts of this repository",
	"scripts/test-bare: $keep":                      flag,
	"scripts/test-bare: $shell":                     flag,
	"scripts/test: \"$logs/gotest\"":                built,
	"scripts/test: \"$name\"":                       "a stage: a function of the script",
	"scripts/test: $root":                           flag,
	"scripts/vm-matrix: \"$program\"":               "see with_libraries among those that run indirectly",
	"scripts/vm-matrix: \"${tool%%:*}\"":            "programs that the script runs below",
}
