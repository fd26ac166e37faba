package server_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestRefusedBodyIsTheEnd: behind a body that was refused nothing is read as a request, wherever
// the bytes behind it come to lie in the buffers. The pod's side is the same.
func TestRefusedBodyIsTheEnd(t *testing.T) {
	var smuggled atomic.Int64
	backend := pod(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/smuggled" {
			smuggled.Add(1)
		}
		io.Copy(io.Discard, r.Body)
	})
	const next = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	for name, p := range map[string]*proxytest.Proxy{"gathered": one(t, backend), "streamed": unbuffered(t, backend)} {
		for _, refused := range []string{
			"0\r\n" + strings.Repeat("a: b\r\n", 600) + "\r\n",
			"0\r\nContent-Length: 5\r\n\r\n", "0\r\nTransfer-Encoding: chunked\r\n\r\n", "zz\r\n", "1\r\naX\r\n",
		} {
			head := "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
			for _, align := range []int{0, 4 << 10, 16 << 10, 64 << 10} {
				var b bytes.Buffer
				b.WriteString(head)
				if fill := align - b.Len() - len(refused); fill > 20 {
					fmt.Fprintf(&b, "%x\r\n%s\r\n", fill-10, strings.Repeat("x", fill-10))
				}
				b.WriteString(refused)
				for b.Len() < align {
					b.WriteByte('x')
				}
				c := p.Dial(t)
				c.SetDeadline(time.Now().Add(10 * time.Second))
				c.Write(b.Bytes())
				io.WriteString(c, next)
				c.CloseWrite()
				got, _ := io.ReadAll(c)
				if n := bytes.Count(got, []byte("HTTP/1.1 ")); n != 1 || !bytes.Contains(got, []byte(" 4")) {
					t.Errorf("%s, %.20q at %d: %d answers: %.200q", name, refused, align, n, got)
				}
			}
		}
	}
	if n := smuggled.Load(); n > 0 {
		t.Errorf("%d smuggled requests reached the pod", n)
	}
}

// TestRefusedResponseIsTheEnd: what a pod says behind a body that was refused is nobody's answer.
func TestRefusedResponseIsTheEnd(t *testing.T) {
	for _, refused := range []string{"0\r\nContent-Length: 5\r\n\r\n", "zz\r\n", "1\r\naX\r\n", "0\r\n" + strings.Repeat("a: b\r\n", 600) + "\r\n"} {
		var connections atomic.Int64
		p := one(t, rawPod(t, func(c net.Conn) {
			connections.Add(1)
			for in := bufio.NewReader(c); ; {
				if _, err := http.ReadRequest(in); err != nil {
					return
				}
				io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+refused+"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")
			}
		}))
		for range 3 {
			c := p.Dial(t)
			c.SetDeadline(time.Now().Add(10 * time.Second))
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			if got, _ := io.ReadAll(c); bytes.Contains(got, []byte("secret")) {
				t.Errorf("%.20q: the client got %.300q", refused, got)
			}
		}
		if n := connections.Load(); n != 3 {
			t.Errorf("%.20q: 3 requests over %d connections to the pod", refused, n)
		}
	}
}

