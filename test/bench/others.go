//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// The ports of the others; Kerngate has 80 and 443 of the ingress address.
const (
	nginxPort, nginxTLSPort     = 8081, 8443
	haproxyPort, haproxyTLSPort = 8082, 8444
)

// nginx with what its manual and ingress-nginx advise for a proxy: HTTP/1.1 and kept
// connections to the pods, the same headers as Kerngate sets, no access log.
const nginxConfig = `
daemon off;
user root;
worker_processes 1;
worker_cpu_affinity %[1]b;
worker_rlimit_nofile 20000;
error_log %[2]s/nginx.error.log;
pid %[2]s/nginx.pid;
events { worker_connections 19000; }
http {
	access_log off;
	sendfile on;
	tcp_nodelay on;
	keepalive_timeout 600s;
	keepalive_requests 1000000000;
	client_body_temp_path %[2]s/nginx-body;
	proxy_temp_path %[2]s/nginx-proxy;
	fastcgi_temp_path %[2]s/nginx-fastcgi;
	uwsgi_temp_path %[2]s/nginx-uwsgi;
	scgi_temp_path %[2]s/nginx-scgi;
	ssl_protocols TLSv1.3;
	ssl_ecdh_curve X25519;
	ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
	ssl_session_cache shared:SSL:20m;
	ssl_session_tickets on;
	upstream bench {
%[3]s		keepalive 512;
		keepalive_requests 1000000000;
	}
	upstream grpc {
%[4]s		keepalive 512;
		keepalive_requests 1000000000;
	}
	proxy_http_version 1.1;
	proxy_set_header Connection "";
	proxy_set_header Host $host;
	proxy_set_header X-Request-ID $request_id;
	proxy_set_header X-Real-IP $remote_addr;
	proxy_set_header X-Forwarded-For $remote_addr;
	proxy_set_header X-Forwarded-Proto $scheme;
	proxy_set_header X-Forwarded-Host $host;
	proxy_set_header X-Forwarded-Port $server_port;
	grpc_set_header X-Request-ID $request_id;
	grpc_set_header X-Real-IP $remote_addr;
	grpc_set_header X-Forwarded-For $remote_addr;
	grpc_set_header X-Forwarded-Proto $scheme;
	grpc_set_header X-Forwarded-Host $host;
	grpc_set_header X-Forwarded-Port $server_port;
	server {
		listen %[5]d backlog=4096;
		listen %[6]d ssl http2 backlog=4096;
		server_name %[7]s;
		ssl_certificate %[2]s/ecdsa.pem;
		ssl_certificate_key %[2]s/ecdsa.pem;
		location / { proxy_pass http://bench; }
	}
	limit_req_zone $binary_remote_addr zone=rules:5m rate=1000000r/s;
	server {
		listen %[5]d;
		server_name %[10]s;
		location ~* "^/app(/|$)(.*)" {
			limit_req zone=rules burst=5000000 nodelay;
			rewrite "(?i)/app(/|$)(.*)" /$2 break;
			add_header X-Frame-Options DENY always;
			add_header X-Site $host always;
			proxy_set_header X-Tenant bench;
			proxy_set_header Connection "";
			proxy_set_header Host $host;
			proxy_set_header X-Request-ID $request_id;
			proxy_set_header X-Real-IP $remote_addr;
			proxy_set_header X-Forwarded-For $remote_addr;
			proxy_set_header X-Forwarded-Proto $scheme;
			proxy_set_header X-Forwarded-Host $host;
			proxy_set_header X-Forwarded-Port $server_port;
			proxy_pass http://bench;
		}
	}
	server {
		listen %[6]d ssl http2;
		server_name %[8]s;
		ssl_certificate %[2]s/rsa.pem;
		ssl_certificate_key %[2]s/rsa.pem;
		location / { proxy_pass http://bench; }
	}
	server {
		listen %[6]d ssl http2;
		server_name %[9]s;
		ssl_certificate %[2]s/ecdsa.pem;
		ssl_certificate_key %[2]s/ecdsa.pem;
		location / { grpc_pass grpc://grpc; }
	}
}
`

func (b *bench) addNginx(web, grpc []*lab.Pod) error {
	dir := b.lab.Dir
	servers := func(pods []*lab.Pod) string {
		var text strings.Builder
		for _, pod := range pods {
			fmt.Fprintf(&text, "\t\tserver %s:%d;\n", pod.IPv4, lab.PodPort)
		}
		return text.String()
	}
	config := fmt.Sprintf(nginxConfig, 1<<proxyCPU, dir, servers(web), servers(grpc), nginxPort, nginxTLSPort, benchHost, rsaHost, grpcHost, rulesHost)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return err
	}
	return b.addOther("nginx", []string{"-c", file, "-p", dir}, nginxPort, nginxTLSPort)
}

