//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// echoPort is where the pods' echo services listen, TCP and UDP; l4Port is where they are
// published.
const (
	echoPort = 7000
	l4Port   = 5000
)

// serveEcho has a pod answer every line and datagram with "POD CLIENT TEXT", until the test
// ends. It closes the connection of a client that says "bye".
func serveEcho(t *testing.T, pod *lab.Pod) {
	t.Helper()
	for _, network := range []string{"tcp4", "tcp6"} {
		listener, err := pod.Listen(network, fmt.Sprintf(":%d", echoPort))
		must(t, err)
		t.Cleanup(func() { listener.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					lines := bufio.NewScanner(conn)
					lines.Buffer(nil, 1<<20)
					for lines.Scan() {
						if lines.Text() == "bye" {
							return
						}
						fmt.Fprintf(conn, "%s %s %s\n", pod.Name, conn.RemoteAddr(), lines.Text())
					}
				}()
			}
		}()
	}
	for _, network := range []string{"udp4", "udp6"} {
		var socket net.PacketConn
		must(t, pod.Do(func() (err error) {
			socket, err = net.ListenPacket(network, fmt.Sprintf(":%d", echoPort))
			return err
		}))
		t.Cleanup(func() { socket.Close() })
		go func() {
			buffer := make([]byte, 1<<16)
			for {
				n, from, err := socket.ReadFrom(buffer)
				if err != nil {
					return
				}
				socket.WriteTo(fmt.Appendf(nil, "%s %s %s\n", pod.Name, from, bytes.TrimSpace(buffer[:n])), from)
			}
		}()
	}
}

// l4Objects describes the echo service on the ingress addresses with these pods.
func l4Objects(spec lab.Object, pods ...*lab.Pod) []lab.Object {
	ports := []lab.Object{{"name": "echo", "port": l4Port, "protocol": "TCP"}, {"name": "echo-udp", "port": l4Port, "protocol": "UDP"}}
	service := lab.Object{
		"apiVersion": "v1", "kind": "Service", "metadata": lab.Object{"name": "echo", "namespace": "default"},
		"spec": lab.Object{
			"type": "LoadBalancer", "loadBalancerClass": "kerngate.dev/kerngate", "ports": ports,
			"ipFamilies": []string{"IPv4", "IPv6"},
		},
	}
	for k, v := range spec {
		service["spec"].(lab.Object)[k] = v
	}
	objects := []lab.Object{service}
	for _, six := range []bool{false, true} {
		var endpoints []lab.Endpoint
		for _, pod := range pods {
			endpoints = append(endpoints, pod.Endpoint(six))
		}
		slice := lab.EndpointSlice("echo", endpoints...)
		slice["ports"] = []lab.Object{{"name": "echo", "port": echoPort, "protocol": "TCP"}, {"name": "echo-udp", "port": echoPort, "protocol": "UDP"}}
		objects = append(objects, slice)
	}
	return objects
}

// echoes is a connection to the echo service.
type echoes struct {
	net.Conn
	lines *bufio.Reader
}

func (s *site) dialEcho(network string, vip netip.Addr) (*echoes, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	conn, err := s.lab.Client.Dial(ctx, network, netip.AddrPortFrom(vip, l4Port).String())
	if err != nil {
		return nil, err
	}
	return &echoes{conn, newLines(conn)}, nil
}

func newLines(conn net.Conn) *bufio.Reader { return bufio.NewReaderSize(conn, 1<<17) }

// ask sends a text and returns the pod that answered; it fails if the pod saw another
// client than this, or another text.
func (e *echoes) ask(text string) (pod string, err error) {
	e.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintf(e, "%s\n", text); err != nil {
		return "", err
	}
	line, err := e.lines.ReadString('\n')
	if err != nil {
		return "", err
	}
	fields := strings.SplitN(strings.TrimSpace(line), " ", 3)
	if len(fields) != 3 || fields[1] != e.LocalAddr().String() || strings.TrimSpace(fields[2]) != text {
		return "", fmt.Errorf("answer %.80q: want client %s and the text that was sent", line, e.LocalAddr())
	}
	return fields[0], nil
}

