//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// The ports of the others; Kerngate has port 80 of the ingress address.
const (
	nginxPort   = 8081
	haproxyPort = 8082
)

// addKerngate runs agent and proxy apart, so that the proxy alone is tied to its CPU.
func (b *bench) addKerngate(bin string, endpoints []lab.Endpoint) error {
	k, err := b.node.NewKerngate(lab.Binaries(bin))
	if err != nil {
		return err
	}
	err = k.Manifests.Write("bench.yaml", lab.IngressClass(), lab.Service("bench"), lab.EndpointSlice("bench", endpoints...),
		lab.Ingress("bench", lab.Path{Host: benchHost, Service: "bench"}))
	if err != nil {
		return err
	}
	k.Args = []string{"--run-proxy=false"}
	if err := k.Start(); err != nil {
		return err
	}
	err = lab.Until(20*time.Second, "the agent's socket", func() error {
		_, err := os.Stat(k.Socket())
		return err
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, k.Agent.LogTail(10))
	}
	proxy, err := k.StartProxy("proxy", []int{proxyCPU}, "--workers", "1")
	if err != nil {
		return err
	}
	if err := k.WaitServing(b.lab.Client, 20*time.Second); err != nil {
		return fmt.Errorf("%w\n%s", err, proxy.LogTail(10))
	}
	version := "one worker"
	if out, err := exec.Command(k.Binaries.Path(lab.ProxyBinary), "--version").Output(); err == nil {
		version = strings.TrimSpace(string(out)) + ", " + version
	}
	b.proxies = append(b.proxies, &contender{
		name: "Kerngate", version: version, address: netip.AddrPortFrom(b.lab.VIP4, 80), processes: k.ProxyPIDs,
	})
	return nil
}

// nginx with what its manual and ingress-nginx advise for a proxy: HTTP/1.1 and kept
// connections to the pods, the same headers as Kerngate sets, no access log.
const nginxConfig = `
daemon off;
worker_processes 1;
worker_cpu_affinity %b;
error_log %s/nginx.error.log;
pid %s/nginx.pid;
events { worker_connections 8192; }
http {
	access_log off;
	sendfile on;
	tcp_nodelay on;
	keepalive_timeout 75s;
	keepalive_requests 1000000000;
	client_body_temp_path %s/nginx-body;
	proxy_temp_path %s/nginx-proxy;
	fastcgi_temp_path %s/nginx-fastcgi;
	uwsgi_temp_path %s/nginx-uwsgi;
	scgi_temp_path %s/nginx-scgi;
	upstream bench {
%s		keepalive 512;
		keepalive_requests 1000000000;
	}
	server {
		listen %d backlog=4096;
		server_name %s;
		location / {
			proxy_pass http://bench;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Host $host;
			proxy_set_header X-Request-ID $request_id;
			proxy_set_header X-Forwarded-For $remote_addr;
			proxy_set_header X-Forwarded-Proto $scheme;
			proxy_set_header X-Forwarded-Host $host;
			proxy_set_header X-Forwarded-Port $server_port;
		}
	}
}
`

func (b *bench) addNginx(backends []netip.AddrPort) error {
	var servers strings.Builder
	for _, backend := range backends {
		fmt.Fprintf(&servers, "\t\tserver %s;\n", backend)
	}
	dir := b.lab.Dir
	config := fmt.Sprintf(nginxConfig, 1<<proxyCPU, dir, dir, dir, dir, dir, dir, dir, servers.String(), nginxPort, benchHost)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return err
	}
	return b.addOther("nginx", "nginx", []string{"-c", file, "-p", dir, "-g", "user root;"}, []string{"-v"}, nginxPort)
}

const haproxyConfig = `
global
	nbthread 1
	maxconn 4096
defaults
	mode http
	timeout connect 5s
	timeout client 75s
	timeout server 60s
	http-reuse always
frontend bench
	bind :%d
	http-request set-header X-Forwarded-For %%[src]
	http-request set-header X-Forwarded-Proto http
	http-request set-header X-Forwarded-Host %%[req.hdr(Host)]
	http-request set-header X-Forwarded-Port %%[dst_port]
	http-request set-header X-Request-ID %%[uuid()]
	default_backend pods
backend pods
	balance random(2)
%s`

func (b *bench) addHAProxy(backends []netip.AddrPort) error {
	var servers strings.Builder
	for i, backend := range backends {
		fmt.Fprintf(&servers, "\tserver pod%d %s\n", i, backend)
	}
	file := filepath.Join(b.lab.Dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(fmt.Sprintf(haproxyConfig, haproxyPort, servers.String())), 0o644); err != nil {
		return err
	}
	return b.addOther("haproxy", "haproxy", []string{"-db", "-f", file}, []string{"-v"}, haproxyPort)
}

// addOther starts a proxy of Debian's on the node and waits until it listens.
func (b *bench) addOther(name, executable string, args, versionArgs []string, port uint16) error {
	path, err := exec.LookPath(executable)
	if err != nil {
		return fmt.Errorf("%w; scripts/setup bench installs it", err)
	}
	process, err := b.node.Start(lab.Command{Path: path, Args: args, CPUs: []int{proxyCPU}})
	if err != nil {
		return err
	}
	address := netip.AddrPortFrom(b.node.IPv4, port)
	if err := b.lab.Client.WaitListening(address); err != nil {
		return fmt.Errorf("%w\n%s", err, process.LogTail(10))
	}
	version, _ := exec.Command(path, versionArgs...).CombinedOutput()
	first, _, _ := strings.Cut(string(version), "\n")
	b.proxies = append(b.proxies, &contender{
		name: name, version: strings.TrimPrefix(first, "nginx version: ") + ", one worker", address: address,
		processes: func() ([]int, error) { return b.node.Processes(executable) },
	})
	return nil
}