const haproxyConfig = `
global
	nbthread 1
	no strict-limits
	maxconn 11000
	ssl-default-bind-options ssl-min-ver TLSv1.3
	ssl-default-bind-curves X25519
	ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
defaults
	mode http
	timeout connect 5s
	timeout client 600s
	timeout http-keep-alive 600s
	timeout server 60s
	http-reuse always
frontend bench
	bind :%[1]d
	bind :%[2]d ssl crt %[3]s/ecdsa.pem crt %[3]s/rsa.pem alpn h2,http/1.1
	http-request set-header X-Real-IP %%[src]
	http-request set-header X-Forwarded-For %%[src]
	http-request set-header X-Forwarded-Proto http if !{ ssl_fc }
	http-request set-header X-Forwarded-Proto https if { ssl_fc }
	http-request set-header X-Forwarded-Host %%[req.hdr(Host)]
	http-request set-header X-Forwarded-Port %%[dst_port]
	http-request set-header X-Request-ID %%[uuid()]
	acl ruled hdr(host) -i %[7]s
	use_backend ruled if ruled
	use_backend grpc if { hdr(host) -i %[4]s }
	default_backend pods
backend pods
	balance random(2)
%[5]sbackend ruled
	balance random(2)
	stick-table type ip size 100k expire 60s store http_req_rate(1s)
	http-request track-sc0 src
	http-request deny deny_status 503 if { sc_http_req_rate(0) gt 1000000 }
	http-request replace-path /app(/|$)(.*) /\2
	http-request set-header X-Tenant bench
	http-response set-header X-Frame-Options DENY
	http-after-response set-header X-Site %[7]s
%[5]sbackend grpc
	balance random(2)
%[6]s`

func (b *bench) addHAProxy(web, grpc []*lab.Pod) error {
	servers := func(pods []*lab.Pod, options string) string {
		var text strings.Builder
		for _, pod := range pods {
			fmt.Fprintf(&text, "\tserver %s %s:%d%s\n", pod.Name, pod.IPv4, lab.PodPort, options)
		}
		return text.String()
	}
	config := fmt.Sprintf(haproxyConfig, haproxyPort, haproxyTLSPort, b.lab.Dir, grpcHost, servers(web, ""), servers(grpc, " proto h2"), rulesHost)
	file := filepath.Join(b.lab.Dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return err
	}
	return b.addOther("haproxy", []string{"-db", "-f", file}, haproxyPort, haproxyTLSPort)
}

// addOther starts a proxy of Debian's on the node and waits until it listens.
func (b *bench) addOther(name string, args []string, plain, secure uint16) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return fmt.Errorf("%w; scripts/setup bench installs it", err)
	}
	c := &contender{
		name: name, plain: netip.AddrPortFrom(b.node.IPv4, plain), secure: netip.AddrPortFrom(b.node.IPv4, secure),
		processes: func() ([]int, error) { return b.node.Processes(name) },
	}
	var process *lab.Process
	start := func() error {
		if process, err = b.node.Start(lab.Command{Path: path, Args: args, CPUs: []int{proxyCPU}}); err != nil {
			return err
		}
		for _, address := range []netip.AddrPort{c.plain, c.secure} {
			if err := b.lab.Client.WaitListening(address); err != nil {
				return fmt.Errorf("%w\n%s", err, process.LogTail(10))
			}
		}
		return nil
	}
	c.restart = func() error {
		process.Kill()
		// Its workers end by themselves, and with them their sockets.
		err := lab.Until(5*time.Second, "end of "+name, func() error {
			conn, err := b.lab.Client.Dial(context.Background(), "tcp", c.secure.String())
			if err != nil {
				return nil
			}
			return errors.Join(lab.ErrNotYet, conn.Close())
		})
		if err != nil {
			return err
		}
		return start()
	}
	if err := start(); err != nil {
		return err
	}
	version, _ := exec.Command(path, "-v").CombinedOutput()
	first, _, _ := strings.Cut(string(version), "\n")
	c.version = strings.TrimPrefix(first, "nginx version: ") + ", one worker"
	b.proxies = append(b.proxies, c)
	return nil
}
