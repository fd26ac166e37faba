package differential

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

func nginxMissing() string {
	if _, err := exec.LookPath("nginx"); err != nil {
		return "needs nginx (scripts/setup test)"
	}
	return ""
}

// skip leaves the test out, which CI does not allow.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("KERNGATE_TEST_NO_SKIP") != "" {
		t.Fatalf("must not be skipped here, but %s", why)
	}
	t.Skip(why)
}

// main configuration: what ingress-nginx's template sets for every server, as far as it
// concerns what is compared.
const nginxMain = `
daemon off;
worker_processes 1;
error_log DIR/error.log;
pid DIR/pid;
USER
events { worker_connections 512; }
http {
	access_log off;
	client_body_temp_path DIR/body;
	proxy_temp_path DIR/proxy;
	fastcgi_temp_path DIR/fastcgi;
	uwsgi_temp_path DIR/uwsgi;
	scgi_temp_path DIR/scgi;
	server_tokens off;
	port_in_redirect off;
	absolute_redirect on;
	server_name_in_redirect off;
	client_max_body_size 0;
	map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
	limit_req_status 503;
	limit_conn_status 503;
ZONES
UPSTREAMS
	server { listen ADDRESS default_server; server_name _; return 404; }
SERVERS
}
`

// nginxProxy is what @SERVICE stands for: the end of a location of ingress-nginx's template.
// $pod_host can be set before.
const nginxProxy = `
	proxy_set_header Host $pod_host;
	proxy_set_header X-Real-IP $remote_addr;
	proxy_set_header X-Forwarded-For $remote_addr;
	proxy_set_header X-Forwarded-Host $http_host;
	proxy_set_header X-Forwarded-Port $server_port;
	proxy_set_header X-Forwarded-Proto $scheme;
	proxy_set_header Connection $connection_upgrade;
	proxy_set_header Upgrade $http_upgrade;
	proxy_http_version 1.1;
	proxy_buffering off;
	proxy_next_upstream error timeout;
	proxy_next_upstream_tries 3;
	proxy_redirect off;
	proxy_pass http://SERVICE;
`

var proxied = regexp.MustCompile(`@(` + strings.Join(services, "|") + `)\b`)

// startNginx serves the server blocks of all cases and returns nginx's address.
func startNginx(t *testing.T, p *pods, all []comparison) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kgt-nginx-") // nginx's workers must reach it: not the test's own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "staff"), []byte("ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	var upstreams, zones, servers strings.Builder
	for name, address := range p.address {
		fmt.Fprintf(&upstreams, "\tupstream %s { server %s; keepalive 4; }\n", name, address)
	}
	for _, c := range all {
		end := nginxProxy
		if strings.Contains(c.server, "proxy_redirect ") {
			end = strings.Replace(end, "proxy_redirect off;", "", 1)
		}
		main, zone, _ := strings.Cut(c.server, "\nHTTP\n")
		zones.WriteString(zone)
		if !strings.Contains(main, "server_name ") {
			main = "server_name " + c.name + ".test;\n" + main
		}
		main = "set $pod_host $http_host;\n" + strings.ReplaceAll(main, "\nserver {\n", "\nserver {\nset $pod_host $http_host;\n")
		main = proxied.ReplaceAllStringFunc(main, func(at string) string { return strings.ReplaceAll(end, "SERVICE", at[1:]) })
		fmt.Fprintf(&servers, "server {\nlisten %s;\n%s\n}\n", address, main)
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;"
	}
	config := strings.NewReplacer("UPSTREAMS", upstreams.String(), "ZONES", zones.String(), "SERVERS", servers.String(), "USER", user, "ADDRESS", address).Replace(nginxMain)
	config = strings.NewReplacer("DIR", dir, "ADDRESS", address).Replace(config)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nginx", "-c", file, "-p", dir)
	var said strings.Builder
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // ends with nginx, which the cleanup ends
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return address
		}
		select {
		case <-ended:
			t.Fatalf("nginx has ended:\n%s", said.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("nginx does not answer: %v\n%s", err, said.String())
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
