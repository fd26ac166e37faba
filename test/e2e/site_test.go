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
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
	"github.com/kerngate/kerngate/test/lab/answer"
)

// site is a lab with a running agent, proxy and pods.
type site struct {
	*lab.Kerngate
	t    *testing.T
	lab  *lab.Lab
	pods map[string][]*lab.Pod       // by service
	web  map[string]*lab.Process     // by pod: its web server
	http map[netip.Addr]*http.Client // by ingress address, from the client's host
}

// app is a service and its number of pods, which are spread over the nodes.
type app struct {
	service string
	pods    int
}

// newSite builds a lab of one or more nodes with the apps' pods running and their manifests
// written, an agent on the first node, and waits until Kerngate answers.
func newSite(t *testing.T, nodes int, apps []app, paths ...lab.Path) *site {
	t.Helper()
	s := prepareSite(t, nodes, apps, paths...)
	s.start()
	return s
}

// prepareSite is newSite without starting the agent.
func prepareSite(t *testing.T, nodes int, apps []app, paths ...lab.Path) *site {
	t.Helper()
	bin := binaries(t)
	l, err := lab.New(lab.Options{Nodes: nodes})
	must(t, err)
	s := &site{
		t: t, lab: l,
		pods: make(map[string][]*lab.Pod), web: make(map[string]*lab.Process), http: make(map[netip.Addr]*http.Client),
	}
	t.Cleanup(s.close)
	s.Kerngate, err = l.Nodes[0].NewKerngate(bin)
	must(t, err)
	// KERNGATE_E2E_ARGS has all of these tests run with further arguments of the agent.
	s.Args = strings.Fields(os.Getenv("KERNGATE_E2E_ARGS"))
	must(t, s.Manifests.Write("class.yaml", lab.IngressClass()))
	for _, a := range apps {
		for i := range a.pods {
			pod, err := l.Nodes[i%nodes].AddPod(fmt.Sprintf("%s-%d", a.service, i+1))
			must(t, err)
			s.pods[a.service] = append(s.pods[a.service], pod)
			s.serve(pod, a.service)
		}
		s.publish(a.service, s.pods[a.service]...)
	}
	if len(paths) > 0 {
		must(t, s.Manifests.Write("ingress.yaml", lab.Ingress("site", paths...)))
	}
	for _, vip := range s.vips() {
		s.http[vip] = l.Client.HTTPClient(netip.AddrPortFrom(vip, 80))
	}
	return s
}

func (s *site) start() {
	s.t.Helper()
	must(s.t, s.Kerngate.Start())
	must(s.t, s.WaitServing(s.lab.Client, 20*time.Second))
}

func (s *site) close() {
	if s.t.Failed() && s.Kerngate != nil && s.Agent != nil {
		s.t.Logf("the agent's and proxy's last words:\n%s", s.Agent.LogTail(40))
	}
	s.wantNoCrash()
	for _, client := range s.http {
		client.CloseIdleConnections()
	}
	if err := s.lab.Close(); err != nil {
		s.t.Errorf("close lab: %v", err)
	}
	left, err := lab.Leftovers(s.lab.Name)
	if err != nil || len(left) > 0 {
		s.t.Errorf("the lab left behind: %v, %v", left, err)
	}
}

// wantNoCrash fails the test if a process of the lab wrote of a panic, or of a data race,
// which binaries built with -race find (KERNGATE_TEST_BINARIES).
func (s *site) wantNoCrash() {
	logs, err := filepath.Glob(filepath.Join(s.lab.Dir, "*.log"))
	if err != nil {
		s.t.Error(err)
	}
	for _, file := range logs {
		text, err := os.ReadFile(file)
		if err != nil {
			s.t.Error(err)
		}
		for _, sign := range []string{"panic: ", "fatal error: ", "DATA RACE", `"panic":`} {
			if at := strings.Index(string(text), sign); at >= 0 {
				s.t.Errorf("%s: %s", filepath.Base(file), text[at:min(len(text), at+4000)])
			}
		}
	}
}

// serve starts the pod's web server.
func (s *site) serve(pod *lab.Pod, service string) {
	s.t.Helper()
	process, err := pod.Serve(s.Binaries.Path("pod"), service)
	must(s.t, err)
	s.web[pod.Name] = process
}

// publish writes a service and the EndpointSlice with these pods, ready.
func (s *site) publish(service string, pods ...*lab.Pod) {
	s.t.Helper()
	endpoints := make([]lab.Endpoint, len(pods))
	for i, pod := range pods {
		endpoints[i] = pod.Endpoint(false)
	}
	must(s.t, s.Manifests.Write(service+".yaml", lab.Service(service), lab.EndpointSlice(service, endpoints...)))
}