// TestTrailersThatPass: fields behind a body go on where the client says that it knows of them,
// and never by a name that the proxy or a rule gives a value.
func TestTrailersThatPass(t *testing.T) {
	const trailers = "X-Sum: 1\r\nX-User: admin\r\nx_user: admin\r\nX-Rule: 2\r\nX-Forwarded-For: 6.6.6.6\r\nX_Real_IP: 6.6.6.6\r\nX-Request-Id: no\r\n"
	var heads = make(chan string, 1)
	backend := rawPod(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		var b strings.Builder
		for !strings.HasSuffix(b.String(), "0\r\n\r\n") && !strings.Contains(b.String(), "\r\n0\r\n") || !strings.HasSuffix(b.String(), "\r\n\r\n") {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			b.WriteString(line)
		}
		heads <- b.String()
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 2\r\nSet-Cookie: a=b\r\n\r\n")
	})
	gate := pod(t, func(w http.ResponseWriter, r *http.Request) {})
	p := proxytest.Start(t, []proxytest.Service{{
		Name: "default/a:80", Path: "/", Backends: []string{backend},
		Policy: &feedpb.Policy{
			RequestBuffering: feedpb.RequestBuffering_BUFFER_OFF,
			RequestHeaders:   []*feedpb.HeaderRule{{Name: "X-Rule", Value: "1"}},
			Access: &feedpb.Access{External: &feedpb.ExternalAuth{
				To: &feedpb.Destination{Service: 60, Authority: "gate.test", Path: "/"}, Response: []string{"X-User"}}},
		},
	}}, nil)
	p.Backend(t, 60, gate)
	for _, c := range []struct {
		fields, pod, client string
	}{
		{"", "", ""},
		{"TE: gzip\r\n", "", ""},
		{"TE: trailers\r\n", "X-Sum: 1\r\n", "X-Sum: 2\r\n"},
		{"TE: gzip;q=0.5, Trailers\r\n", "X-Sum: 1\r\n", "X-Sum: 2\r\n"},
		{"Content-Type: application/grpc\r\n", "X-Sum: 1\r\n", "X-Sum: 2\r\n"},
	} {
		answer := talk(t, p, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTrailer: X-Sum\r\n"+c.fields+"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"+trailers+"\r\n")
		got := <-heads
		if _, end, _ := strings.Cut(got, "\r\n0\r\n"); end != c.pod+"\r\n" {
			t.Errorf("%q: the pod got trailers %q", c.fields, end)
		}
		if _, end, _ := strings.Cut(answer, "\r\n0\r\n"); end != c.client+"\r\n" {
			t.Errorf("%q: the client got trailers %q of %q", c.fields, end, answer)
		}
		for who, head := range map[string]string{"pod": got, "client": answer} {
			if announced := strings.Contains(head, "Trailer: X-Sum\r\n"); announced != (c.pod != "") {
				t.Errorf("%q: announced to the %s: %v", c.fields, who, announced)
			}
		}
	}
}

// TestUpgradesThatPass: only protocols that the client asks for, and that do not carry requests
// past the rules, make a tunnel of a connection.
func TestUpgradesThatPass(t *testing.T) {
	for _, c := range []struct {
		asked, agreed string // "": no field
		forwarded     string
		status        int
	}{
		{"websocket", "websocket", "websocket", 101},
		{"websocket", "WebSocket", "websocket", 101},
		{"tcp", "tcp", "tcp", 101},
		{"SPDY/3.1", "SPDY/3.1", "SPDY/3.1", 101},
		{"a/1, b", "b", "a/1, b", 101},
		{"websocket", "", "websocket", 502},
		{"websocket", "h2c", "websocket", 502},
		{"websocket", "foo", "websocket", 502},
		{"websocket", "websocket, foo", "websocket", 502},
		{"foo", "websocket", "foo", 502},
		{"SPDY/3.1", "SPDY/2", "SPDY/3.1", 502},
		{"h2c", "h2c", "", 502}, {"H2C", "h2c", "", 502}, {"h2", "h2", "", 502}, {"websocket, h2c", "h2c", "", 502},
		{"TLS/1.0", "TLS/1.0", "", 502}, {"tls", "tls", "", 502}, {"HTTP/2.0", "HTTP/2.0", "", 502}, {"h3", "h3", "", 502},
		{",", ",", "", 502},
		{"", "websocket", "", 502},
	} {
		got := make(chan string, 1)
		p := one(t, rawPod(t, func(conn net.Conn) {
			r, err := http.ReadRequest(bufio.NewReader(conn))
			if err != nil {
				return
			}
			got <- r.Header.Get("Upgrade")
			answer := "HTTP/1.1 101 Switching Protocols\r\n"
			if c.agreed != "" {
				answer += "Connection: Upgrade\r\nUpgrade: " + c.agreed + "\r\n"
			}
			io.WriteString(conn, answer+"\r\nraw")
		}))
		fields := ""
		if c.asked != "" {
			fields = "Connection: Upgrade\r\nUpgrade: " + c.asked + "\r\n"
		}
		answer := talk(t, p, "GET / HTTP/1.1\r\nHost: a\r\n"+fields+"\r\n")
		if forwarded := <-got; forwarded != c.forwarded {
			t.Errorf("%q: the pod was asked for %q, want %q", c.asked, forwarded, c.forwarded)
		}
		if !strings.HasPrefix(answer, fmt.Sprintf("HTTP/1.1 %d ", c.status)) || strings.HasSuffix(answer, "raw") != (c.status == 101) {
			t.Errorf("%q, answered with %q: %q", c.asked, c.agreed, answer)
		}
	}
}
