package server_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// deaf is a pod whose queue of connections is full: it answers no further one, not even by a
// refusal.
func deaf(t *testing.T) string {
	t.Helper()
	address, _ := deafUntil(t)
	return address
}

// deafUntil is deaf, whose listening socket may be accepted from.
func deafUntil(t *testing.T) (address string, fd int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address = fmt.Sprintf("127.0.0.1:%d", sa.(*unix.SockaddrInet4).Port)
	for range 4 {
		c, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return address, fd
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("its queue takes everybody")
	return "", -1
}

// TestDeafPod: a pod that does not answer a connection is waited for as long as the settings say.
func TestDeafPod(t *testing.T) {
	p := proxytest.Start(t, []proxytest.Service{{Name: "default/web:80", Path: "/", Backends: []string{deaf(t)}}}, &feedpb.Settings{ConnectTimeoutMs: 200})
	begun := time.Now()
	has(t, shop(t, p, "GET /"), "504 ", "connect_timeout")
	if took := time.Since(begun); took < 200*time.Millisecond || took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestDeafPodAmongOthers: a pod that does not accept a connection, as on a node that has lost its
// power, is given up soon while another one can be asked, over HTTP/1.1 and HTTP/2. Where the
// Ingress says how long to wait, that holds.
func TestDeafPodAmongOthers(t *testing.T) {
	well := pod(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "well") })
	p := http.Protocols{}
	p.SetUnencryptedHTTP2(true)
	h2 := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "well") }))
	h2.Config.Protocols = &p
	h2.Start()
	t.Cleanup(h2.Close)
	http2 := &feedpb.Upstream{Protocol: feedpb.Upstream_HTTP2}
	s := proxytest.Start(t, []proxytest.Service{
		{Name: "d/h1:80", Path: "/h1", Backends: []string{deaf(t), well}},
		{Name: "d/h2:80", Path: "/h2", Backends: []string{deaf(t), h2.Listener.Addr().String()}, Upstream: http2},
		{Name: "d/meant:80", Path: "/meant", Backends: []string{deaf(t), deaf(t)}, Policy: &feedpb.Policy{ConnectTimeoutMs: 700}},
	}, &feedpb.Settings{ConnectTimeoutMs: 30_000})
	for _, path := range []string{"/h1", "/h2"} {
		before := s.Metrics.Retries.Load()
		begun := time.Now()
		for range 30 {
			has(t, shop(t, s, "GET "+path), "200 OK", "well")
			if s.Metrics.Retries.Load() >= before+2 {
				break
			}
		}
		if s.Metrics.Retries.Load() == before {
			t.Errorf("%s: the deaf pod was not asked in 30 requests", path)
		}
		if took := time.Since(begun); took > 15*time.Second {
			t.Errorf("%s: it took %v", path, took)
		}
	}
	begun := time.Now()
	has(t, shop(t, s, "GET /meant"), "504 ", "connect_timeout")
	if took := time.Since(begun); took < 1400*time.Millisecond {
		t.Errorf("two pods were given up after %v, want 0.7 s each", took)
	}
}

// TestSlowPodAmongDeadOnes: a pod that was given up early gets its whole time if the others are no
// better: a lost SYN must not become a refused request.
func TestSlowPodAmongDeadOnes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	slow, fd := deafUntil(t)
	s := proxytest.Start(t, []proxytest.Service{{Name: "d/slow:80", Path: "/", Backends: []string{slow, dead}}}, &feedpb.Settings{ConnectTimeoutMs: 30_000})
	time.AfterFunc(600*time.Millisecond, func() { // the SYN that comes a second after the first is taken
		for {
			c, _, err := unix.Accept(fd)
			if err != nil {
				return
			}
			go func() {
				f := os.NewFile(uintptr(c), "pod")
				defer f.Close()
				if n, _ := f.Read(make([]byte, 1)); n > 0 {
					io.WriteString(f, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nslow")
				}
			}()
		}
	})
	has(t, shop(t, s, "GET /"), "200 OK", "slow")
}