// newL4Site is a lab with the echo service on some pods beside a web site.
func newL4Site(t *testing.T, pods int, args ...string) (*site, []*lab.Pod) {
	t.Helper()
	s := prepareSite(t, 1, []app{{"intro", 1}}, lab.Path{Host: "host.example.com", Service: "intro"})
	s.Args = args
	var echo []*lab.Pod
	for i := range pods {
		pod, err := s.lab.Nodes[0].AddPod(fmt.Sprintf("echo-%d", i+1))
		must(t, err)
		serveEcho(t, pod)
		echo = append(echo, pod)
	}
	must(t, s.Manifests.Write("echo.yaml", l4Objects(nil, echo...)...))
	s.start()
	return s, echo
}

// l4Hooks are the places where packets are forwarded. XDP on a veth needs a peer that
// finishes checksums.
func l4Hooks(t *testing.T, f func(t *testing.T, args []string, before func(*site))) {
	t.Run("tc", func(t *testing.T) { f(t, nil, func(*site) {}) })
	t.Run("tc without native XDP", func(t *testing.T) { f(t, []string{"--xdp-mode", "generic"}, func(*site) {}) })
	for _, mode := range []string{"native", "generic"} {
		t.Run("xdp "+mode, func(t *testing.T) {
			f(t, []string{"--l4-hook", "xdp", "--xdp-mode", mode}, func(s *site) {
				must(t, s.lab.Client.FinishChecksums("eth0"))
			})
		})
	}
}

// TestL4: TCP and UDP in both families reach all pods, which see the client's own address,
// and the site beside it goes on being served.
func TestL4(t *testing.T) {
	l4Hooks(t, func(t *testing.T, args []string, before func(*site)) {
		s, pods := newL4Site(t, 3, args...)
		before(s)
		for _, vip := range s.vips() {
			for _, network := range []string{"tcp", "udp"} {
				seen := map[string]int{}
				for range 30 {
					e, err := s.dialEcho(network, vip)
					must(t, err)
					for _, text := range []string{"hello", strings.Repeat("x", 1200), strings.Repeat("long", 2000)} {
						pod, err := e.ask(text) // the last one is several segments, or fragments
						if err != nil {
							t.Fatalf("%s to %s, %d bytes: %v", network, vip, len(text), err)
						}
						seen[pod]++
					}
					e.Close()
				}
				if len(seen) != len(pods) {
					t.Errorf("%s to %s: 30 connections went to %v", network, vip, seen)
				}
			}
		}
		r, err := s.do("GET", "http://host.example.com/", nil)
		if err != nil || r.Status != 200 {
			t.Errorf("the site beside it: %v, %+v", err, r)
		}
	})
}

// TestL4BackendChange: pods come and go, the agent is killed and started, and no open
// connection breaks; new ones go to those that are ready.
func TestL4BackendChange(t *testing.T) {
	s, pods := newL4Site(t, 4)
	const open = 40
	connections := make([]*echoes, open)
	at := make([]string, open)
	for i := range connections {
		var err error
		connections[i], err = s.dialEcho("tcp", s.vips()[i%len(s.vips())])
		must(t, err)
		defer connections[i].Close()
		at[i], err = connections[i].ask("first")
		must(t, err)
	}
	all := func(when string) {
		t.Helper()
		for i, c := range connections {
			if pod, err := c.ask(when); err != nil || pod != at[i] {
				t.Errorf("%s: connection %d, at %s, is answered by %q, %v", when, i, at[i], pod, err)
			}
		}
	}
	for _, left := range [][]*lab.Pod{pods[:2], pods[2:], pods[1:2], pods} {
		must(t, s.Manifests.Write("echo.yaml", l4Objects(nil, left...)...))
		ready := map[string]bool{}
		for _, p := range left {
			ready[p.Name] = true
		}
		must(t, lab.Until(5*time.Second, "change of pods", func() error {
			for range 8 {
				e, err := s.dialEcho("tcp", s.lab.VIP4)
				if err != nil {
					return err
				}
				pod, err := e.ask("new")
				e.Close()
				if err != nil {
					return err
				}
				if !ready[pod] {
					return fmt.Errorf("%s gets new connections", pod)
				}
			}
			return nil
		}))
		all(fmt.Sprintf("with %d pods ready", len(left)))
	}
	s.Agent.Kill()
	all("without an agent")
	must(t, s.Kerngate.Start())
	must(t, s.WaitServing(s.lab.Client, 20*time.Second))
	all("with another agent")
}

