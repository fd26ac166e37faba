package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestExternalAuthOfWebSockets: a tunnel stands only for whom the service has let in, and
// what the service says of the client is in the request for it.
func TestExternalAuthOfWebSockets(t *testing.T) {
	service, asked := gate(t)
	heads := make(chan string, 8)
	web := rawPod(t, func(c net.Conn) {
		in, head := bufio.NewReader(c), ""
		for !strings.HasSuffix(head, "\r\n\r\n") {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			head += line
		}
		heads <- head
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		io.Copy(c, in)
	})
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "default/gate:80", Path: "/gate", Backends: []string{service}},
		{Name: "default/web:80", Path: "/", Backends: []string{web}, Policy: asks(nil)},
	}, nil)
	upgrade := "GET /ws HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-User: root\r\nAuthorization: Bearer %s\r\n\r\n"

	c := p.Dial(t)
	c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(c, upgrade, "good")
	in := bufio.NewReader(c)
	answer, err := http.ReadResponse(in, nil)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the upgrade is answered with %v (%v)", answer, err)
	}
	io.WriteString(c, "through the tunnel")
	echoed := make([]byte, len("through the tunnel"))
	if _, err := io.ReadFull(in, echoed); err != nil || string(echoed) != "through the tunnel" {
		t.Errorf("the tunnel carries %q (%v)", echoed, err)
	}
	if head := <-heads; !strings.Contains(head, "X-User: ann\r\n") || strings.Contains(head, "root") {
		t.Errorf("the pod gets %s", head)
	}
	before := asked.Load()
	for token, status := range map[string]string{"bad": "401 ", "forbidden": "403 ", "broken": "500 "} {
		has(t, talk(t, p, fmt.Sprintf(upgrade, token)), "HTTP/1.1 "+status)
	}
	if n := asked.Load() - before; n != 3 || len(heads) > 0 {
		t.Errorf("%d questions about 3 tunnels, of which the pod has heard of %d", n, len(heads))
	}
}

// TestExternalAuthOfOwnHost: with $host the service is what the proxy routes the host to, not
// a name that a client can choose.
func TestExternalAuthOfOwnHost(t *testing.T) {
	service, asked := gate(t)
	web := speaker(t)
	own := asks(func(a *feedpb.Access) { a.External.To = &feedpb.Destination{Authority: "$host", Path: "/oauth2/auth"} })
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "default/gate:80", Host: "shop.test", Path: "/oauth2", Backends: []string{service}},
		{Name: "default/web:80", Host: "shop.test", Path: "/", Backends: []string{web}, Policy: own},
		{Name: "default/other:80", Host: "other.test", Path: "/app", Backends: []string{web}, Policy: own},
	}, nil)
	has(t, shop(t, p, "GET /", "Authorization: Bearer good"), "200 OK", `user=["ann"]`)
	has(t, shop(t, p, "GET /", "Authorization: Bearer bad"), "401 ")
	before := asked.Load()
	// Where the proxy routes nothing nobody is asked, and nobody gets in.
	answer := talk(t, p, "GET /app HTTP/1.1\r\nHost: other.test\r\nAuthorization: Bearer good\r\nConnection: close\r\n\r\n")
	has(t, answer, "500 ", "external_failed")
	if n := asked.Load() - before; n != 0 {
		t.Errorf("%d questions to another host's service", n)
	}
}

// TestMirrorOfRetriedRequest: a request that several pods were asked is copied once, whole.
func TestMirrorOfRetriedRequest(t *testing.T) {
	copies := make(chan string, 8)
	to := pod(t, func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		copies <- fmt.Sprintf("%s %q %v", r.Method, body, err)
	})
	fails := pod(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	policy := &feedpb.Policy{
		Mirrors: []*feedpb.Mirror{{To: &feedpb.Destination{Service: 1, Authority: "copy.test", Path: "/"}, Body: true}},
		Retry:   &feedpb.Retry{On: uint32(model.Retry503), Tries: 3, NonIdempotent: true},
	}
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "default/to:80", Path: "/to", Backends: []string{to}},
		{Name: "default/web:80", Path: "/", Backends: []string{fails, fails, fails}, Policy: policy},
	}, nil)
	for _, line := range []string{"GET /", "PUT /"} {
		want, fields := `GET "" <nil>`, []string(nil)
		if line == "PUT /" {
			want, fields = `PUT "hello" <nil>`, []string{"Content-Length: 5", "", "hello"}
		}
		retries := p.Metrics.Retries.Load()
		has(t, shop(t, p, line, fields...), "503 ")
		if line == "GET /" && p.Metrics.Retries.Load() == retries {
			t.Errorf("%s is asked of one pod only", line)
		}
		select {
		case got := <-copies:
			if got != want {
				t.Errorf("the copy is %s, want %s", got, want)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("no copy of %s", line)
		}
	}
	time.Sleep(50 * time.Millisecond)
	if n := len(copies); n > 0 {
		t.Errorf("%d copies too many", n)
	}
}
