//go:build linux

package ingress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/kerngate/kerngate/test/controlplane"
	"github.com/kerngate/kerngate/test/lab"
	"github.com/kerngate/kerngate/test/lab/answer"
)

var (
	create  metav1.CreateOptions
	replace metav1.UpdateOptions
	get     metav1.GetOptions
	remove  metav1.DeleteOptions
)

const class = "kerngate"

// cluster is a node of a lab with an agent that follows the API server, and a namespace
// for one test.
type cluster struct {
	t         *testing.T
	client    kubernetes.Interface
	namespace string
	lab       *lab.Lab
	kerngate  *lab.Kerngate
	roots     *x509.CertPool
}

// newCluster starts an agent for the class, which is strict: what these features describe
// is the Ingress API, without what ingress-nginx adds to it.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	ctx := t.Context()
	client, err := kubernetes.NewForConfig(plane.Config)
	must(t, err)
	c := &cluster{t: t, client: client, namespace: "kgt-" + strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(t.Name(), "Test")), "/", "-")}
	must(t, controlplane.Install(ctx, plane.Config, "../../../manifests/install.yaml"))
	if _, err := client.CoreV1().Nodes().Get(ctx, "node-1", get); err != nil {
		_, err = client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}, create)
		must(t, err)
	}
	object, err := client.NetworkingV1().IngressClasses().Get(ctx, class, get)
	must(t, err)
	object.Annotations = map[string]string{"kerngate.dev/compat": "strict"}
	_, err = client.NetworkingV1().IngressClasses().Update(ctx, object, replace)
	must(t, err)
	_, err = client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.namespace}}, create)
	must(t, err)
	must(t, lab.Until(30*time.Second, "service account of the namespace", func() error {
		_, err := client.CoreV1().ServiceAccounts(c.namespace).Get(ctx, "default", get)
		return err
	}))
	t.Cleanup(func() {
		// Ingresses go at once: the next test's agent would serve them.
		client.NetworkingV1().Ingresses(c.namespace).DeleteCollection(context.Background(), remove, metav1.ListOptions{})
		client.CoreV1().Namespaces().Delete(context.Background(), c.namespace, remove)
	})

	c.lab, err = lab.New(lab.Options{Nodes: 1})
	must(t, err)
	t.Cleanup(c.close)
	kubeconfig := filepath.Join(c.lab.Dir, "agent.kubeconfig")
	must(t, os.WriteFile(kubeconfig, c.kubeconfig(), 0o600))
	c.kerngate, err = c.lab.Nodes[0].NewKerngate(binaries)
	must(t, err)
	c.kerngate.Args = []string{"--manifests=", "--kubeconfig", kubeconfig, "--lease-namespace", "kerngate-system", "--run-proxy"}
	must(t, c.kerngate.Start())
	return c
}

func (c *cluster) close() {
	if c.t.Failed() && c.kerngate != nil && c.kerngate.Agent != nil {
		c.t.Logf("the agent's and proxy's last words:\n%s", c.kerngate.Agent.LogTail(40))
	}
	if err := c.lab.Close(); err != nil {
		c.t.Errorf("close lab: %v", err)
	}
}