// TestL4Settings: source ranges and what has no pods is refused, and the commands show it.
func TestL4Settings(t *testing.T) {
	s, pods := newL4Site(t, 2)
	write := func(spec lab.Object, pods ...*lab.Pod) {
		must(t, s.Manifests.Write("echo.yaml", l4Objects(spec, pods...)...))
	}
	dial := func() (pod string, err error) {
		e, err := s.dialEcho("tcp", s.lab.VIP4)
		if err != nil {
			return "", err
		}
		defer e.Close()
		return e.ask("hello")
	}
	out, err := s.Ctl("services")
	must(t, err)
	for _, want := range []string{"default/echo:echo/tcp4", "default/echo:echo-udp/udp6", "maglev"} {
		if !strings.Contains(out, want) {
			t.Errorf("kerngatectl services does not show %q:\n%s", want, out)
		}
	}
	out, err = s.Ctl("status")
	must(t, err)
	for _, want := range []string{"kg_ingress", "kg_egress", fmt.Sprintf("%s:%d/UDP (L4 default/echo:echo-udp/udp4)", s.lab.VIP4, l4Port)} {
		if !strings.Contains(out, want) {
			t.Errorf("kerngatectl status does not show %q:\n%s", want, out)
		}
	}

	write(lab.Object{"sessionAffinity": "ClientIP"}, pods...)
	must(t, lab.Until(5*time.Second, "affinity", func() error {
		seen := map[string]bool{}
		for range 20 {
			pod, err := dial()
			if err != nil {
				return err
			}
			seen[pod] = true
		}
		if len(seen) != 1 {
			return fmt.Errorf("connections of one client went to %v", seen)
		}
		return nil
	}))

	write(nil) // no pods
	must(t, lab.Until(5*time.Second, "refusal", func() error {
		if _, err := dial(); err == nil || !strings.Contains(err.Error(), "refused") {
			return fmt.Errorf("without pods: %v", err)
		}
		return nil
	}))

	write(lab.Object{"loadBalancerSourceRanges": []string{"198.51.100.0/24"}}, pods...)
	must(t, lab.Until(20*time.Second, "time-out", func() error {
		var timeout net.Error
		if _, err := dial(); !errors.As(err, &timeout) || !timeout.Timeout() {
			return fmt.Errorf("from outside of the ranges: %v", err)
		}
		return nil
	}))
	write(lab.Object{"loadBalancerSourceRanges": []string{s.lab.Client.IPv4.String() + "/32"}}, pods...)
	must(t, lab.Until(10*time.Second, "answer", func() error {
		_, err := dial()
		return err
	}))

	must(t, s.Manifests.Remove("echo.yaml"))
	must(t, lab.Until(5*time.Second, "end of the programs", func() error {
		out, err := s.Ctl("status")
		if err == nil && regexp.MustCompile(`kg_egress +eth0`).MatchString(out) {
			err = errors.New("kg_egress is still attached")
		}
		return err
	}))
}

