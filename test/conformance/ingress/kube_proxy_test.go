//go:build linux

package ingress

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kerngate/kerngate/test/lab"
	"github.com/kerngate/kerngate/test/lab/answer"
)

// TestBesideKubeProxy: the real kube-proxy, in each of its modes, on the same node: Services'
// own addresses are its, the ingress addresses are ours, for HTTP and for an L4 Service, which
// kube-proxy knows as well. All are served at once, from outside and (its own) from a pod.
//
// It is no scenario of the conformance suite, but needs the same cluster.
func TestBesideKubeProxy(t *testing.T) {
	for _, mode := range []string{"nftables", "iptables", "ipvs"} {
		if _, err := os.Stat("/proc/net/ip_vs"); mode == "ipvs" && err != nil {
			// Not skipped, as there is nothing that one could install: the kernel of this
			// machine decides, and with it what its kube-proxy can do.
			t.Log("LEFT OUT: mode ipvs: this kernel has no IPVS (CONFIG_IP_VS); SUITE=kube-proxy scripts/vm-matrix runs it on one that has")
			continue
		}
		t.Run(mode, func(t *testing.T) { besideKubeProxy(t, mode) })
	}
}

func besideKubeProxy(t *testing.T, mode string) {
	c := newCluster(t)
	node := c.lab.Nodes[0]
	object, err := c.client.CoreV1().Nodes().Get(t.Context(), "node-1", get)
	must(t, err)
	object.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: node.IPv4.String()}}
	_, err = c.client.CoreV1().Nodes().UpdateStatus(t.Context(), object, replace)
	must(t, err)

	c.deploy("web", 2)
	c.apply("web", `{rules: [{host: host.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}]}}]}`)
	class := "kerngate.dev/kerngate"
	_, err = c.client.CoreV1().Services(c.namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "l4"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &class, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Port: 5000, TargetPort: intstr.FromInt32(lab.PodPort)}},
		},
	}, create)
	must(t, err)
	t.Cleanup(func() { // its port is the next mode's
		must(t, c.client.CoreV1().Services(c.namespace).Delete(context.Background(), "l4", remove))
	})
	service, err := c.client.CoreV1().Services(c.namespace).Get(t.Context(), "web", get)
	must(t, err)
	inside := netip.MustParseAddr(service.Spec.ClusterIP)

	// What kube-proxy would set for the whole machine stays as it is: --conntrack-*.
	proxy, err := node.Start(lab.Command{Path: plane.Binary("kube-proxy"), Args: []string{
		"--kubeconfig", plane.Kubeconfig(), "--proxy-mode", mode, "--hostname-override", "node-1", "--cluster-cidr", "10.244.0.0/16",
		"--conntrack-max-per-core", "0", "--conntrack-min", "0", "--conntrack-tcp-timeout-established", "0s", "--conntrack-tcp-timeout-close-wait", "0s",
	}})
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("kube-proxy's last words:\n%s", proxy.LogTail(30))
		}
	})
	client, err := node.AddPod("client-pod")
	must(t, err)
	must(t, c.lab.Client.RouteHost(inside, node.IPv4, 0))
	c.untilExposed("web")

	ask := func(from *lab.Host, to netip.AddrPort) error {
		http := from.HTTPClient(to)
		defer http.CloseIdleConnections()
		http.Timeout = 2 * time.Second
		response, err := http.Get("http://host.example.com/")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		var a answer.Answer
		if err = errors.Join(err, json.Unmarshal(body, &a)); err != nil || response.StatusCode != 200 || a.Service != "web" {
			return fmt.Errorf("%s: %.100s: %w", response.Status, body, err)
		}
		// What the kernel forwards comes to the pod as it left the client.
		if to.Port() == 5000 && !strings.HasPrefix(a.Remote, from.IPv4.String()+":") {
			return fmt.Errorf("the pod sees %s, want the client %s", a.Remote, from.IPv4)
		}
		return nil
	}
	all := func() (errs error) {
		for _, way := range []struct {
			what string
			from *lab.Host
			to   netip.AddrPort
		}{
			{"the Service from outside", c.lab.Client, netip.AddrPortFrom(inside, 8080)},
			{"the Service from a pod", client.Host, netip.AddrPortFrom(inside, 8080)},
			{"the ingress address", c.lab.Client, netip.AddrPortFrom(c.lab.VIP4, 80)},
			{"the L4 Service", c.lab.Client, netip.AddrPortFrom(c.lab.VIP4, 5000)},
		} {
			if err := ask(way.from, way.to); err != nil {
				errs = errors.Join(errs, fmt.Errorf("%s: %w", way.what, err))
			}
		}
		return errs
	}
	must(t, lab.Until(30*time.Second, "everything served at once", all))
	for range 10 {
		must(t, all())
	}
	// Both follow a change, and the agent one of its own life.
	c.scale("web", 2, 3)
	c.kerngate.Agent.Kill()
	must(t, all())
	must(t, c.kerngate.Start())
	for range 10 {
		must(t, all())
	}
	select {
	case <-proxy.Done():
		t.Error("kube-proxy has ended")
	default:
	}
}
