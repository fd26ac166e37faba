package server_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/client/server"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// dialFrom connects from a loopback address of one's own.
func dialFrom(t testing.TB, p *proxytest.Proxy, from string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	c, err := d.Dial("tcp", p.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func evicted(p *proxytest.Proxy) (counts [len(server.Evictions)]uint64) {
	for i := range counts {
		counts[i] = p.Stats.Evicted[i].Load()
	}
	return counts
}

// TestSlowHeadsGoFirst: many heads that never end, of a few sources, cost neither those who
// idle nor those who come.
func TestSlowHeadsGoFirst(t *testing.T) {
	for name, begins := range map[string]string{"nothing": "", "half a head": "GET / HTTP/1.1\r\nHost: sh", "half a head of the second request": "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\nGET / HT"} {
		t.Run(name, func(t *testing.T) {
			p := proxytest.Start(t, []proxytest.Service{{Name: "default/web:80", Path: "/", Backends: []string{echo(t, "web")}}}, nil)
			p.Worker.Overload.SetConnections(40)
			var idle []net.Conn
			for i := range 6 {
				c := dialFrom(t, p, fmt.Sprintf("127.0.1.%d", i+1))
				if status := statusOn(t, c); status != 200 {
					t.Fatalf("status %d", status)
				}
				idle = append(idle, c)
			}
			for i := range 300 {
				io.WriteString(dialFrom(t, p, fmt.Sprintf("127.0.2.%d", i%3+1)), begins)
				if i%50 == 49 {
					if status := statusOn(t, dialFrom(t, p, fmt.Sprintf("127.0.3.%d", i%250+1))); status != 200 {
						t.Fatalf("newcomer after %d: status %d", i+1, status)
					}
				}
			}
			for i, c := range idle {
				if status := statusOn(t, c); status != 200 {
					t.Errorf("idle connection %d: status %d", i, status)
				}
			}
			if got := evicted(p); got[0] < 200 || got[1] > 6 || p.Stats.Full.Load() > 0 {
				t.Errorf("evicted %v of %v, %d found no room", got, server.Evictions, p.Stats.Full.Load())
			}
		})
	}
}

// TestIdleOfTheWorstGoFirst: of idle connections those of whom there are most make room.
func TestIdleOfTheWorstGoFirst(t *testing.T) {
	p := proxytest.Start(t, []proxytest.Service{{Name: "default/web:80", Path: "/", Backends: []string{echo(t, "web")}}}, nil)
	p.Worker.Overload.SetConnections(40)
	honest := dialFrom(t, p, "127.0.1.1")
	if status := statusOn(t, honest); status != 200 {
		t.Fatal(status)
	}
	for range 200 {
		if status := statusOn(t, dialFrom(t, p, "127.0.2.1")); status != 200 {
			t.Fatal(status)
		}
	}
	if status := statusOn(t, honest); status != 200 {
		t.Errorf("the one idle connection of a source: status %d", status)
	}
	if got := evicted(p); got[1] < 150 {
		t.Errorf("evicted %v of %v", got, server.Evictions)
	}
}

// TestBusySourceLeavesRoom: who holds most connections with requests under way does not get the
// last ones, and costs nobody an idle one.
func TestBusySourceLeavesRoom(t *testing.T) {
	b := newBusy()
	p := proxytest.Start(t, []proxytest.Service{{Name: "default/web:80", Path: "/busy", Backends: []string{pod(t, b.ServeHTTP)}},
		{Name: "default/echo:80", Path: "/", Backends: []string{echo(t, "web")}}}, nil)
	defer close(b.let)
	p.Worker.Overload.SetConnections(40)
	idle := dialFrom(t, p, "127.0.1.1")
	if status := statusOn(t, idle); status != 200 {
		t.Fatal(status)
	}
	for range 100 {
		io.WriteString(dialFrom(t, p, "127.0.2.1"), "GET /busy HTTP/1.1\r\nHost: shop.test\r\n\r\n")
	}
	waitFor(t, func() bool { return evicted(p)[0]+evicted(p)[2] >= 60 }) // some before their request was read
	if status := statusOn(t, idle); status != 200 {
		t.Errorf("idle: status %d", status)
	}
	if status := statusOn(t, dialFrom(t, p, "127.0.3.1")); status != 200 {
		t.Errorf("newcomer: status %d", status)
	}
}

// TestMostConnectionsOfASource: the bound holds for each client, also for those that a PROXY
// header names, and not for proxies that are trusted.
func TestMostConnectionsOfASource(t *testing.T) {
	services := []proxytest.Service{{Name: "default/web:80", Path: "/", Backends: []string{echo(t, "web")}}}
	p := proxytest.Start(t, services, &feedpb.Settings{MaxConnectionsPerSource: 5, TrustedProxies: []string{"127.0.9.0/24"}, ProxyHeaderFrom: []string{"127.0.8.0/24"}})
	open := func(from, begin string) (served int) {
		for range 12 {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
			c, err := d.Dial("tcp", p.Address)
			if err != nil {
				continue // closed at once
			}
			t.Cleanup(func() { c.Close() })
			io.WriteString(c, begin)
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			if r, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil && r.StatusCode == 200 {
				served++
			}
		}
		return served
	}
	for _, c := range []struct {
		from, begin string
		want        int
	}{
		{"127.0.1.1", "", 5}, {"127.0.1.2", "", 5}, {"127.0.9.1", "", 12},
		{"127.0.8.1", "PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\n", 5}, {"127.0.8.1", "PROXY TCP4 192.0.2.9 192.0.2.2 1 80\r\n", 5},
		{"127.0.8.2", "PROXY TCP4 127.0.9.3 192.0.2.2 1 80\r\n", 12}, {"127.0.8.3", "PROXY UNKNOWN\r\n", 12},
	} {
		if got := open(c.from, c.begin); got != c.want {
			t.Errorf("%s %q: %d of 12 were served, want %d", c.from, c.begin, got, c.want)
		}
	}
	if got := evicted(p)[2]; got != 28 {
		t.Errorf("%d were counted", got)
	}
}

// helloOf returns a ClientHello.
func helloOf(t testing.TB, host string) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	go tls.Client(b, &tls.Config{ServerName: host}).Handshake()
	buf := make([]byte, 16<<10)
	n, err := a.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// TestHandshakesOfOthers: neither beginnings of a ClientHello nor handshakes that stop behind it
// keep others from theirs.
func TestHandshakesOfOthers(t *testing.T) {
	s := startSite(t, nil)
	shake := func() {
		t.Helper()
		c := tls.Client(dialFrom(t, s.Proxy, "127.0.3.1"), &tls.Config{ServerName: "a.test", RootCAs: s.roots})
		c.SetDeadline(time.Now().Add(20 * time.Second))
		if err := c.Handshake(); err != nil {
			t.Errorf("a client beside: %v", err)
		}
	}
	hello := helloOf(t, "a.test")
	for range 300 {
		dialFrom(t, s.Proxy, "127.0.2.1").Write(hello[:6])
		dialFrom(t, s.Proxy, "127.0.2.1").Write(hello[:len(hello)-1])
	}
	waitFor(t, func() bool { return s.Stats.Open.Load() == 600 })
	shake()
	waitFor(t, func() bool { return s.Stats.Handshakes.Open.Load() == 0 }) // no ClientHello is whole
	most := server.MaxHandshakesPerSource
	for range most + 20 {
		dialFrom(t, s.Proxy, "127.0.2.2").Write(hello)
	}
	limit := func() uint64 { return s.Stats.Handshakes.Failed[2].Load() }
	waitFor(t, func() bool { return limit() == 20 && s.Stats.Handshakes.Open.Load() == int64(most) })
	shake()
	if n := limit(); n != 20 {
		t.Errorf("%d handshakes were ended for others", n)
	}
}

// TestSlowBodies: a client that sends a byte now and then is ended, one that is slow and goes on
// is not, and neither is one whose pod has begun to answer.
func TestSlowBodies(t *testing.T) {
	answers := pod(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.(http.Flusher).Flush()
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d bytes", n)
	})
	off := &feedpb.Policy{RequestBuffering: feedpb.RequestBuffering_BUFFER_OFF}
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "d/gathered:80", Path: "/", Backends: []string{pod(t, emptied)}},
		{Name: "d/streamed:80", Path: "/streamed", Backends: []string{pod(t, emptied)}, Policy: off},
		{Name: "d/answered:80", Path: "/answered", Backends: []string{answers}, Policy: off},
	}, &feedpb.Settings{BodyTimeoutMs: 1000, MinRequestRate: 200})
	for _, c := range []struct {
		path, head, piece string
		status            int
	}{
		{"/", "Transfer-Encoding: chunked", "1\r\nx\r\n", 408},
		{"/streamed", "Transfer-Encoding: chunked", "1\r\nx\r\n", 408},
		{"/streamed", "Content-Length: 1000000", "x", 408},
		{"/", "Content-Length: 1000000", "x", 408},
		{"/", "Transfer-Encoding: chunked", "64\r\n" + fmt.Sprintf("%100d", 1) + "\r\n", 200},
		{"/streamed", "Content-Length: 4000", fmt.Sprintf("%100d", 1), 200},
		{"/answered", "Transfer-Encoding: chunked", "1\r\nx\r\n", 200},
	} {
		conn := p.Dial(t)
		io.WriteString(conn, "POST "+c.path+" HTTP/1.1\r\nHost: a\r\n"+c.head+"\r\n\r\n")
		answer := make(chan int, 1)
		go func() {
			conn.SetReadDeadline(time.Now().Add(20 * time.Second))
			r, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				answer <- 0
				return
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				answer <- 0
				return
			}
			answer <- r.StatusCode
		}()
		status := -1
		for i := 0; i < 200 && status < 0; i++ {
			if c.status == 200 && i == 40 {
				if c.head[0] == 'T' {
					io.WriteString(conn, "0\r\n\r\n")
				}
				break
			}
			io.WriteString(conn, c.piece)
			select {
			case status = <-answer:
			case <-time.After(50 * time.Millisecond):
			}
		}
		if status < 0 {
			status = <-answer
		}
		if status != c.status {
			t.Errorf("%s %s %.3q: status %d, want %d", c.path, c.head, c.piece, status, c.status)
		}
	}
}