// TestL4PathMTU: where the path takes smaller packets than both ends, a router's ICMP error
// reaches the end that sends too much: the client, about a pod that it does not know, and
// the pod, about an address that is not its own.
func TestL4PathMTU(t *testing.T) {
	s := prepareSite(t, 2, []app{{"intro", 1}}, lab.Path{Host: "host.example.com", Service: "intro"})
	node, router := s.lab.Nodes[0], s.lab.Nodes[1]
	pod, err := node.AddPod("echo-1")
	must(t, err)
	serveEcho(t, pod)
	must(t, s.Manifests.Write("echo.yaml", l4Objects(nil, pod)...))
	s.start()

	// Towards the pod: the node's bridge is narrow.
	must(t, node.SetMTU("cni0", 1300))
	// Towards the client: replies go by the other node, whose way to the client is narrow.
	for _, way := range []struct {
		client, vip  netip.Addr
		node, router netip.Addr
	}{
		{s.lab.Client.IPv4, s.lab.VIP4, node.IPv4, router.IPv4},
		{s.lab.Client.IPv6, s.lab.VIP6, node.IPv6, router.IPv6},
	} {
		if !way.vip.IsValid() {
			continue
		}
		must(t, node.RouteHost(way.client, way.router, 0))
		must(t, router.RouteHost(way.client, netip.Addr{}, 1350))
		must(t, router.RouteHost(way.vip, way.node, 0))
		e, err := s.dialEcho("tcp", way.vip)
		must(t, err)
		if _, err := e.ask(strings.Repeat("large", 12000)); err != nil {
			t.Errorf("%s: %v", way.vip, err)
		}
		e.Close()
	}
	metrics, err := s.Ctl("status", "-o", "json")
	must(t, err)
	var status struct {
		Kernel struct {
			Counters []struct {
				Program, Reason string
				Count           int
			}
		}
	}
	must(t, json.Unmarshal([]byte(metrics), &status))
	for _, want := range []string{"kg_ingress", "kg_egress"} {
		n := 0
		for _, c := range status.Kernel.Counters {
			if c.Program == want && c.Reason == "l4_icmp" {
				n = c.Count
			}
		}
		if n < len(s.vips()) {
			t.Errorf("%s translated %d ICMP errors, want one per family at least", want, n)
		}
	}
}

// TestL4Refused: what the pod refuses reaches the client as coming from the ingress address.
func TestL4Refused(t *testing.T) {
	s, pods := newL4Site(t, 1)
	objects := l4Objects(nil, pods...)
	for _, o := range objects[1:] { // a port on which nobody listens
		o["ports"] = []lab.Object{{"name": "echo", "port": 9, "protocol": "TCP"}, {"name": "echo-udp", "port": 9, "protocol": "UDP"}}
	}
	must(t, s.Manifests.Write("echo.yaml", objects...))
	for _, vip := range s.vips() {
		for _, network := range []string{"tcp", "udp"} {
			must(t, lab.Until(5*time.Second, "refusal", func() error {
				e, err := s.dialEcho(network, vip)
				if err == nil {
					_, err = e.ask("hello") // UDP: the ICMP error comes with the next call
					e.Close()
				}
				if err == nil || !strings.Contains(err.Error(), "refused") {
					return fmt.Errorf("%s to %s: %v", network, vip, err)
				}
				return nil
			}))
		}
	}
}

// TestL4Bulk: many connections at once, each with a megabyte both ways.
func TestL4Bulk(t *testing.T) {
	l4Hooks(t, func(t *testing.T, args []string, before func(*site)) {
		s, _ := newL4Site(t, 2, args...)
		before(s)
		var work sync.WaitGroup
		failed := make(chan error, 20)
		for i := range 20 {
			work.Go(func() {
				e, err := s.dialEcho("tcp", s.vips()[i%len(s.vips())])
				if err == nil {
					defer e.Close()
					for n := 0; n < 20 && err == nil; n++ {
						_, err = e.ask(strings.Repeat("bulk", 12500))
					}
				}
				if err != nil && !errors.Is(err, io.EOF) {
					failed <- err
				}
			})
		}
		work.Wait()
		close(failed)
		for err := range failed {
			t.Error(err)
		}
	})
}