// vips are the ingress addresses of the families that this machine has.
func (s *site) vips() []netip.Addr {
	if !s.lab.VIP6.IsValid() {
		return []netip.Addr{s.lab.VIP4}
	}
	return []netip.Addr{s.lab.VIP4, s.lab.VIP6}
}

// reply is what a client got.
type reply struct {
	Status int
	Header http.Header
	Body   []byte
	Pod    answer.Answer // zero if no pod described the request
	Whole  *http.Response
}

// reason is the token of an answer of the proxy's own.
func (r *reply) reason() string {
	for _, word := range strings.FieldsFunc(string(r.Body), func(c rune) bool {
		return c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9')
	}) {
		if strings.Contains(word, "_") {
			return word
		}
	}
	return ""
}

// do sends a request for a URL to the IPv4 ingress address; the URL's host is the virtual host.
func (s *site) do(method, url string, body io.Reader, header ...string) (*reply, error) {
	return s.doVia(s.lab.VIP4, method, url, body, header...)
}

func (s *site) doVia(vip netip.Addr, method, url string, body io.Reader, header ...string) (*reply, error) {
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		return nil, err
	}
	for _, field := range header {
		key, value, _ := strings.Cut(field, ": ")
		request.Header.Add(key, value)
	}
	response, err := s.http[vip].Do(request)
	if err != nil {
		return nil, err
	}
	return readReply(response)
}

func readReply(response *http.Response) (*reply, error) {
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	r := &reply{Status: response.StatusCode, Header: response.Header, Body: body, Whole: response}
	if strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") && response.Header.Get("X-Pod") != "" && len(body) > 0 {
		err = errors.Join(err, json.Unmarshal(body, &r.Pod))
	}
	return r, err
}

// get asks for a URL and fails the test if there is no answer.
func (s *site) get(url string, header ...string) *reply {
	s.t.Helper()
	r, err := s.do(http.MethodGet, url, nil, header...)
	if err != nil {
		s.t.Fatalf("GET %s: %v", url, err)
	}
	return r
}

// eventually waits until a GET of the URL is what ok wants.
func (s *site) eventually(url, what string, ok func(*reply) bool) {
	s.t.Helper()
	err := lab.Until(10*time.Second, what, func() error {
		r, err := s.do(http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if !ok(r) {
			return fmt.Errorf("GET %s: status %d: %.200s", url, r.Status, r.Body)
		}
		return nil
	})
	must(s.t, err)
}

// wire is a raw connection to the ingress address.
type wire struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

// dial opens a raw connection from the client to port 80 of the IPv4 address.
func (s *site) dial() *wire {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := s.lab.Client.Dial(ctx, "tcp", netip.AddrPortFrom(s.lab.VIP4, 80).String())
	must(s.t, err)
	s.t.Cleanup(func() { conn.Close() })
	must(s.t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return &wire{Conn: conn, t: s.t, in: bufio.NewReader(conn)}
}

// send writes text as it stands.
func (w *wire) send(text string) {
	w.t.Helper()
	if _, err := io.WriteString(w.Conn, text); err != nil {
		w.t.Fatalf("send %.60q: %v", text, err)
	}
}

// receive reads one response to a request of that method.
func (w *wire) receive(method string) *reply {
	w.t.Helper()
	r, err := w.tryReceive(method)
	if err != nil {
		w.t.Fatalf("receive the response to %s: %v", method, err)
	}
	return r
}

func (w *wire) tryReceive(method string) (*reply, error) {
	response, err := http.ReadResponse(w.in, &http.Request{Method: method})
	if err != nil {
		return nil, err
	}
	return readReply(response)
}

// rest reads until the end of the connection. A reset counts as an end.
func (w *wire) rest() []byte {
	var rest bytes.Buffer
	_, _ = io.Copy(&rest, w.in)
	return rest.Bytes()
}

// wantClosed fails the test unless the proxy closes the connection soon.
func (w *wire) wantClosed() {
	w.t.Helper()
	must(w.t, w.SetReadDeadline(time.Now().Add(5*time.Second)))
	var one [1]byte
	_, err := w.in.Read(one[:])
	var timeout net.Error
	if err == nil {
		w.t.Errorf("the connection goes on with %q, want it closed", one)
	} else if errors.As(err, &timeout) && timeout.Timeout() {
		w.t.Error("the connection stays open, want it closed")
	}
}
