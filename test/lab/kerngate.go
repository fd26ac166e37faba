//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ProxyUser is the user and group id that the unprivileged proxy runs as.
const ProxyUser = 65532

// The names of Kerngate's executables; Binaries builds them side by side, because the agent
// looks for the proxy beside itself.
const (
	AgentBinary = "kerngate-agent"
	ProxyBinary = "kerngate-proxy"
	CtlBinary   = "kerngatectl"
)

// Binaries is a folder with the three executables and the pods' web server.
type Binaries string

// BuildAll compiles everything that a lab runs.
func BuildAll(dir string) (Binaries, error) {
	return Binaries(dir), Build(dir, "cmd/"+AgentBinary, "cmd/"+ProxyBinary, "cmd/"+CtlBinary, "test/lab/pod")
}

// Path is the executable of that name.
func (b Binaries) Path(name string) string { return filepath.Join(string(b), name) }

// Kerngate is an agent on a node, with what it needs around it. It can be started, killed
// and started again; what it pinned in between stays.
type Kerngate struct {
	Node      *Node
	Binaries  Binaries
	Manifests Manifests
	// Kubeconfig names a cluster to serve instead of the manifests.
	Kubeconfig string
	StateDir   string   // where the agent keeps the cluster's objects; "": they are not kept
	Agent      *Process // the one started last

	Uplink string // interface on which the agent expects clients; eth0

	// Extra arguments and environment for the agent.
	Args []string
	Env  []string
}