// kubeconfig has the rights of the agent's service account, and leads to the API server by
// way of a port on the node.
func (c *cluster) kubeconfig() []byte {
	c.t.Helper()
	token, err := controlplane.Token(c.t.Context(), plane.Config, "kerngate-system", "kerngate")
	must(c.t, err)
	server := strings.TrimPrefix(plane.Config.Host, "https://")
	listener, err := c.lab.Nodes[0].Listen("tcp", server)
	must(c.t, err)
	c.t.Cleanup(func() { listener.Close() })
	go forward(listener, server)
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://%s", insecure-skip-tls-verify: true}}]
users: [{name: agent, user: {token: %s}}]
contexts: [{name: test, context: {cluster: test, user: agent}}]
current-context: test
`, server, token)
}

// forward joins each connection to one of this process's own namespace, until the listener
// is closed.
func forward(listener net.Listener, to string) {
	for {
		in, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer in.Close()
			out, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer out.Close()
			go func() {
				defer out.Close()
				_, _ = io.Copy(out, in)
			}()
			_, _ = io.Copy(in, out)
		}()
	}
}

// deploy makes a Service with so many pods that run and are ready.
func (c *cluster) deploy(service string, pods int) {
	c.t.Helper()
	_, err := c.client.CoreV1().Services(c.namespace).Create(c.t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: service},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": service},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 8080, TargetPort: intstr.FromInt32(lab.PodPort)}},
		},
	}, create)
	must(c.t, err)
	c.scale(service, 0, pods)
}

// scale starts the pods of a service from number have on.
func (c *cluster) scale(service string, have, want int) {
	c.t.Helper()
	for i := have; i < want; i++ {
		name := fmt.Sprintf("%s-%d", service, i+1)
		pod, err := c.lab.Nodes[0].AddPod(name)
		must(c.t, err)
		_, err = pod.Serve(binaries.Path("pod"), service)
		must(c.t, err)
		c.announce(service, name, pod.IPv4)
	}
}

// announce makes the pod's object and says, as a kubelet would, that it runs and is ready.
func (c *cluster) announce(service, name string, address netip.Addr) {
	c.t.Helper()
	pods := c.client.CoreV1().Pods(c.namespace)
	off := false
	pod, err := pods.Create(c.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": service}},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: &off,
			NodeName:                     "node-1",
			Containers:                   []corev1.Container{{Name: "echo", Image: "kgt.test/none:1"}},
		},
	}, create)
	must(c.t, err)
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: address.String(), PodIPs: []corev1.PodIP{{IP: address.String()}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}
	_, err = pods.UpdateStatus(c.t.Context(), pod, replace)
	must(c.t, err)
}

// secret makes a TLS Secret with a certificate of an authority that the client trusts.
func (c *cluster) secret(name, host string) {
	c.t.Helper()
	authority, err := lab.NewAuthority("conformance")
	must(c.t, err)
	certificate, err := authority.Issue(lab.Request{Subject: host, Names: []string{host}})
	must(c.t, err)
	c.roots = authority.Pool()
	_, err = c.client.CoreV1().Secrets(c.namespace).Create(c.t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"tls.crt": certificate.Chain, "tls.key": certificate.Key},
	}, create)
	must(c.t, err)
}

// apply makes an Ingress of the class, from the YAML of its spec.
func (c *cluster) apply(name, spec string) {
	c.t.Helper()
	object := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: c.namespace}}
	must(c.t, yaml.UnmarshalStrict([]byte(spec), &object.Spec))
	if object.Spec.IngressClassName == nil {
		name := class
		object.Spec.IngressClassName = &name
	}
	_, err := c.client.NetworkingV1().Ingresses(c.namespace).Create(c.t.Context(), object, create)
	must(c.t, err)
}

// untilExposed waits for "the Ingress status shows the IP address or FQDN where it is
// exposed", and for the node to have the pods.
func (c *cluster) untilExposed(ingress string) {
	c.t.Helper()
	must(c.t, lab.Until(60*time.Second, "address in the status of Ingress "+ingress, func() error {
		object, err := c.client.NetworkingV1().Ingresses(c.namespace).Get(c.t.Context(), ingress, get)
		if err != nil {
			return err
		}
		for _, at := range object.Status.LoadBalancer.Ingress {
			if at.IP == c.lab.VIP4.String() {
				return nil
			}
		}
		return fmt.Errorf("status: %+v", object.Status.LoadBalancer)
	}))
	must(c.t, c.kerngate.WaitServing(c.lab.Client, 30*time.Second))
}

// response is an answer, and what the pod that gave it says of the request.
type response struct {
	*http.Response
	Request answer.Answer
}

// send sends a request to the ingress address as a Go client would: the host of the URL is
// asked for, by SNI too. While the node has not heard of the service's pods it repeats.
func (c *cluster) send(method, url string) (*response, error) {
	request, err := http.NewRequestWithContext(c.t.Context(), method, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	port := uint16(80)
	if request.URL.Scheme == "https" {
		port = 443
	}
	if request.URL.Host == "" {
		request.URL.Host = c.lab.VIP4.String()
	}
	client := c.lab.Client.HTTPClient(netip.AddrPortFrom(c.lab.VIP4, port))
	defer client.CloseIdleConnections()
	client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: c.roots}
	var out *response
	err = lab.Until(30*time.Second, "endpoints", func() error {
		r, err := client.Do(request)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err == nil && r.StatusCode == http.StatusServiceUnavailable {
			err = fmt.Errorf("%s: %.200s", r.Status, body)
		}
		out = &response{Response: r}
		if r.StatusCode == http.StatusOK && len(body) > 0 {
			err = errors.Join(err, json.Unmarshal(body, &out.Request))
		}
		return err
	})
	return out, err
}

func (c *cluster) want(t *testing.T, method, url string, status int, service string) *response {
	t.Helper()
	r, err := c.send(method, url)
	must(t, err)
	if r.StatusCode != status || r.Request.Service != service {
		t.Errorf("%s %s: status %d of service %q, want %d of %q", method, url, r.StatusCode, r.Request.Service, status, service)
	}
	return r
}
