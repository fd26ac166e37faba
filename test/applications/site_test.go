//go:build linux && applications

package applications

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// site is a lab with the pods of an application, an agent and proxy, and an nginx on the
// same node.
type site struct {
	*lab.Kerngate
	t         *testing.T
	lab       *lab.Lab
	authority *lab.Authority
	published []publication
	nginx     *lab.Process
}

// publication is a host under which a pod is served, in clear text and by TLS; or with tcp a port
// of all hosts.
type publication struct {
	host        string
	path        string // "/" if empty; others are below one that is published
	pod         *lab.Pod
	port        int    // of the pod; the client without an ingress must find the pod there
	protocol    string // what the pod speaks, as annotation backend-protocol: HTTP if empty
	annotations map[string]string
	nginx       string // directives of the location that ingress-nginx would make of the annotations
	nginxServer string // the same for the server block
	secret      string // Secret of the certificate; "site" if empty
	tcp         int    // an L4 service on this port: nothing of HTTP
}

// newSite starts an application and both ingresses before it.
func newSite(t *testing.T, a *application) *site {
	t.Helper()
	bin := binaries(t)
	l, err := lab.New(lab.Options{Nodes: 1})
	must(t, err)
	s := &site{t: t, lab: l}
	t.Cleanup(s.close)
	s.authority, err = lab.NewAuthority("applications")
	must(t, err)
	must(t, os.WriteFile(s.path("ca.pem"), s.authority.PEM, 0o644))
	s.Kerngate, err = l.Nodes[0].NewKerngate(bin)
	must(t, err)
	a.publish(s)
	s.startKerngate()
	s.startNginx()
	return s
}

// path is a file in the lab's folder.
func (s *site) path(name string) string { return filepath.Join(s.lab.Dir, name) }

// file writes a file into the lab's folder and returns its path.
func (s *site) file(name, content string) string {
	s.t.Helper()
	must(s.t, os.WriteFile(s.path(name), []byte(content), 0o644))
	return s.path(name)
}

// dir makes a folder in the lab's folder, which anybody may write to, and returns its path.
func (s *site) dir(name string) string {
	s.t.Helper()
	must(s.t, os.MkdirAll(s.path(name), 0o777))
	must(s.t, os.Chmod(s.path(name), 0o777))
	return s.path(name)
}

func (s *site) close() {
	if s.t.Failed() && s.Kerngate != nil && s.Agent != nil {
		s.t.Logf("the end of the agent's and proxy's log:\n%s", s.Agent.LogTail(20))
	}
	if err := s.lab.Close(); err != nil {
		s.t.Errorf("close lab: %v", err)
	}
}

// addPod makes a pod.
func (s *site) addPod(name string) *lab.Pod {
	s.t.Helper()
	pod, err := s.lab.Nodes[0].AddPod(name)
	must(s.t, err)
	return pod
}

// serve starts a server on a pod and waits until it listens.
func (s *site) serve(pod *lab.Pod, port int, command lab.Command) *lab.Process {
	s.t.Helper()
	p, err := pod.Start(command)
	must(s.t, err)
	if err := s.lab.Client.WaitListening(netip.AddrPortFrom(pod.IPv4, uint16(port))); err != nil {
		s.t.Fatalf("%v\n%s", err, p.LogTail(20))
	}
	return p
}

// listen listens on a pod until the test ends.
func (s *site) listen(pod *lab.Pod, port int) net.Listener {
	s.t.Helper()
	l, err := pod.Listen("tcp", fmt.Sprintf(":%d", port))
	must(s.t, err)
	s.t.Cleanup(func() { l.Close() })
	return l
}

// add publishes a pod.
func (s *site) add(p publication) { s.published = append(s.published, p) }

const annotationPrefix = "nginx.ingress.kubernetes.io/"

