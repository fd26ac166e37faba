//go:build linux

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/test/lab"
)

// addPod starts a pod with more arguments for its web server.
func (s *site) addPod(service, name string, args ...string) *lab.Pod {
	s.t.Helper()
	pod, err := s.lab.Nodes[0].AddPod(name)
	must(s.t, err)
	_, err = pod.Serve(s.Binaries.Path("pod"), service, args...)
	must(s.t, err)
	return pod
}

const (
	nginx    = "nginx.ingress.kubernetes.io/"
	kerngate = "kerngate.dev/"
)

// annotated describes an Ingress for one host with these annotations.
func annotated(name, host, service string, annotations ...string) lab.Object {
	ingress := lab.Ingress(name, lab.Path{Host: host, Service: service})
	for i := 0; i < len(annotations); i += 2 {
		lab.Annotate(ingress, annotations[i], annotations[i+1])
	}
	return ingress
}

// Pods that speak TLS are spoken to in TLS, and checked where the Ingress says so.
func TestTLSToPods(t *testing.T) {
	s := prepareSite(t, 1, []app{{"web", 1}})
	good, err := lab.NewAuthority("pods")
	must(t, err)
	bad, err := lab.NewAuthority("others")
	must(t, err)
	c := s.issueFrom(good, lab.Request{Names: []string{"pod.internal"}})
	pair := s.file("pod.crt", c.Chain) + "," + s.file("pod.key", c.Key)
	pod := s.addPod("tls", "tls-1", "-tls", pair)
	const https = nginx + "backend-protocol"
	verify := []string{https, "HTTPS", nginx + "proxy-ssl-verify", "on", nginx + "proxy-ssl-server-name", "on"}
	with := func(more ...string) []string { return append(append([]string{}, verify...), more...) }
	must(t, s.Manifests.Write("tls.yaml", lab.Service("tls"), lab.EndpointSlice("tls", pod.Endpoint(false)),
		lab.AuthoritySecret("good", good), lab.AuthoritySecret("bad", bad),
		annotated("any", "any.test", "tls", https, "HTTPS"),
		annotated("verified", "verified.test", "tls", with(nginx+"proxy-ssl-secret", "default/good", nginx+"proxy-ssl-name", "pod.internal")...),
		annotated("wrong-name", "wrong-name.test", "tls", with(nginx+"proxy-ssl-secret", "default/good")...),
		annotated("wrong-authority", "wrong-authority.test", "tls", with(nginx+"proxy-ssl-secret", "default/bad", nginx+"proxy-ssl-name", "pod.internal")...),
		annotated("clear", "clear.test", "tls"),
		annotated("not-tls", "not-tls.test", "web", https, "HTTPS")))
	s.start()
	for host, want := range map[string]int{
		"any.test": 200, "verified.test": 200, "wrong-name.test": 502, "wrong-authority.test": 502,
		"clear.test":   400, // as net/http answers clear text on a TLS port
		"not-tls.test": 502,
	} {
		for range 3 {
			if r := s.get("http://" + host + "/x"); r.Status != want {
				t.Errorf("%s: %d %s, want %d", host, r.Status, r.Body, want)
			}
		}
	}
	r := s.get("http://verified.test/?size=2000000")
	if r.Status != 200 || len(r.Body) != 2_000_000 {
		t.Errorf("a large answer: %d, %d bytes", r.Status, len(r.Body))
	}
}

// Pods that ask for a PROXY header learn the client's address from it.
func TestProxyProtocolToPods(t *testing.T) {
	s := prepareSite(t, 1, nil)
	pod := s.addPod("announced", "announced-1", "-proxy-header")
	client := s.lab.Client.IPv4.String()
	must(t, s.Manifests.Write("announced.yaml", lab.Service("announced"), lab.EndpointSlice("announced", pod.Endpoint(false)),
		annotated("v1", "v1.test", "announced", kerngate+"proxy-protocol", "v1"),
		annotated("v2", "v2.test", "announced", kerngate+"proxy-protocol", "v2")))
	s.start()
	for _, host := range []string{"v1.test", "v2.test"} {
		for i := range 3 {
			r := s.get(fmt.Sprintf("http://%s/%d", host, i))
			if r.Status != 200 || !strings.HasPrefix(r.Pod.Remote, client+":") {
				t.Errorf("%s: %d, the pod was told of %q, want %s", host, r.Status, r.Pod.Remote, client)
			}
		}
	}
	// A connection tells of one client alone.
	if s.lab.VIP6.IsValid() {
		for _, vip := range s.vips() {
			r, err := s.doVia(vip, "GET", "http://v2.test/", nil)
			must(t, err)
			want := client
			if vip.Is6() {
				want = "[" + s.lab.Client.IPv6.String() + "]"
			}
			if !strings.HasPrefix(r.Pod.Remote, want+":") {
				t.Errorf("by way of %s the pod was told of %q, want %s", vip, r.Pod.Remote, want)
			}
		}
	}
}