// NewKerngate prepares an agent for the node, with an empty folder of manifests.
func (n *Node) NewKerngate(binaries Binaries) (*Kerngate, error) {
	k := &Kerngate{Node: n, Binaries: binaries, Uplink: "eth0", Manifests: Manifests(filepath.Join(n.lab.Dir, n.Name, "manifests"))}
	for _, dir := range []string{string(k.Manifests), k.Spool()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	return k, os.Chown(k.Spool(), ProxyUser, ProxyUser)
}

// Spool is the folder for large request bodies.
func (k *Kerngate) Spool() string { return filepath.Join(k.Node.lab.Dir, k.Node.Name, "spool") }

// Pins is the folder of the maps and links on the node's bpffs.
func (k *Kerngate) Pins() string { return filepath.Join(k.Node.BPFFS, "kerngate") }

// Socket is the agent's unix socket.
func (k *Kerngate) Socket() string {
	return filepath.Join(k.Node.lab.Dir, k.Node.Name, "run", "agent.sock")
}

// MetricsAddress of the agent, on the node; ProxyMetricsAddress is the proxy's default.
const (
	MetricsAddress      = "127.0.0.1:9100"
	ProxyMetricsAddress = "127.0.0.1:9465"
)

// agentArgs is the agent's command line: the real defaults, except for the places.
func (k *Kerngate) agentArgs() []string {
	from := []string{"--manifests", string(k.Manifests)}
	if k.Kubeconfig != "" {
		from = []string{"--kubeconfig", k.Kubeconfig, "--state-dir", k.StateDir}
	}
	args := append(from,
		"--ingress-ip", k.Node.lab.VIP4.String(),
		"--interface", k.Uplink,
		"--bpffs", k.Pins(),
		"--socket", k.Socket(),
		"--node-name", k.Node.Name,
		"--metrics-address", MetricsAddress,
	)
	if k.runsProxy() { // else StartProxy names the folder
		args = append(args, "--request-spool-dir", k.Spool())
	}
	if k.Node.lab.VIP6.IsValid() {
		args = append(args, "--ingress-ip", k.Node.lab.VIP6.String())
	}
	return append(args, k.Args...)
}

// runsProxy reports whether the agent starts a proxy: with manifests it does unless told not to,
// for a cluster only if told to.
func (k *Kerngate) runsProxy() bool {
	if k.Kubeconfig != "" {
		return slices.Contains(k.Args, "--run-proxy")
	}
	return !slices.Contains(k.Args, "--run-proxy=false")
}

// Start starts the agent. It does not wait for anything.
func (k *Kerngate) Start() error {
	var err error
	k.Agent, err = k.Node.Start(Command{Path: k.Binaries.Path(AgentBinary), Args: k.agentArgs(), Env: k.Env})
	return err
}

// StartAnother starts an agent beside the one that runs, as an update of the DaemonSet does.
// It lacks capabilities, as setpriv names them. Its metrics are its own.
func (k *Kerngate) StartAnother(name string, lacks ...string) (*Process, error) {
	agent, args := k.Binaries.Path(AgentBinary), append(k.agentArgs(), "--metrics-address", "127.0.0.1:9101")
	if len(lacks) == 0 {
		return k.Node.Start(Command{Name: name, Path: agent, Args: args, Env: k.Env})
	}
	args = slices.Concat([]string{"--bounding-set", "-" + strings.Join(lacks, ",-"), agent}, args)
	return k.Node.Start(Command{Name: name, Path: "setpriv", Args: args, Env: k.Env})
}

// Ctl runs kerngatectl on the node.
func (k *Kerngate) Ctl(args ...string) (string, error) {
	return k.Node.Run(Command{
		Path: k.Binaries.Path(CtlBinary),
		Args: append(args, "--bpffs", k.Pins(), "--socket", k.Socket()),
	})
}

// StartProxy starts a proxy beside the one that the agent runs, as another DaemonSet pod
// would be during an upgrade.
func (k *Kerngate) StartProxy(name string, cpus []int, args ...string) (*Process, error) {
	return k.Node.Start(Command{
		Path: k.Binaries.Path(ProxyBinary),
		Args: append([]string{"--socket", k.Socket(), "--request-spool-dir", k.Spool()}, args...),
		Name: name,
		User: ProxyUser,
		CPUs: cpus,
	})
}

// ProxyPIDs lists the proxies on the node, those that left their agent's session too.
func (k *Kerngate) ProxyPIDs() ([]int, error) { return k.Node.Processes(ProxyBinary) }

// WaitServing waits until a request to each ingress address is answered by Kerngate, with
// whatever status. It returns early if the agent ends.
func (k *Kerngate) WaitServing(from *Host, limit time.Duration) error {
	vips := []netip.Addr{k.Node.lab.VIP4, k.Node.lab.VIP6}
	vips = slices.DeleteFunc(vips, func(vip netip.Addr) bool { return !vip.IsValid() })
	for _, vip := range vips {
		client := from.HTTPClient(netip.AddrPortFrom(vip, 80))
		// Short, because the kernel repeats a SYN that met no route only after a second.
		client.Timeout = 250 * time.Millisecond * patience
		var ended bool
		err := Until(limit, fmt.Sprintf("answer from %s", vip), func() error {
			select {
			case <-k.Agent.Done():
				ended = true
				return nil
			default:
			}
			response, err := client.Get("http://ready.invalid/")
			if err != nil {
				return err
			}
			return response.Body.Close()
		})
		client.CloseIdleConnections()
		if ended {
			err = errors.New("the agent has ended")
		}
		if err != nil {
			return fmt.Errorf("%w; its last words:\n%s", err, k.Agent.LogTail(10))
		}
	}
	return nil
}

// Uninstall stops the agent, if it runs, and removes what it made in kernel and bpffs.
func (k *Kerngate) Uninstall() (string, error) {
	if k.Agent != nil {
		select {
		case <-k.Agent.Done():
		default:
			if err := k.Agent.Stop(10 * time.Second); err != nil {
				return "", err
			}
		}
	}
	args := []string{"--uninstall", "--bpffs", k.Pins(), "--interface", k.Uplink, "--state-dir", k.StateDir}
	return k.Node.Run(Command{Path: k.Binaries.Path(AgentBinary), Args: args})
}