// startKerngate writes the manifests and waits until Kerngate answers.
func (s *site) startKerngate() {
	s.t.Helper()
	must(s.t, s.Manifests.Write("class.yaml", lab.IngressClass()))
	hosts := map[string][]string{}
	for i := range s.published {
		p := &s.published[i]
		if p.secret == "" {
			p.secret = "site"
		}
		if !slices.Contains(hosts[p.secret], p.host) {
			hosts[p.secret] = append(hosts[p.secret], p.host)
		}
	}
	for secret, hosts := range hosts {
		c, err := s.authority.Issue(lab.Request{Names: hosts})
		must(s.t, err)
		s.putCertificate(secret, c)
	}
	for _, p := range s.published {
		if p.tcp != 0 {
			s.publishTCP(p, p.pod)
		} else {
			s.publishHTTP(p)
		}
	}
	must(s.t, s.Kerngate.Start())
	must(s.t, s.WaitServing(s.lab.Client, 30*time.Second))
}

// putCertificate writes a certificate for both ingresses: as a Secret and as files.
func (s *site) putCertificate(secret string, c *lab.Certificate) {
	s.t.Helper()
	s.file(secret+".chain.pem", string(c.Chain))
	s.file(secret+".key.pem", string(c.Key))
	must(s.t, s.Manifests.Write("secret-"+secret+".yaml", lab.TLSSecret(secret, c)))
}

// name is that of its Ingress, Service and upstream.
func (p *publication) name() string {
	return strings.NewReplacer(".", "-", "/", "-").Replace(p.host + strings.TrimSuffix(p.path, "/"))
}

// publishHTTP writes the Ingress and Service of a publication.
func (s *site) publishHTTP(p publication) {
	s.t.Helper()
	name := p.name()
	ingress := lab.WithTLS(lab.Ingress(name, lab.Path{Host: p.host, Path: p.path, Service: name}), p.secret, p.host)
	lab.Annotate(ingress, annotationPrefix+"ssl-redirect", "false")
	if p.protocol != "" {
		lab.Annotate(ingress, annotationPrefix+"backend-protocol", p.protocol)
	}
	for key, value := range p.annotations {
		lab.Annotate(ingress, annotationPrefix+key, value)
	}
	must(s.t, s.Manifests.Write(name+".yaml", append(serviceOf(name, p.pod, p.port), ingress)...))
}

// serviceOf describes a Service with port 80 and its one pod.
func serviceOf(name string, pod *lab.Pod, port int) []lab.Object {
	service := lab.Service(name)
	service["spec"].(lab.Object)["ports"] = []lab.Object{{"name": "http", "port": 80, "targetPort": port, "protocol": "TCP"}}
	slice := lab.EndpointSlice(name, pod.Endpoint(false))
	slice["ports"] = []lab.Object{{"name": "http", "port": port, "protocol": "TCP"}}
	return []lab.Object{service, slice}
}

// publishTCP writes the L4 service of a publication, with these pods.
func (s *site) publishTCP(p publication, pods ...*lab.Pod) {
	s.t.Helper()
	name := p.name()
	service := lab.Object{
		"apiVersion": "v1", "kind": "Service", "metadata": lab.Object{"name": name, "namespace": "default"},
		"spec": lab.Object{
			"type": "LoadBalancer", "loadBalancerClass": "kerngate.dev/kerngate", "ipFamilies": []string{"IPv4"},
			"ports": []lab.Object{{"name": "tcp", "port": p.tcp, "protocol": "TCP"}},
		},
	}
	var endpoints []lab.Endpoint
	for _, pod := range pods {
		endpoints = append(endpoints, pod.Endpoint(false))
	}
	slice := lab.EndpointSlice(name, endpoints...)
	slice["ports"] = []lab.Object{{"name": "tcp", "port": p.port, "protocol": "TCP"}}
	must(s.t, s.Manifests.Write(name+".yaml", service, slice))
}

// way is how a client reaches the application.
type way struct {
	*site
	t     *testing.T
	name  string
	hosts string // a file for the client's /etc/hosts
	talks []string
}

