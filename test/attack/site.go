//go:build linux

package main

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/kerngate/kerngate/test/lab"
)

// The hosts that every product serves.
const (
	webHost        = "www.attack.example.com"
	bodyHost       = "body.attack.example.com"       // its pods read requests' bodies
	expressionHost = "expression.attack.example.com" // its path is an expression
	passwordHost   = "password.attack.example.com"   // asks for a password
)

const proxyCPU = 0

// maxClients is how many connections of clients each product may have.
const maxClients = 4096

// site is the lab with all products running. Those that are not attacked stand idle.
type site struct {
	lab       *lab.Lab
	node      *lab.Node
	bin, self string
	rest      []int // CPUs for everything but the products
	products  []*product
	attackers []*lab.Host

	web, body   []*lab.Pod
	certificate *lab.Certificate
	password    string // a line of htpasswd
}

// product is what is attacked.
type product struct {
	name, version string
	plain, secure netip.AddrPort
	start         func() (*lab.Process, error) // and wait until it serves
	running       *lab.Process
	processes     func() ([]int, error)
	counters      func() (map[string]float64, error) // nil: it has none that are known
}

// restart replaces the product's processes, so that nothing of the last attack is left in them.
func (p *product) restart() (err error) {
	if p.running != nil {
		p.running.Kill()
	}
	p.running, err = p.start()
	return err
}

const kerngateName, nginxName, haproxyName = "Kerngate", "nginx", "haproxy"

// Attackers' addresses: of each of three hosts.
const attackers, addressesEach = 3, 16

func (f from) addresses(attacker int) (list []netip.Addr) {
	for i := range addressesEach {
		n := byte(attacker*addressesEach + i + 1)
		switch {
		case f == fromMany:
			list = append(list, netip.AddrFrom4([4]byte{198, 18, n, 1}))
		case f == fromSubnet:
			list = append(list, netip.AddrFrom4([4]byte{198, 51, 100, n}))
		case attacker == 0 && i == 0:
			list = append(list, netip.AddrFrom4([4]byte{198, 51, 100, 200}))
		}
	}
	return list
}

func newSite(l *lab.Lab, o options) (*site, error) {
	s := &site{lab: l, node: l.Nodes[0], bin: o.bin}
	var err error
	if s.self, err = os.Executable(); err != nil {
		return nil, err
	}
	for cpu := range runtime.NumCPU() {
		if cpu != proxyCPU {
			s.rest = append(s.rest, cpu)
		}
	}
	for i := range attackers {
		host, err := l.AddClient(fmt.Sprintf("attacker-%d", i+1), slices.Concat(fromMany.addresses(i), fromSubnet.addresses(i), fromOne.addresses(i))...)
		if err != nil {
			return nil, err
		}
		s.attackers = append(s.attackers, host)
	}
	authority, err := lab.NewAuthority("attack")
	if err != nil {
		return nil, err
	}
	if s.certificate, err = authority.Issue(lab.Request{Names: []string{webHost, bodyHost, expressionHost, passwordHost}}); err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.file("pair.pem"), slices.Concat(s.certificate.Chain, s.certificate.Key), 0o600); err != nil {
		return nil, err
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), 10)
	if err != nil {
		return nil, err
	}
	s.password = "ann:" + string(hash)
	if s.web, err = s.addPods("web", lab.Command{Path: filepath.Join(o.bin, "backend"), Env: []string{"GOMAXPROCS=1", "GOGC=400"}}); err != nil {
		return nil, err
	}
	if s.body, err = s.addPods("body", lab.Command{Path: filepath.Join(o.bin, "pod"), Args: []string{"-name=body"}}); err != nil {
		return nil, err
	}
	add := map[string]func() error{"kerngate": s.addKerngate, "nginx": s.addNginx, "haproxy": s.addHAProxy}
	for name := range strings.SplitSeq(o.products, ",") {
		if add[name] == nil {
			return nil, fmt.Errorf("-products: %q is none of kerngate, nginx and haproxy", name)
		}
		if err := add[name](); err != nil {
			return nil, fmt.Errorf("start %s: %w", name, err)
		}
	}
	return s, nil
}

