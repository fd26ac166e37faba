//go:build linux

package lab_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
	"github.com/kerngate/kerngate/test/lab/answer"
	"github.com/kerngate/kerngate/test/lab/websocket"
)

// The owner of TestSweep's lab is this test binary, started once more.
func TestMain(m *testing.M) {
	if os.Getenv("KGT_ORPHAN") != "" {
		makeOrphan()
	}
	os.Exit(m.Run())
}

func needLab(t *testing.T) {
	t.Helper()
	missing := lab.Missing()
	if missing == "" {
		return
	}
	if os.Getenv("KERNGATE_TEST_NO_SKIP") != "" {
		t.Fatalf("needs %s", missing)
	}
	t.Skipf("needs %s", missing)
}

func newLab(t *testing.T, nodes int) *lab.Lab {
	t.Helper()
	needLab(t)
	l, err := lab.New(lab.Options{Nodes: nodes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close lab: %v", err)
		}
		left, err := lab.Leftovers(l.Name)
		if err != nil || len(left) > 0 {
			t.Errorf("left behind after Close: %v, %v", left, err)
		}
	})
	return l
}

func buildPod(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := lab.Build(dir, "test/lab/pod"); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "pod")
}

// Every node reaches every pod, its own and those of other nodes, over both families, and
// the pod sees the node's own address.
func TestPodsAreReachableFromEveryNode(t *testing.T) {
	l := newLab(t, 2)
	binary := buildPod(t)
	for i, node := range l.Nodes {
		pod, err := node.AddPod(fmt.Sprintf("web-%d", i+1))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pod.Serve(binary, "web"); err != nil {
			t.Fatal(err)
		}
	}
	for _, from := range l.Nodes {
		for _, node := range l.Nodes {
			for _, address := range []netip.Addr{node.Pods[0].IPv4, node.Pods[0].IPv6} {
				if !address.IsValid() {
					t.Log("this machine has no IPv6")
					continue
				}
				got := ask(t, from.Host, netip.AddrPortFrom(address, lab.PodPort))
				if got.Pod != node.Pods[0].Name || got.Service != "web" {
					t.Errorf("%s asked %s: %s of service %s answered", from.Name, address, got.Pod, got.Service)
				}
				remote := netip.MustParseAddrPort(got.Remote).Addr().Unmap()
				if from != node && remote != from.IPv4 && remote != from.IPv6 {
					t.Errorf("%s asked %s: the pod saw it as %s", from.Name, address, remote)
				}
			}
		}
	}
}

func ask(t *testing.T, from *lab.Host, to netip.AddrPort) answer.Answer {
	t.Helper()
	response, err := from.HTTPClient(to).Get("http://example.com/path")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var got answer.Answer
	if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	return got
}

// The client sends packets for the ingress addresses to the node that RouteVIPs names.
func TestRouteVIPs(t *testing.T) {
	l := newLab(t, 2)
	for _, node := range l.Nodes {
		if err := l.RouteVIPs(node); err != nil {
			t.Fatal(err)
		}
		for _, vip := range []netip.Addr{l.VIP4, l.VIP6} {
			if !vip.IsValid() {
				continue
			}
			routes, err := l.Client.Links().RouteGet(net.IP(vip.AsSlice()))
			if err != nil || len(routes) != 1 {
				t.Fatalf("route to %s: %v, %v", vip, routes, err)
			}
			gateway, _ := netip.AddrFromSlice(routes[0].Gw)
			if gateway.Unmap() != node.IPv4 && gateway != node.IPv6 {
				t.Errorf("%s goes via %s, want %s", vip, gateway, node.Name)
			}
		}
	}
}

func TestWebSocketEcho(t *testing.T) {
	l := newLab(t, 1)
	pod, err := l.Nodes[0].AddPod("web-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pod.Serve(buildPod(t), "web"); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Client.Dial(context.Background(), "tcp", netip.AddrPortFrom(pod.IPv4, lab.PodPort).String())
	if err != nil {
		t.Fatal(err)
	}
	ws, err := websocket.Open(conn, "example.com", "/ws")
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1, 125, 126, 65535, 65536, 1 << 20} {
		if err := ws.Echo([]byte(strings.Repeat("y", size)), 5*time.Second); err != nil {
			t.Errorf("echo of %d bytes: %v", size, err)
		}
	}
	if err := ws.Close(); err != nil {
		t.Error(err)
	}
}

// Close also ends processes that a process of the lab left behind in a session of its own.
func TestCloseEndsDaemons(t *testing.T) {
	l := newLab(t, 1)
	node := l.Nodes[0]
	if _, err := node.Run(lab.Command{Path: "/bin/sh", Args: []string{"-c", "setsid sleep 600 >/dev/null 2>&1 &"}}); err != nil {
		t.Fatal(err)
	}
	var pids []int
	err := lab.Until(5*time.Second, "daemon in the node", func() (err error) {
		if pids, err = node.Processes("sleep"); err == nil && len(pids) == 0 {
			err = lab.ErrNotYet
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); err == nil {
			if state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(state), ") Z") {
				t.Errorf("process %d still runs after Close: %s", pid, state)
			}
		}
	}
}

// A process of the lab ends when its starter is killed, and the next lab removes what the
// dead one had.
func TestSweepRemovesTheLabOfADeadProcess(t *testing.T) {
	needLab(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	owner := exec.Command(self)
	owner.Env = append(os.Environ(), "KGT_ORPHAN=1")
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	var name string
	if _, err := fmt.Fscanln(out, &name); err != nil {
		t.Fatalf("read the orphan's name: %v", err)
	}
	if left, err := lab.Leftovers(name); err != nil || len(left) < 4 {
		t.Fatalf("the other process's lab %s has only %v, %v", name, left, err)
	}
	if err := lab.Sweep(); err != nil {
		t.Fatal(err)
	}
	if left, _ := lab.Leftovers(name); len(left) < 4 {
		t.Errorf("Sweep removed a lab whose owner lives; left is %v", left)
	}
	_ = owner.Process.Kill()
	_ = owner.Wait()
	if err := lab.Sweep(); err != nil {
		t.Fatal(err)
	}
	if left, err := lab.Leftovers(name); err != nil || len(left) > 0 {
		t.Errorf("after Sweep: %v, %v", left, err)
	}
}

// makeOrphan makes a lab with a process in it, says so, and waits to be killed.
func makeOrphan() {
	l, err := lab.New(lab.Options{Nodes: 1})
	if err == nil {
		_, err = l.Nodes[0].Start(lab.Command{Path: "/bin/sleep", Args: []string{"600"}})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(l.Name)
	time.Sleep(time.Minute)
	os.Exit(1)
}
