package server_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// busy is a pod whose responses wait until they are let go.
type busy struct {
	came chan string   // the query of each request that has reached the pod
	let  chan struct{} // lets one go
}

func newBusy() *busy { return &busy{make(chan string, 100), make(chan struct{})} }

func (b *busy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.came <- r.URL.RawQuery
	select {
	case <-b.let:
	case <-r.Context().Done():
	}
	io.WriteString(w, "done "+r.URL.RawQuery)
}

// waits until so many requests wait for a pod.
func waits(t *testing.T, p *proxytest.Proxy, n int64) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); p.Worker.Queue.Waiting() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d wait, want %d", p.Worker.Queue.Waiting(), n)
		}
	}
}

func TestPendingRequests(t *testing.T) {
	b := newBusy()
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "default/web:80", Path: "/", MaxConnections: 2, MaxPending: 3, Backends: []string{pod(t, b.ServeHTTP)}},
	}, nil)
	var wg sync.WaitGroup
	answers := make([]string, 5)
	for i := range answers {
		wg.Go(func() { answers[i] = shop(t, p, fmt.Sprintf("GET /?%d", i)) })
		if i < 2 {
			<-b.came
		} else {
			waits(t, p, int64(i-1))
		}
	}
	// The line is full.
	has(t, shop(t, p, "GET /?late"), "503 ", "pods_busy", "(queue_full)", "Retry-After: 1\r\n")
	// Each that ends lets the one in that came first.
	for i := 2; i < 5; i++ {
		b.let <- struct{}{}
		if got := <-b.came; got != fmt.Sprint(i) {
			t.Errorf("request %s came, want %d", got, i)
		}
	}
	waits(t, p, 0)
	b.let <- struct{}{}
	b.let <- struct{}{}
	wg.Wait()
	for i, answer := range answers {
		has(t, answer, "200 OK", fmt.Sprintf("done %d", i))
	}
}

// TestPendingEnds: who waits for too long is told so, and who goes away leaves the line.
func TestPendingEnds(t *testing.T) {
	b := newBusy()
	services := []proxytest.Service{
		{Name: "default/web:80", Path: "/", MaxConnections: 1, MaxPending: 2, Backends: []string{pod(t, b.ServeHTTP)}},
		{Name: "default/strict:80", Path: "/strict", MaxConnections: 1, Backends: []string{pod(t, b.ServeHTTP)}},
	}
	p := proxytest.Start(t, services, &feedpb.Settings{ConnectTimeoutMs: 300})
	var wg sync.WaitGroup
	wg.Go(func() { has(t, shop(t, p, "GET /?first"), "200 OK") })
	wg.Go(func() { has(t, shop(t, p, "GET /strict?first"), "200 OK") })
	<-b.came
	<-b.came
	has(t, shop(t, p, "GET /strict"), "503 ", "pods_busy", "(queue_full)")
	gone := p.Dial(t)
	io.WriteString(gone, "GET /?gone HTTP/1.1\r\nHost: shop.test\r\n\r\n")
	waits(t, p, 1)
	gone.SetLinger(0)
	gone.Close()
	waits(t, p, 0)
	begun := time.Now()
	has(t, shop(t, p, "GET /?patient"), "503 ", "pods_busy", "(queue_timeout)")
	if waited := time.Since(begun); waited < 300*time.Millisecond {
		t.Errorf("it was refused after %v", waited)
	}
	waits(t, p, 0)
	b.let <- struct{}{}
	b.let <- struct{}{}
	wg.Wait()
}

// TestPendingSeesNewPods: a pod that comes while requests wait is asked.
func TestPendingSeesNewPods(t *testing.T) {
	b := newBusy()
	service := proxytest.Service{Name: "default/web:80", Path: "/", MaxConnections: 1, MaxPending: 2, Backends: []string{pod(t, b.ServeHTTP)}}
	p := proxytest.Start(t, []proxytest.Service{service}, nil)
	var wg sync.WaitGroup
	wg.Go(func() { has(t, shop(t, p, "GET /?first"), "200 OK") })
	<-b.came
	wg.Go(func() { has(t, shop(t, p, "GET /?second"), "200 OK", "echo") })
	waits(t, p, 1)
	service.Backends = append(service.Backends, pod(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "echo") }))
	p.Configure(t, []proxytest.Service{service}, nil)
	waits(t, p, 0)
	b.let <- struct{}{}
	wg.Wait()
	if n := strings.Count(p.Log.String(), "pods_busy"); n != 0 {
		t.Errorf("%d were refused", n)
	}
}
