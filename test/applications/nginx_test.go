//go:build linux && applications

package applications

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// nginxMain is what ingress-nginx 1.x writes for every server, without its Lua.
const nginxMain = `
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module /usr/lib/nginx/modules/ngx_http_set_misc_module.so;
daemon off;
user root;
worker_processes 2;
error_log DIR/nginx.error.log;
pid DIR/nginx.pid;
events { worker_connections 1024; }
http {
	access_log off;
	client_body_temp_path DIR/nginx-body;
	proxy_temp_path DIR/nginx-proxy;
	fastcgi_temp_path DIR/nginx-fastcgi;
	uwsgi_temp_path DIR/nginx-uwsgi;
	scgi_temp_path DIR/nginx-scgi;
	server_tokens off;
	keepalive_timeout 75s;
	keepalive_requests 1000;
	client_header_buffer_size 1k;
	large_client_header_buffers 4 8k;
	client_body_buffer_size 8k;
	client_header_timeout 60s;
	client_body_timeout 60s;
	http2_max_concurrent_streams 128;
	ignore_invalid_headers on;
	underscores_in_headers off;
	port_in_redirect off;
	ssl_protocols TLSv1.2 TLSv1.3;
	ssl_session_cache shared:SSL:10m;
	proxy_ssl_session_reuse on;
	map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
SERVERS
}
stream {
STREAMS
}
`

// nginxServer is a host. What the location sets, the publication's own directives replace.
const nginxServer = `
	server {
		listen ADDRESS:80;
		listen ADDRESS:443 ssl http2;
		server_name HOST;
		ssl_certificate DIR/SECRET.chain.pem;
		ssl_certificate_key DIR/SECRET.key.pem;
MORE
LOCATIONS
	}
`

const nginxUpstream = `
	upstream NAME { server POD; keepalive 320; keepalive_timeout 60s; keepalive_requests 10000; }
`

const nginxLocation = `
		location PATH {
LOCATION
		}
`

// nginxSet are the headers, in the form of proxy_set_header and of grpc_set_header.
const nginxSet = `
	_set_header Host $http_host;
	_set_header X-Request-ID $request_id;
	_set_header X-Real-IP $remote_addr;
	_set_header X-Forwarded-For $remote_addr;
	_set_header X-Forwarded-Host $http_host;
	_set_header X-Forwarded-Port $server_port;
	_set_header X-Forwarded-Proto $scheme;
	_set_header X-Forwarded-Scheme $scheme;
	_set_header X-Scheme $scheme;
	_set_header X-Original-Forwarded-For $http_x_forwarded_for;
`

const nginxHTTP = `
	proxy_set_header Upgrade $http_upgrade;
	proxy_set_header Connection $connection_upgrade;
	proxy_set_header Proxy "";
	proxy_connect_timeout 5s;
	proxy_send_timeout 60s;
	proxy_read_timeout 60s;
	proxy_buffering off;
	proxy_buffer_size 4k;
	proxy_buffers 4 4k;
	proxy_max_temp_file_size 1024m;
	proxy_request_buffering on;
	proxy_http_version 1.1;
	proxy_cookie_domain off;
	proxy_cookie_path off;
	proxy_next_upstream error timeout;
	proxy_next_upstream_timeout 0;
	proxy_next_upstream_tries 3;
	proxy_redirect off;
	proxy_pass http://NAME;
`

const nginxGRPC = `
	grpc_connect_timeout 5s;
	grpc_send_timeout 60s;
	grpc_read_timeout 60s;
	grpc_buffer_size 4k;
	grpc_pass SCHEME://NAME;
`

// nginxStream is a port of tcp-services.
const nginxStream = `
	server {
		listen ADDRESS:PORT;
		proxy_timeout 600s;
		proxy_next_upstream on;
		proxy_pass POD;
	}
`

// writeNginx writes nginx's configuration and returns the file.
func (s *site) writeNginx() string {
	s.t.Helper()
	var servers, streams strings.Builder
	locations := map[string]string{} // by host
	for _, p := range s.published {
		replace := strings.NewReplacer(
			"NAME", p.name(), "PORT", fmt.Sprint(p.tcp), "PATH", cmp.Or(p.path, "/"),
			"POD", fmt.Sprintf("%s:%d", p.pod.IPv4, p.port), "ADDRESS", s.lab.Nodes[0].IPv4.String(),
		)
		if p.tcp != 0 {
			streams.WriteString(replace.Replace(nginxStream))
			continue
		}
		location := nginxHTTP + strings.ReplaceAll(nginxSet, "_set", "proxy_set")
		if p.protocol == "GRPC" || p.protocol == "GRPCS" {
			location = strings.ReplaceAll(nginxGRPC, "SCHEME", strings.ToLower(p.protocol)) + strings.ReplaceAll(nginxSet, "_set", "grpc_set")
		}
		location = overridden("client_max_body_size 1m;"+location, p.nginx)
		servers.WriteString(replace.Replace(nginxUpstream))
		locations[p.host] += replace.Replace(strings.ReplaceAll(nginxLocation, "LOCATION", location))
	}
	for _, p := range s.published {
		if p.tcp == 0 && p.path == "" {
			servers.WriteString(strings.NewReplacer(
				"HOST", p.host, "SECRET", p.secret, "MORE", p.nginxServer, "LOCATIONS", locations[p.host], "ADDRESS", s.lab.Nodes[0].IPv4.String(),
			).Replace(nginxServer))
		}
	}
	return s.file("nginx.conf", strings.NewReplacer(
		"SERVERS", strings.ReplaceAll(servers.String(), "DIR", s.lab.Dir), "STREAMS", streams.String(), "DIR", s.lab.Dir,
	).Replace(nginxMain))
}

// startNginx starts the other ingress, on the node's own address.
func (s *site) startNginx() {
	s.t.Helper()
	file := s.writeNginx()
	var err error
	s.nginx, err = s.lab.Nodes[0].Start(lab.Command{Path: "nginx", Args: []string{"-c", file, "-p", s.lab.Dir}})
	must(s.t, err)
	ports := []uint16{80, 443}
	if p := s.published[0]; p.tcp != 0 {
		ports = []uint16{uint16(p.tcp)}
	}
	for _, port := range ports {
		err := lab.Until(10*time.Second, "answer of nginx", func() error {
			select {
			case <-s.nginx.Done():
				s.t.Fatalf("nginx has ended:\n%s", s.nginx.LogTail(10))
			default:
			}
			return s.lab.Client.WaitListening(netip.AddrPortFrom(s.lab.Nodes[0].IPv4, port))
		})
		must(s.t, err)
	}
}

// overridden returns the directives with others in place of those of the same name.
func overridden(directives, others string) string {
	names := map[string]bool{}
	for _, other := range strings.Split(others, ";") {
		if words := strings.Fields(other); len(words) > 0 && words[0] != "proxy_set_header" {
			names[words[0]] = true
		}
	}
	var kept []string
	for _, directive := range strings.Split(directives, ";") {
		words := strings.Fields(directive)
		if len(words) > 0 && !names[words[0]] {
			kept = append(kept, "\t\t\t"+strings.Join(words, " ")+";")
		}
	}
	return strings.Join(kept, "\n") + "\n\t\t\t" + strings.TrimSpace(others)
}
