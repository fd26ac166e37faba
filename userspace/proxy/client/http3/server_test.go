package http3_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	qhttp3 "github.com/quic-go/quic-go/http3"
	"github.com/rs/zerolog"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/client/http3"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// site is a proxy that speaks HTTP/3 before one pod.
type site struct {
	*proxytest.Proxy
	url     string
	backend string
	server  *http3.Server
	stats   *http3.Stats
	client  *http.Client
}

func newSite(t testing.TB, pod http.HandlerFunc, change ...func(*http3.Server)) *site {
	t.Helper()
	backend := httptest.NewServer(pod)
	t.Cleanup(backend.Close)
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "default/a:80", Path: "/", Backends: []string{strings.TrimPrefix(backend.URL, "http://")}},
	}, &feedpb.Settings{AccessLogSample: 1})
	s := &site{Proxy: p, stats: new(http3.Stats), backend: strings.TrimPrefix(backend.URL, "http://")}
	s.server = http3.New(p.Worker, s.stats, nil, zerolog.New(zerolog.NewTestWriter(t)))
	for _, f := range change {
		f(s.server)
	}
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.server.Listen(socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.server.Close)
	s.url = fmt.Sprintf("https://localhost:%d", socket.LocalAddr().(*net.UDPAddr).Port)
	tr := &qhttp3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true}
	t.Cleanup(func() { tr.Close() })
	s.client = &http.Client{Transport: tr, Timeout: 20 * time.Second}
	return s
}

// stream passes request bodies on as they come: proxy-request-buffering: "off".
func (s *site) stream(t testing.TB) {
	t.Helper()
	s.Configure(t, []proxytest.Service{{
		Name: "default/a:80", Path: "/", Backends: []string{s.backend},
		Policy: &feedpb.Policy{RequestBuffering: feedpb.RequestBuffering_BUFFER_OFF},
	}}, &feedpb.Settings{AccessLogSample: 1})
}

func (s *site) do(t testing.TB, method, path string, body io.Reader) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, s.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func TestRequests(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/empty":
			w.WriteHeader(http.StatusNoContent)
		case "/hint":
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			fmt.Fprint(w, "after a hint")
		case "/trailers":
			w.Header().Set("Trailer", "X-Sum")
			b, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%d bytes, %s", len(b), r.Trailer.Get("X-Client"))
			w.Header().Set("X-Sum", "42")
		default:
			fmt.Fprintf(w, "%s %s %s from %s, proto %s", r.Method, r.Host, r.RequestURI, r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto"))
		}
	})
	host := strings.TrimPrefix(s.url, "https://")

	resp, got := s.do(t, "GET", "/a%20b?c=d", nil)
	if want := "GET " + host + " /a%20b?c=d from 127.0.0.1, proto https"; resp.StatusCode != 200 || got != want || resp.Proto != "HTTP/3.0" {
		t.Errorf("%s %d %q, want %q", resp.Proto, resp.StatusCode, got, want)
	}
	if resp, got := s.do(t, "HEAD", "/", nil); resp.StatusCode != 200 || got != "" || resp.ContentLength <= 0 {
		t.Errorf("HEAD: %d %q, length %d", resp.StatusCode, got, resp.ContentLength)
	}
	if resp, got := s.do(t, "GET", "/empty", nil); resp.StatusCode != 204 || got != "" {
		t.Errorf("204: %d %q", resp.StatusCode, got)
	}
	if resp, got := s.do(t, "GET", "/hint", nil); resp.StatusCode != 200 || got != "after a hint" {
		t.Errorf("hint: %d %q", resp.StatusCode, got)
	}

	s.stream(t)
	r, err := http.NewRequest("POST", s.url+"/trailers", io.MultiReader(strings.NewReader("some"), strings.NewReader(" body")))
	if err != nil {
		t.Fatal(err)
	}
	r.Trailer = http.Header{"X-Client": {"mine"}}
	r.Header.Set("TE", "trailers")
	resp, err = s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(b) != "9 bytes, mine" || resp.Trailer.Get("X-Sum") != "42" {
		t.Errorf("trailers: %q, %v", b, resp.Trailer)
	}
	for deadline := time.Now().Add(5 * time.Second); !strings.Contains(s.Log.String(), `"proto":"HTTP/3"`); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the access log does not tell the protocol:\n%s", s.Log.String())
		}
	}
}