// file is the path of a file of the lab.
func (s *site) file(name string) string { return filepath.Join(s.lab.Dir, name) }

// addPods starts two pods that run the same server.
func (s *site) addPods(name string, server lab.Command) (pods []*lab.Pod, err error) {
	server.CPUs = s.rest
	for i := range 2 {
		pod, err := s.node.AddPod(fmt.Sprintf("%s-%d", name, i+1))
		if err != nil {
			return nil, err
		}
		if _, err := pod.Start(server); err != nil {
			return nil, err
		}
		if err := s.node.WaitListening(netip.AddrPortFrom(pod.IPv4, lab.PodPort)); err != nil {
			return nil, err
		}
		pods = append(pods, pod)
	}
	return pods, nil
}

// addKerngate runs agent and proxy apart, so that the proxy alone is tied to its CPU.
func (s *site) addKerngate() error {
	k, err := s.node.NewKerngate(lab.Binaries(s.bin))
	if err != nil {
		return err
	}
	const nginx = "nginx.ingress.kubernetes.io/"
	web := lab.WithTLS(annotate(lab.Ingress("web", lab.Path{Host: webHost, Service: "web"}, lab.Path{Host: bodyHost, Service: "body"}),
		nginx+"ssl-redirect", "false", nginx+"proxy-body-size", "0"), "pair", webHost, bodyHost)
	expression := annotate(lab.Ingress("expression", lab.Path{Host: expressionHost, Path: costlyPath, Type: "ImplementationSpecific", Service: "web"}), nginx+"use-regex", "true")
	password := annotate(lab.Ingress("password", lab.Path{Host: passwordHost, Service: "web"}), nginx+"auth-type", "basic", nginx+"auth-secret", "users")
	users := lab.Object{"apiVersion": "v1", "kind": "Secret", "metadata": lab.Object{"name": "users", "namespace": "default"},
		"data": lab.Object{"auth": base64.StdEncoding.EncodeToString([]byte(s.password))}}
	err = k.Manifests.Write("attack.yaml", lab.IngressClass(), lab.TLSSecret("pair", s.certificate), users, web, expression, password,
		lab.Service("web"), lab.EndpointSlice("web", endpoints(s.web)...), lab.Service("body"), lab.EndpointSlice("body", endpoints(s.body)...))
	if err != nil {
		return err
	}
	k.Args = []string{"--run-proxy=false", "--default-certificate=default/pair", fmt.Sprintf("--max-connections=%d", maxClients),
		"--head-timeout=15s", "--body-timeout=60s", "--response-timeout=60s", "--idle-timeout=60s", "--http3"}
	if err := k.Start(); err != nil {
		return err
	}
	err = lab.Until(30*time.Second, "the agent's socket", func() error {
		_, err := os.Stat(k.Socket())
		return err
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, k.Agent.LogTail(10))
	}
	p := &product{
		name: kerngateName, processes: k.ProxyPIDs, version: "one worker",
		counters: func() (map[string]float64, error) { return countersOf(s.node.Host) },
		plain:    netip.AddrPortFrom(s.lab.VIP4, 80), secure: netip.AddrPortFrom(s.lab.VIP4, 443),
		start: func() (*lab.Process, error) {
			proxy, err := k.StartProxy("proxy", []int{proxyCPU}, "--workers", "1")
			if err != nil {
				return nil, err
			}
			if err := k.WaitServing(s.lab.Client, 30*time.Second); err != nil {
				return nil, fmt.Errorf("%w\n%s", err, proxy.LogTail(10))
			}
			return proxy, nil
		},
	}
	if err := p.restart(); err != nil {
		return err
	}
	if out, err := k.Ctl("problems"); err != nil || !strings.Contains(out, "no problems") {
		return fmt.Errorf("the manifests have problems, or kerngatectl failed (%v):\n%s", err, out)
	}
	if out, err := exec.Command(k.Binaries.Path(lab.ProxyBinary), "--version").Output(); err == nil {
		p.version = strings.TrimSpace(string(out)) + ", " + p.version
	}
	s.products = append(s.products, p)
	return nil
}

