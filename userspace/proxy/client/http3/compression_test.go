package http3_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

func TestCompression(t *testing.T) {
	want := []byte(strings.Repeat("<li>item</li>\n", 50_000))
	pod := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Write(want)
	}))
	t.Cleanup(pod.Close)
	s := newSite(t, nil)
	s.Configure(t, []proxytest.Service{{Name: "default/a:80", Path: "/", Backends: []string{strings.TrimPrefix(pod.URL, "http://")}}},
		&feedpb.Settings{Compression: &feedpb.Compression{Encodings: []string{"gzip"}}})
	req, _ := http.NewRequest("GET", s.url, nil)
	req.Header.Set("Accept-Encoding", "gzip")
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Encoding") != "gzip" || resp.ContentLength >= 0 {
		t.Fatalf("head: %v", resp.Header)
	}
	from, err := gzip.NewReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(from); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d, %v", len(got), len(want), err)
	}
}
