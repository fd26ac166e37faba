package http3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestGathersBodies: a pod that knows a body's length from Content-Length alone gets all of
// them up to the bound, and a GET, which over HTTP/3 may always be followed by a body, does
// not come in chunks.
func TestGathersBodies(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength < 0 {
			fmt.Fprintf(w, "%s 0 bytes: %v", r.Method, r.TransferEncoding)
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %d bytes, length %q, trailer %v, expect %q, %v", r.Method, n, r.Header.Get("Content-Length"), r.Trailer, r.Header.Get("Expect"), err)
	})
	s.Configure(t, []proxytest.Service{{Name: "default/a:80", Path: "/", Backends: []string{s.backend}}},
		&feedpb.Settings{RequestBufferBytes: proto.Uint64(bound), BodyTimeoutMs: 1000})
	ask := func(method string, body io.Reader, trailer http.Header) (int, string) {
		t.Helper()
		r, err := http.NewRequest(method, s.url, body)
		if err != nil {
			t.Fatal(err)
		}
		if body != nil {
			r.ContentLength = -1
		}
		r.Trailer = trailer
		resp, err := s.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	for _, size := range []int{1, 5000, bound} {
		want := fmt.Sprintf(`POST %d bytes, length "%[1]d", trailer map[], expect "", <nil>`, size)
		if _, got := ask("POST", bytes.NewReader(make([]byte, size)), nil); got != want {
			t.Errorf("%d: %q", size, got)
		}
	}
	if _, got := ask("POST", strings.NewReader("body"), http.Header{"X-Sum": {"1"}}); got != `POST 4 bytes, length "4", trailer map[], expect "", <nil>` {
		t.Errorf("with trailers: %q", got)
	}
	if _, got := ask("POST", strings.NewReader(""), nil); got != `POST 0 bytes, length "0", trailer map[], expect "", <nil>` {
		t.Errorf("empty: %q", got)
	}
	if _, got := ask("GET", nil, nil); got != `GET 0 bytes, length "", trailer map[], expect "", <nil>` {
		t.Errorf("GET: %q", got)
	}
	if status, got := ask("POST", bytes.NewReader(make([]byte, bound+1)), nil); status != 411 || !strings.HasPrefix(got, "length_required: ") {
		t.Errorf("too large: %d %q", status, got)
	}

	slow, end := io.Pipe()
	go io.WriteString(end, "slow")
	if status, got := ask("POST", slow, nil); status != 408 {
		t.Errorf("slow: %d %q", status, got)
	}
	end.Close()

	ctx, cancel := context.WithCancel(context.Background())
	aborted, end := io.Pipe()
	go func() {
		io.WriteString(end, "aborted")
		for s.Metrics.BodyMemory.Load() == 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	r, err := http.NewRequestWithContext(ctx, "POST", s.url, aborted)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.Do(r); !errors.Is(err, context.Canceled) {
		t.Errorf("aborted: %v", err)
	}
	end.Close()
	for deadline := time.Now().Add(10 * time.Second); s.Metrics.BodyMemory.Load() != 0 || s.Metrics.Gathered[exchange.GatheredFailed].Load() != 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are held, %d failures counted", s.Metrics.BodyMemory.Load(), s.Metrics.Gathered[exchange.GatheredFailed].Load())
		}
	}
}
