package http3_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

const (
	large = 20_000_000 // bytes of a body
	bound = 100_000    // of one in memory
)

// spooling starts a proxy that keeps bodies above the bound in files.
func spooling(t *testing.T, policy *feedpb.Policy) *site {
	t.Helper()
	s := newSite(t, proxytest.SumPod)
	s.client.Timeout = time.Minute
	s.Configure(t, []proxytest.Service{{Name: "default/a:80", Path: "/", Backends: []string{s.backend}, Policy: policy}},
		&feedpb.Settings{RequestBufferBytes: proto.Uint64(bound)})
	return s
}

// upload sends a body without a length, and returns the answer.
func upload(s *site, b io.Reader) (int, string) {
	r, err := http.NewRequest("POST", s.url, struct{ io.Reader }{b})
	if err != nil {
		return 0, err.Error()
	}
	resp, err := s.client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// TestSpools: a body of unknown length that is too large for memory reaches the pod whole, with
// its length. Meanwhile the proxy's memory is bounded.
func TestSpools(t *testing.T) {
	s := spooling(t, nil)
	d := s.Spool(t, 64<<20)
	var most, files atomic.Int64
	b := proxytest.NewBody(large)
	b.Before = func(int64) {
		most.Store(max(most.Load(), s.Metrics.BodyMemory.Load()))
		files.Store(max(files.Load(), d.Files()))
	}
	if status, got := upload(s, b); status != 200 || got != proxytest.SumOf(large) {
		t.Errorf("%d %q", status, got)
	}
	if n := most.Load(); n < bound || n > bound+2*256<<10+80<<10 {
		t.Errorf("the body took %d bytes of memory", n)
	}
	if files.Load() != 1 {
		t.Errorf("%d files", files.Load())
	}
	s.NothingHeld(t)
	if n := s.Metrics.Gathered[exchange.GatheredSpooled].Load(); n != 1 {
		t.Errorf("%d bodies were spooled", n)
	}
}

// TestRefusalsWhileSpooling: a full disk is a 507, and room that others have a 503.
func TestRefusalsWhileSpooling(t *testing.T) {
	s := spooling(t, nil)
	d := s.Spool(t, 2<<20)

	d.SetWrite(func(int, [][]byte, int64) (int, error) { return 0, unix.ENOSPC })
	if status, got := upload(s, proxytest.NewBody(bound+1)); status != 507 || !strings.HasPrefix(got, "request_spool_failed") {
		t.Errorf("full disk: %d %q", status, got)
	}
	s.NothingHeld(t)
	d.SetWrite(unix.Pwritev)
	other := d.New()
	if err := other.Append([][]byte{make([]byte, 1<<20+1)}); err != nil {
		t.Fatal(err)
	}
	if status, got := upload(s, proxytest.NewBody(bound+1)); status != 503 || !strings.HasPrefix(got, "request_buffers_full") {
		t.Errorf("no room: %d %q", status, got)
	}
	other.Close()
	if status, got := upload(s, proxytest.NewBody(bound+1)); got != proxytest.SumOf(bound+1) {
		t.Errorf("room: %d %q", status, got)
	}
}

// TestPagesWhileGathering: the service for error pages answers in place of 411, 413 and 507
// when the body is larger than what is taken of it.
func TestPagesWhileGathering(t *testing.T) {
	for _, status := range []uint32{411, 413, 507} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			policy := &feedpb.Policy{ErrorPages: &feedpb.ErrorPages{Status: []uint32{status}, Service: 60}}
			if status == 413 {
				policy.MaxBodyBytes = proto.Uint64(50_000)
			}
			s := spooling(t, policy)
			if status == 507 {
				s.Spool(t, 64<<20).SetWrite(func(int, [][]byte, int64) (int, error) { return 0, unix.ENOSPC })
			}
			pages := newSite(t, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusTeapot)
				fmt.Fprintf(w, "page for %s", r.Header.Get("X-Code"))
			})
			s.Backend(t, 60, pages.backend)
			if got, text := upload(s, proxytest.NewBody(2_000_000)); got != http.StatusTeapot || text != fmt.Sprintf("page for %d", status) {
				t.Errorf("%d %q", got, text)
			}
			s.NothingHeld(t)
		})
	}
}

// TestDrainWhileGathering: a proxy that is replaced waits for bodies that it gathers, in memory
// and in files.
func TestDrainWhileGathering(t *testing.T) {
	s := spooling(t, nil)
	d := s.Spool(t, 64<<20)
	type result struct {
		size int64
		got  string
	}
	results, goOn := make(chan result, 2), make(chan bool)
	for _, size := range []int64{80_000, large} {
		go func() {
			b := proxytest.NewBody(size)
			waited := false
			b.Before = func(sent int64) {
				if !waited && sent >= size/2 {
					<-goOn
					waited = true
				}
			}
			_, got := upload(s, b)
			results <- result{size, got}
		}()
	}
	for deadline := time.Now().Add(20 * time.Second); d.Files() != 1 || s.Metrics.BodyMemory.Load() < 30_000; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d files, %d bytes of memory", d.Files(), s.Metrics.BodyMemory.Load())
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	drained := make(chan struct{})
	go func() { s.server.Drain(ctx); close(drained) }()
	time.Sleep(50 * time.Millisecond) // GOAWAY is on its way; the requests go on either way
	close(goOn)
	for range 2 {
		if r := <-results; r.got != proxytest.SumOf(r.size) {
			t.Errorf("%d bytes: %q", r.size, r.got)
		}
	}
	<-drained
}
