package health_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/pod/health"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// A pod that answers requests with 500 is ejected, and returns when its time is over.
func TestRequestsEjectAPod(t *testing.T) {
	var ill atomic.Bool
	var bad, good atomic.Int64
	ill.Store(true)
	one := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		bad.Add(1)
		if ill.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(one.Close)
	two := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { good.Add(1) }))
	t.Cleanup(two.Close)

	p := proxytest.Start(t, []proxytest.Service{{Name: "a/b:80", Path: "/", Backends: []string{one.Listener.Addr().String(), two.Listener.Addr().String()}}}, nil)
	next, err := p.Config.Load().Apply(&feedpb.Config{Version: 2, Services: []*feedpb.Service{
		{Id: 1, Name: "a/b:80", Outlier: &feedpb.Outlier{Consecutive: 5, EjectionMs: 1500, ServerErrors: true}},
	}, Hosts: []*feedpb.Host{{Routes: []*feedpb.Route{{Path: "/", Service: 1, Source: "a/web"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	p.Config.Store(next)
	for id := range uint32(3) {
		p.View.Load(1, id).Generation = 1
	}
	m := health.New(p.View, 1, p.Config, func() bool { return true }, zerolog.Nop())
	set := make(chan struct{})
	p.Loop.Submit(func() { p.Worker.Health = m; close(set) })
	<-set
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); m.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })

	get := func() int {
		response, err := http.Get("http://" + p.Address + "/")
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		return response.StatusCode
	}
	load := p.View.Load(1, 1)
	eventually(t, "ejection", func() bool { get(); return atomic.LoadUint32(&load.Health) == abi.HealthEjected })
	if bad.Load() < 5 {
		t.Errorf("ejected after %d answers, want at least 5", bad.Load())
	}
	asked := bad.Load()
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
		if status := get(); status != http.StatusOK {
			t.Errorf("status %d while the pod is ejected", status)
		}
	}
	if bad.Load() != asked {
		t.Errorf("the ejected pod was asked %d times", bad.Load()-asked)
	}
	ill.Store(false)
	eventually(t, "return", func() bool { get(); return bad.Load() > asked+3 })
}

// What a request costs the monitor while pods are well.
func BenchmarkEnded(b *testing.B) {
	p := proxytest.Start(b, []proxytest.Service{{Name: "a/b:80", Path: "/", Backends: []string{"127.0.0.1:1"}}}, nil)
	m := health.New(p.View, 1, p.Config, func() bool { return true }, zerolog.Nop())
	s := &config.Service{ID: 1, Outlier: config.DefaultOutlier}
	b.ReportAllocs()
	for b.Loop() {
		m.Ended(s, 1, 1, false)
	}
}
