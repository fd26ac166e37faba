package server_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/observe/overload"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// watch has the proxy's monitor look until the test ends.
func watch(t *testing.T, p *proxytest.Proxy) *overload.Monitor {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Worker.Overload.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return p.Worker.Overload
}

// statusOn sends a request on an open connection and returns the status.
func statusOn(t *testing.T, c net.Conn) int {
	t.Helper()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	io.Copy(io.Discard, resp.Body)
	if resp.StatusCode == 503 && (resp.Header.Get("Retry-After") == "" || !resp.Close) {
		t.Errorf("refused by %v, close: %v", resp.Header, resp.Close)
	}
	return resp.StatusCode
}

// TestIdleConnectionsMakeRoom: who has nothing to say goes before anybody is refused.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	p := proxytest.Start(t, []proxytest.Service{{Name: "default/web:80", Path: "/", Backends: []string{echo(t, "web")}}}, nil)
	p.Worker.Overload.SetConnections(20)
	watch(t, p)
	for i := range 60 {
		c := p.Dial(t)
		if status := statusOn(t, c); status != 200 {
			t.Fatalf("connection %d: status %d", i, status)
		}
	}
	if n := p.Stats.Open.Load(); n > 20 {
		t.Errorf("%d connections are open", n)
	}
	if n := p.Stats.Full.Load(); n != 0 {
		t.Errorf("%d were closed at once", n)
	}
}

// TestTooManyConnections: with all of them in use, requests are refused, then connections.
func TestTooManyConnections(t *testing.T) {
	b := newBusy()
	p := proxytest.Start(t, []proxytest.Service{{Name: "default/web:80", Path: "/", Backends: []string{pod(t, b.ServeHTTP)}}}, &feedpb.Settings{TrustedProxies: []string{"127.0.0.1"}})
	m := p.Worker.Overload
	m.SetConnections(20)
	for range 20 {
		io.WriteString(p.Dial(t), "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
		<-b.came
	}
	watch(t, p)
	for deadline := time.Now().Add(5 * time.Second); m.Refused() < 1; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%v is refused", m.Refused())
		}
	}
	late := p.Dial(t)
	late.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := late.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("connection 21 was not closed")
	}
	if n := p.Stats.Full.Load(); n != 1 {
		t.Errorf("%d were counted", n)
	}
	b.let <- struct{}{} // one ends, so that there is room for one, which is refused
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if status := statusOn(t, p.Dial(t)); status == 503 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("status %d", status)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); p.Metrics.Ended[exchange.Shed].Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it was not counted")
		}
	}
	close(b.let)
}

// TestShedRecovers: when there is enough again, everybody is served.
func TestShedRecovers(t *testing.T) {
	p := proxytest.Start(t, []proxytest.Service{{Name: "default/web:80", Path: "/", Backends: []string{echo(t, "web")}}}, nil)
	used := make(chan uint64, 1)
	used <- 100
	p.Worker.Overload.MemoryOf = func() (uint64, uint64) {
		n := <-used
		used <- n
		return n, 100
	}
	watch(t, p)
	until := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			status := statusOn(t, p.Dial(t))
			if status == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("status %d, want %d", status, want)
			}
		}
	}
	until(503)
	<-used
	used <- 50
	until(200)
}