// way names the hosts of the site for a client on that way.
func (s *site) way(t *testing.T, name string) *way {
	t.Helper()
	text := "127.0.0.1 localhost\n"
	for _, p := range s.published {
		if p.path != "" {
			continue
		}
		address := map[string]netip.Addr{direct: p.pod.IPv4, kerngate: s.lab.VIP4, nginx: s.lab.Nodes[0].IPv4}[name]
		text += fmt.Sprintf("%s %s\n", address, p.host)
	}
	return &way{site: s, t: t, name: name, hosts: s.file("hosts."+name, text)}
}

// publication is that of a host.
func (w *way) publication(host string) *publication {
	w.t.Helper()
	i := slices.IndexFunc(w.published, func(p publication) bool { return p.host == host })
	if i < 0 {
		w.t.Fatalf("host %s is not published", host)
	}
	return &w.published[i]
}

// address is where the client finds a host on this way.
func (w *way) address(host string) netip.Addr {
	return map[string]netip.Addr{direct: w.publication(host).pod.IPv4, kerngate: w.lab.VIP4, nginx: w.lab.Nodes[0].IPv4}[w.name]
}

// url is a URL of a host: by TLS if secure, unless the client talks to the pod itself.
func (w *way) url(secure bool, host, path string) string {
	if secure && w.name != direct {
		return "https://" + host + path
	}
	return "http://" + host + path
}

// dial is a DialContext for clients in this process.
func (w *way) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return w.lab.Client.Dial(ctx, "tcp", net.JoinHostPort(w.address(host).String(), port))
}

// outcome is how a program of the client ended.
type outcome struct {
	code   int // exit status; 124: it did not end in time
	stdout string
	stderr string
}

// run runs a program on the client's host, where the names of the hosts lead to this way. It
// trusts the lab's authority.
func (w *way) run(program string, args ...string) outcome {
	w.t.Helper()
	return w.runIn("", nil, program, args...)
}

// runIn is run in a folder, with additions to the environment.
func (w *way) runIn(dir string, env []string, program string, args ...string) outcome {
	w.t.Helper()
	command, out := w.command(dir, env, program, args...)
	p, err := w.lab.Client.Start(command)
	must(w.t, err)
	_ = p.Wait() // the exit status is part of the outcome
	text, err := os.ReadFile(out)
	must(w.t, err)
	o := outcome{code: p.ExitCode(), stdout: string(text), stderr: p.Log()}
	w.talks = append(w.talks, fmt.Sprintf("%s %s: exit status %d\n%.2000s\n%.2000s", program, strings.Join(args, " "), o.code, o.stdout, o.stderr))
	return o
}

// command runs a program with an /etc/hosts of its own, for 90 s at most. Its standard output
// goes to the file out.
func (w *way) command(dir string, env []string, program string, args ...string) (command lab.Command, out string) {
	name := fmt.Sprintf("%s.%d", filepath.Base(program), time.Now().UnixNano())
	out = w.path(name + ".out")
	if dir == "" {
		dir = w.lab.Dir
	}
	return lab.Command{
		Path: "unshare", Name: name,
		Args: append([]string{"--mount", "--propagation", "private", "sh", "-c", inHosts, out, w.hosts, dir, "timeout", "-k", "5", "90", program}, args...),
		Env: append([]string{
			"HOME=" + w.lab.Dir, "LC_ALL=C", "CURL_CA_BUNDLE=" + w.path("ca.pem"), "SSL_CERT_FILE=" + w.path("ca.pem"),
		}, env...),
	}, out
}

// inHosts is a script: runs its arguments with standard output to a file, an /etc/hosts and a folder.
const inHosts = `exec >"$0"; mount --bind "$1" /etc/hosts && cd "$2" && shift 2 && exec "$@"`

// said is what the programs of the client wrote, for a test that fails.
func (w *way) said() string { return strings.Join(w.talks, "\n") }

// outcomeText shows an outcome: the exit status and the standard output, and the last line of
// standard error if the program failed.
func outcomeText(o outcome) string {
	text := fmt.Sprintf("exit status %d\n%s", o.code, strings.TrimSpace(o.stdout))
	if o.code != 0 {
		lines := strings.Split(strings.TrimSpace(o.stderr), "\n")
		text += "\n" + lines[len(lines)-1]
	}
	return strings.TrimSpace(text)
}
