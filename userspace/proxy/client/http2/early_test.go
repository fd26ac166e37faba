package http2_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// early is a request that is answered before its body has ended.
type early struct {
	host, path string
	status     int
}

// earlySite starts a proxy with TLS whose routes answer without reading the request's body,
// and lists a request for each of them.
func earlySite(t testing.TB) (*proxytest.Proxy, []early) {
	t.Helper()
	// A pod that answers and closes while the body is still coming in: its side is reset.
	quits := rawPod(t, func(c net.Conn, in *bufio.Reader, head string) {
		status := "200 OK"
		if strings.Contains(head, "/denies") {
			status = "403 Forbidden"
		}
		fmt.Fprintf(c, "HTTP/1.1 %s\r\nContent-Length: 6\r\nConnection: close\r\n\r\nearly\n", status)
		c.Close()
	})
	// A pod that answers at once, and reads nothing for as long as the connection lasts.
	stays := rawPod(t, func(c net.Conn, in *bufio.Reader, head string) {
		io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 6\r\n\r\nearly\n")
		<-t.Context().Done()
	})
	reads := pod(t, func(w http.ResponseWriter, r *http.Request) { io.ReadAll(r.Body) })
	rule := func(path string, p *feedpb.Policy, pod string) proxytest.Service {
		if p == nil {
			p = &feedpb.Policy{}
		}
		p.RequestBuffering = feedpb.RequestBuffering_BUFFER_OFF // pods see requests before their bodies end
		return proxytest.Service{Name: "default" + path + ":80", Host: "a.test", Path: path, Policy: p, Backends: []string{pod}}
	}
	settings := &feedpb.Settings{}
	services := []proxytest.Service{
		rule("/outside", &feedpb.Policy{Access: &feedpb.Access{Allow: []string{"192.0.2.0/24"}}}, quits),
		rule("/basic", &feedpb.Policy{Access: &feedpb.Access{Basic: &feedpb.BasicAuth{Realm: "staff", Users: []byte("ann:$apr1$c2B59x0e$9jxHMc4MeeQKPC2nF6PKC1")}}}, quits),
		rule("/small", &feedpb.Policy{MaxBodyBytes: new(uint64(1 << 20))}, reads),
		rule("/moved", &feedpb.Policy{Redirects: []*feedpb.Redirect{{Path: "/moved", Status: 307, Target: "/elsewhere"}}}, quits),
		rule("/limited", &feedpb.Policy{Limits: &feedpb.Limits{Rates: []*feedpb.Rate{{Requests: 1, PeriodMs: 3_600_000}}, Status: 429, Scope: "a"}}, quits),
		rule("/nobody", nil, ""),
		rule("/quits", nil, quits),
		rule("/denies", nil, quits),
		rule("/stays", nil, stays),
	}
	services[5].Backends = nil
	p := proxytest.Start(t, services, settings)
	_, port, _ := net.SplitHostPort(p.Address)
	var n uint32
	fmt.Sscan(port, &n)
	settings.HttpsPorts = []uint32{n}
	p.Configure(t, services, settings)
	return p, []early{
		{"a.test", "/outside", 403}, {"a.test", "/basic", 401}, {"a.test", "/small", 413}, {"a.test", "/moved", 307},
		{"a.test", "/limited", 429}, {"a.test", "/nobody", 503}, {"b.test", "/", 404},
		{"a.test", "/quits", 200}, {"a.test", "/denies", 403}, {"a.test", "/stays", 401},
	}
}

// upload is a file of 6 MB, more than any window or socket buffer that is filled unread.
func upload(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "upload")
	if err := os.WriteFile(name, bytes.Repeat([]byte("0123456789abcdef"), 6_000_000/16), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestEarlyAnswerCurl: curl gets the status of each answer that comes while it still sends.
func TestEarlyAnswerCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed (scripts/setup test)")
	}
	p, requests := earlySite(t)
	file := upload(t)
	_, port, _ := net.SplitHostPort(p.Address)
	for _, version := range []string{"--http2", "--http1.1"} {
		for _, length := range []string{"Content-Length: 6000000", "Transfer-Encoding: chunked"} {
			exec.Command(curl, "-sk", version, "--connect-to", "::"+p.Address, "https://a.test:"+port+"/limited").Run() // takes what the limit allows
			for _, r := range requests {
				t.Run(version[2:]+r.path+" "+length, func(t *testing.T) {
					url := "https://" + r.host + ":" + port + r.path
					args := []string{"-skS", version, "-m", "20", "--connect-to", "::" + p.Address, "-H", "Expect:", "-o", "/dev/null", "-w", "%{http_code}", "-T", file, "-X", "POST"}
					if strings.HasPrefix(length, "Transfer") {
						args = append(args, "-H", length)
					}
					out, err := exec.Command(curl, append(args, url)...).CombinedOutput()
					if err != nil || string(out) != fmt.Sprint(r.status) {
						t.Errorf("%s, %v; want %d", out, err, r.status)
					}
				})
			}
		}
	}
}

// nodeClient posts a file to each URL path and prints the status once the stream has closed.
const nodeClient = `
const http2 = require('http2'), fs = require('fs');
const [origin, file, ...requests] = process.argv.slice(1);
const body = fs.readFileSync(file);
const session = http2.connect(origin, {rejectUnauthorized: false});
session.on('error', e => { console.log('session', e.message); process.exit(1); });
async function ask(host, path) {
	const s = session.request({':method': 'POST', ':path': path, ':authority': host});
	return new Promise(done => {
		let status = 0, fault = '', size = 0;
		const stuck = setTimeout(() => done(path + ' ' + status + ' never closed'), 15000);
		s.on('response', h => status = h[':status']);
		s.on('data', d => size += d.length);
		s.on('error', e => fault = ' ' + e.code);
		s.on('close', () => { clearTimeout(stuck); done(path + ' ' + status + fault); });
		s.end(body);
	});
}
(async () => {
	for (const r of requests) console.log(await ask(...r.split(' ')));
	session.destroy();
})();
`

// TestEarlyAnswerNode: so does Node's client, whose streams then close.
func TestEarlyAnswerNode(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed (scripts/setup test)")
	}
	p, requests := earlySite(t)
	args := []string{"-e", nodeClient, "https://" + p.Address, upload(t), "a.test /limited"}
	var want strings.Builder
	want.WriteString("/limited 200\n")
	for _, r := range requests {
		args = append(args, r.host+" "+r.path)
		fmt.Fprintf(&want, "%s %d\n", r.path, r.status)
	}
	cmd := exec.Command(node, args...)
	cmd.Stderr = os.Stderr // some versions warn
	out, err := cmd.Output()
	if err != nil || string(out) != want.String() {
		t.Errorf("%s%v; want\n%s", out, err, want.String())
	}
}