// TestLargeBodies moves bodies both ways at once, larger than every window.
func TestLargeBodies(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		io.Copy(w, r.Body)
	})
	s.stream(t)
	want := make([]byte, 5<<20)
	rand.NewChaCha8([32]byte{3}).Read(want)
	for _, length := range []int64{int64(len(want)), -1} {
		r, err := http.NewRequest("POST", s.url, bytes.NewReader(want))
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = length
		resp, err := s.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("length %d: %d bytes came back of %d, %v", length, len(got), len(want), err)
		}
	}
}

func TestManyStreams(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Write(b)
	})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			want := strings.Repeat(fmt.Sprint(i), 1000)
			resp, err := s.client.Post(s.url, "text/plain", strings.NewReader(want))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if got, err := io.ReadAll(resp.Body); err != nil || string(got) != want {
				t.Errorf("request %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wg.Wait()
	if n := s.stats.Connections.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestClientGone takes requests back; the pod's side must end with them.
func TestClientGone(t *testing.T) {
	ended := make(chan struct{}, 1)
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		ended <- struct{}{}
	})
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, "GET", s.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	resp.Body.Close()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("the pod still answers a client that has gone")
	}
}

// TestPodBreaksOff checks that a response cut short is not taken for a whole one.
func TestPodBreaksOff(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write(make([]byte, 100_000))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	resp, err := s.client.Get(s.url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Errorf("read %d bytes and a proper end", n)
	}
}

// TestSlowClient lets a client that does not read neither fill memory nor stop others.
func TestSlowClient(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			for range 1000 {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}
	})
	resp, err := s.client.Get(s.url + "/large")
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if resp, _ := s.do(t, "GET", "/small", nil); resp.StatusCode != 200 {
			t.Fatal(resp.Status)
		}
	}
	resp.Body.Close()
}

// TestRefused sends heads that net/http's client would not.
func TestRefused(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {})
	r, err := http.NewRequest("GET", s.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header["X-Large"] = []string{strings.Repeat("x", 40<<10)}
	resp, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a head of 40 KiB: %s", resp.Status)
	}
	if resp, got := s.do(t, "GET", "/after", nil); resp.StatusCode != 200 {
		t.Errorf("the next request: %s %q", resp.Status, got)
	}
}

// TestDrain ends connections with the request that is under way.
func TestDrain(t *testing.T) {
	release := make(chan struct{})
	begun := make(chan struct{})
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-release
		fmt.Fprint(w, "whole")
	})
	result := make(chan string, 1)
	go func() {
		resp, err := s.client.Get(s.url)
		if err != nil {
			result <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		result <- fmt.Sprint(string(b), err)
	}()
	<-begun
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	drained := make(chan struct{})
	go func() { s.server.Drain(ctx); close(drained) }()
	time.Sleep(50 * time.Millisecond)
	close(release)
	if got := <-result; got != "whole<nil>" {
		t.Errorf("the request under way: %s", got)
	}
	select {
	case <-drained:
	case <-time.After(5 * time.Second):
		t.Error("the connection did not end with its last request")
	}
}

// TestUnproven makes clients prove their address when there are many at once.
func TestUnproven(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {}, func(s *http3.Server) { s.UnprovenPerSecond = 2 })
	for range 100 {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		c, err := quic.DialAddr(ctx, strings.TrimPrefix(s.url, "https://"), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}, nil)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		c.CloseWithError(0, "")
		if s.stats.Retried.Load() > 0 {
			return
		}
	}
	t.Error("of 100 connections none had to prove its address")
}
