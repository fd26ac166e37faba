// Package controlplane tests the sources and reports of the agent on a real control plane:
// etcd, kube-apiserver and kube-controller-manager on loopback. Nothing of the API is
// faked; only nodes are missing, so tests write the status of pods themselves.
package controlplane

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Version of Kubernetes, as scripts/k8s-build names its folder.
const Version = "v1.37.2"

// Plane is a running control plane.
type Plane struct {
	Config *rest.Config // as cluster-admin

	place     Place
	dir       string
	binaries  string
	etcd      string
	port      int
	processes map[string]Running
}

// Place is where a control plane runs. The zero Place is this process's network namespace.
type Place struct {
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Run  func(name, path string, args ...string) (Running, error)
}

// Running is a process of a control plane.
type Running interface {
	Done() <-chan struct{}
	Kill()
	LogTail(lines int) string
}

type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

func (p *process) Done() <-chan struct{} { return p.done }

func (p *process) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

func (p *process) LogTail(n int) string {
	raw, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(bytes.TrimSpace(raw)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Missing says which executables are not there, and how to get them.
func Missing() error {
	binaries, err := folder()
	if err != nil {
		return err
	}
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-proxy"} {
		if _, err := os.Stat(filepath.Join(binaries, name)); err != nil {
			return fmt.Errorf("%s is missing: run scripts/k8s-build", name)
		}
	}
	if _, err := exec.LookPath("etcd"); err != nil {
		return errors.New("etcd is missing: install Debian's etcd-server")
	}
	return nil
}

func folder() (string, error) {
	cache := os.Getenv("KERNGATE_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(home, ".cache", "kerngate")
	}
	return filepath.Join(cache, "k8s-"+Version), nil
}

// Start starts a control plane with its data in dir.
func Start(dir string) (*Plane, error) { return StartIn(dir, Place{}) }

// StartIn is Start somewhere else.
func StartIn(dir string, place Place) (_ *Plane, err error) {
	binaries, err := folder()
	if err != nil {
		return nil, err
	}
	p := &Plane{place: place, dir: dir, binaries: binaries, processes: map[string]Running{}}
	defer func() {
		if err != nil {
			p.Stop()
		}
	}()
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	p.port, p.etcd = ports[0], fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	peer := fmt.Sprintf("http://127.0.0.1:%d", ports[2])
	if err := p.writeFiles(); err != nil {
		return nil, err
	}
	if err := p.start("etcd", "etcd", "--data-dir", filepath.Join(dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls", p.etcd, "--advertise-client-urls", p.etcd,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer); err != nil {
		return nil, err
	}
	if err := p.StartAPIServer(); err != nil {
		return nil, err
	}
	return p, p.StartControllerManager()
}

// StartControllerManager starts the controller manager (again). After an outage of the API server
// its own watches would come back as late as half a minute.
func (p *Plane) StartControllerManager() error {
	return p.start("kube-controller-manager", filepath.Join(p.binaries, "kube-controller-manager"),
		"--kubeconfig", p.Kubeconfig(), "--service-account-private-key-file", filepath.Join(p.dir, "sa.key"),
		"--leader-elect=false", "--bind-address", "127.0.0.1", "--secure-port", "0",
		"--controllers", "endpointslice-controller,serviceaccount-controller,namespace-controller,root-ca-certificate-publisher-controller")
}

// adminToken is known to the API server of this test alone, on loopback.
const adminToken = "controlplane-test"

func (p *Plane) writeFiles() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	kubeconfig := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://127.0.0.1:%d", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: %s}}]
contexts: [{name: test, context: {cluster: test, user: admin}}]
current-context: test
`, p.port, adminToken)
	return errors.Join(
		os.WriteFile(filepath.Join(p.dir, "sa.key"), text, 0o600),
		os.WriteFile(filepath.Join(p.dir, "tokens.csv"), []byte(adminToken+",admin,admin,system:masters\n"), 0o600),
		os.WriteFile(filepath.Join(p.dir, "admin.kubeconfig"), []byte(kubeconfig), 0o600),
	)
}

// StartAPIServer starts the API server (again) and waits until it is ready.
func (p *Plane) StartAPIServer() error {
	key := filepath.Join(p.dir, "sa.key")
	if err := p.start("kube-apiserver", filepath.Join(p.binaries, "kube-apiserver"),
		"--etcd-servers", p.etcd, "--bind-address", "127.0.0.1", "--secure-port", fmt.Sprint(p.port),
		"--advertise-address", "127.0.0.1", "--endpoint-reconciler-type", "none",
		"--cert-dir", filepath.Join(p.dir, "certs"), "--token-auth-file", filepath.Join(p.dir, "tokens.csv"),
		"--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.96.0.0/16,fd00:10:96::/112",
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", key, "--service-account-signing-key-file", key); err != nil {
		return err
	}
	p.Config = &rest.Config{
		Host:            fmt.Sprintf("https://127.0.0.1:%d", p.port),
		BearerToken:     adminToken,
		TLSClientConfig: rest.TLSClientConfig{Insecure: true},
		QPS:             -1,
		Dial:            p.place.Dial,
	}
	client, err := kubernetes.NewForConfig(p.Config)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(5 * time.Minute) // emulated machines take their time
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-p.processes["kube-apiserver"].Done():
			return fmt.Errorf("kube-apiserver has ended:\n%s", p.processes["kube-apiserver"].LogTail(20))
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("kube-apiserver is not ready after five minutes: %w\n%s", err, p.processes["kube-apiserver"].LogTail(20))
		}
	}
}

// Binary is the executable of that name, as scripts/k8s-build makes it.
func (p *Plane) Binary(name string) string { return filepath.Join(p.binaries, name) }

// Kubeconfig is a file by which the API server can be reached as cluster-admin.
func (p *Plane) Kubeconfig() string { return filepath.Join(p.dir, "admin.kubeconfig") }

func (p *Plane) start(name, path string, args ...string) (err error) {
	if p.place.Run != nil {
		p.processes[name], err = p.place.Run(name, path, args...)
		return err
	}
	log, err := os.Create(filepath.Join(p.dir, name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	// Should the test die without cleaning up, these die with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	started := &process{cmd: cmd, log: log.Name(), done: make(chan struct{})}
	p.processes[name] = started
	go func() {
		cmd.Wait()
		close(started.done)
	}()
	return nil
}

// Kill ends one process at once.
func (p *Plane) Kill(name string) {
	if proc := p.processes[name]; proc != nil {
		proc.Kill()
	}
}

// Stop ends everything. The API server goes first: without etcd it would wait.
func (p *Plane) Stop() {
	for _, name := range []string{"kube-controller-manager", "kube-apiserver", "etcd"} {
		p.Kill(name)
	}
}

// freePorts asks the kernel for TCP ports on loopback that nobody has.
func freePorts(n int) (ports []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all are held until all are known
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
