package exchange_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestPace: a response takes no less time than its rule wants, and comes whole, with a
// length and without, over HTTP/1.1 and HTTP/2.
func TestPace(t *testing.T) {
	const size = 192 << 10
	pod := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", "196608")
		}
		_, _ = io.Copy(w, io.LimitReader(zeros{}, size))
	}))
	defer pod.Close()
	p := proxytest.Start(t, []proxytest.Service{{
		Name: "ns/slow:80", Path: "/", Backends: []string{strings.TrimPrefix(pod.URL, "http://")},
		Policy: &feedpb.Policy{Pace: &feedpb.Pace{BytesPerSecond: 256 << 10, After: 64 << 10}},
	}}, nil)
	two := &http.Transport{Protocols: new(http.Protocols)}
	two.Protocols.SetUnencryptedHTTP2(true)
	defer two.CloseIdleConnections()
	for name, client := range map[string]*http.Client{"HTTP/1.1": {Transport: &http.Transport{DisableKeepAlives: true}}, "HTTP/2": {Transport: two}} {
		for _, path := range []string{"/length", "/chunks"} {
			began := time.Now()
			r, err := client.Get("http://" + p.Address + path)
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, r.Body)
			r.Body.Close()
			// The last piece needs no waiting after it: one buffer less than 128 KiB at
			// 256 KiB per second.
			if took := time.Since(began); err != nil || n != size || took < 200*time.Millisecond {
				t.Errorf("%s %s: %d bytes in %s, %v", name, path, n, took, err)
			}
		}
	}
}

// zeros is endless.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