// annotate adds annotations, given as key, value, key, value ...
func annotate(object lab.Object, pairs ...string) lab.Object {
	for pair := range slices.Chunk(pairs, 2) {
		object = lab.Annotate(object, pair[0], pair[1])
	}
	return object
}

func endpoints(pods []*lab.Pod) []lab.Endpoint {
	list := make([]lab.Endpoint, len(pods))
	for i, pod := range pods {
		list[i] = pod.Endpoint(false)
	}
	return list
}

// The ports of the others; Kerngate has 80 and 443 of the ingress address.
const (
	nginxPort, nginxTLSPort     = 8081, 8443
	haproxyPort, haproxyTLSPort = 8082, 8444
)

// nginx's connections to pods count among worker_connections.
const nginxConfig = `
daemon off;
user root;
worker_processes 1;
worker_cpu_affinity %[1]b;
worker_rlimit_nofile 40000;
error_log %[2]s/nginx.error.log crit;
pid %[2]s/nginx.pid;
events { worker_connections %[3]d; }
http {
	access_log off;
	sendfile on;
	tcp_nodelay on;
	client_header_timeout 15s;
	client_body_timeout 60s;
	client_max_body_size 0;
	send_timeout 60s;
	keepalive_timeout 60s;
	client_body_temp_path %[2]s/nginx-body;
	proxy_temp_path %[2]s/nginx-proxy;
	fastcgi_temp_path %[2]s/nginx-fastcgi;
	uwsgi_temp_path %[2]s/nginx-uwsgi;
	scgi_temp_path %[2]s/nginx-scgi;
	ssl_protocols TLSv1.2 TLSv1.3;
	ssl_certificate %[2]s/pair.pem;
	ssl_certificate_key %[2]s/pair.pem;
	ssl_session_cache shared:SSL:20m;
	upstream web {
%[4]s		keepalive 512;
	}
	upstream body {
%[5]s		keepalive 512;
	}
	proxy_http_version 1.1;
	proxy_set_header Connection "";
	proxy_set_header Host $host;
	proxy_set_header X-Request-ID $request_id;
	proxy_set_header X-Forwarded-For $remote_addr;
	proxy_set_header X-Forwarded-Proto $scheme;
	server {
		listen %[6]d backlog=4096;
		listen %[7]d ssl http2 backlog=4096;
		server_name %[8]s;
		location / { proxy_pass http://web; }
	}
	server {
		listen %[6]d;
		listen %[7]d ssl http2;
		server_name %[9]s;
		location / { proxy_pass http://body; }
	}
	server {
		listen %[6]d;
		listen %[7]d ssl http2;
		server_name %[10]s;
		location ~* "^%[11]s" { proxy_pass http://web; }
	}
	server {
		listen %[6]d;
		listen %[7]d ssl http2;
		server_name %[12]s;
		location / {
			auth_basic password;
			auth_basic_user_file %[2]s/users;
			proxy_pass http://web;
		}
	}
}
`

func (s *site) addNginx() error {
	servers := func(pods []*lab.Pod) string {
		var text strings.Builder
		for _, pod := range pods {
			fmt.Fprintf(&text, "\t\tserver %s:%d;\n", pod.IPv4, lab.PodPort)
		}
		return text.String()
	}
	if err := os.WriteFile(s.file("users"), []byte(s.password+"\n"), 0o644); err != nil {
		return err
	}
	config := fmt.Sprintf(nginxConfig, 1<<proxyCPU, s.lab.Dir, 2*maxClients, servers(s.web), servers(s.body), nginxPort, nginxTLSPort,
		webHost, bodyHost, expressionHost, costlyPath, passwordHost)
	if err := os.WriteFile(s.file("nginx.conf"), []byte(config), 0o644); err != nil {
		return err
	}
	return s.addOther(nginxName, []string{"-c", s.file("nginx.conf"), "-p", s.lab.Dir}, nginxPort, nginxTLSPort)
}

const haproxyConfig = `
global
	nbthread 1
	no strict-limits
	maxconn %[1]d
	ssl-default-bind-options ssl-min-ver TLSv1.2
userlist users
	user ann password %[2]s
defaults
	mode http
	timeout connect 5s
	timeout http-request 15s
	timeout client 60s
	timeout http-keep-alive 60s
	timeout server 60s
	http-reuse always
frontend attack
	bind :%[3]d backlog 4096
	bind :%[4]d backlog 4096 ssl crt %[5]s/pair.pem alpn h2,http/1.1
	http-request set-header X-Forwarded-For %%[src]
	http-request set-header X-Forwarded-Proto http if !{ ssl_fc }
	http-request set-header X-Forwarded-Proto https if { ssl_fc }
	http-request set-header X-Request-ID %%[uuid()]
	acl password hdr(host) -i %[6]s
	http-request auth realm password if password !{ http_auth(users) }
	use_backend body if { hdr(host) -i %[7]s }
	http-request return status 404 if { hdr(host) -i %[8]s } !{ path_reg -i "^%[9]s" }
	default_backend web
backend web
	balance random(2)
%[10]sbackend body
	balance random(2)
%[11]s`

func (s *site) addHAProxy() error {
	servers := func(pods []*lab.Pod) string {
		var text strings.Builder
		for i, pod := range pods {
			fmt.Fprintf(&text, "\tserver pod%d %s:%d\n", i, pod.IPv4, lab.PodPort)
		}
		return text.String()
	}
	_, hash, _ := strings.Cut(s.password, ":")
	config := fmt.Sprintf(haproxyConfig, maxClients, hash, haproxyPort, haproxyTLSPort, s.lab.Dir, passwordHost, bodyHost, expressionHost, costlyPath,
		servers(s.web), servers(s.body))
	if err := os.WriteFile(s.file("haproxy.cfg"), []byte(config), 0o644); err != nil {
		return err
	}
	return s.addOther(haproxyName, []string{"-db", "-f", s.file("haproxy.cfg")}, haproxyPort, haproxyTLSPort)
}

// addOther starts a proxy of Debian's on the node and waits until it listens.
func (s *site) addOther(name string, args []string, plain, secure uint16) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return fmt.Errorf("%w; scripts/setup bench installs it", err)
	}
	p := &product{
		name: name, plain: netip.AddrPortFrom(s.node.IPv4, plain), secure: netip.AddrPortFrom(s.node.IPv4, secure),
		processes: func() ([]int, error) { return s.node.Processes(name) },
	}
	p.start = func() (*lab.Process, error) {
		process, err := s.node.Start(lab.Command{Path: path, Args: args, CPUs: []int{proxyCPU}})
		if err != nil {
			return nil, err
		}
		for _, address := range []netip.AddrPort{p.plain, p.secure} {
			if err := s.lab.Client.WaitListening(address); err != nil {
				return nil, fmt.Errorf("%w\n%s", err, process.LogTail(10))
			}
		}
		return process, nil
	}
	if err := p.restart(); err != nil {
		return err
	}
	version, _ := exec.Command(path, "-v").CombinedOutput()
	first, _, _ := strings.Cut(string(version), "\n")
	p.version = strings.TrimPrefix(first, "nginx version: ") + ", one worker"
	s.products = append(s.products, p)
	return nil
}
