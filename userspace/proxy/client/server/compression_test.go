package server_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
	"github.com/kerngate/kerngate/userspace/proxy/rules/compress"
	"github.com/kerngate/kerngate/userspace/text/compression"
)

// decoded returns the body of a response, and under which coding it came.
func decoded(t *testing.T, resp *http.Response) (coding string, body []byte) {
	t.Helper()
	var from io.Reader
	var err error
	switch coding = resp.Header.Get("Content-Encoding"); coding {
	case "gzip":
		from, err = gzip.NewReader(resp.Body)
	case "br":
		from = brotli.NewReader(resp.Body)
	case "zstd":
		from, err = zstd.NewReader(resp.Body)
	default:
		from = resp.Body
	}
	if err == nil {
		body, err = io.ReadAll(from)
	}
	if err != nil {
		t.Errorf("%s: %v after %d bytes", coding, err, len(body))
	}
	return coding, body
}

// text is a pod that sends text as its query wants it.
func text(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	n, _ := strconv.Atoi(q.Get("n"))
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("ETag", `"v1"`)
	h.Set("Accept-Ranges", "bytes")
	for name, values := range q {
		if strings.Contains(name, "-") || name == "Vary" {
			h[http.CanonicalHeaderKey(name)] = values
		}
	}
	if q.Get("flush") == "" {
		h.Set("Content-Length", strconv.Itoa(n))
	}
	if s, _ := strconv.Atoi(q.Get("status")); s > 0 {
		w.WriteHeader(s)
	}
	w.Write(page(n))
}

func page(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "<li>item %d of %d</li>\n", i, n)
	}
	return b.Bytes()[:n]
}

func TestCompression(t *testing.T) {
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "default/web:80", Path: "/", Backends: []string{pod(t, text)}},
		{Name: "default/br:80", Path: "/br", Backends: []string{pod(t, text)}, Policy: &feedpb.Policy{Compression: &feedpb.Compression{Encodings: []string{"br"}}}},
		{Name: "default/off:80", Path: "/off", Backends: []string{pod(t, text)}, Policy: &feedpb.Policy{Compression: &feedpb.Compression{}}},
	}, &feedpb.Settings{Compression: &feedpb.Compression{Encodings: []string{"zstd", "gzip"}}})
	h2 := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
	h2.Protocols.SetUnencryptedHTTP2(true)
	h1 := &http.Transport{DisableCompression: true}
	t.Cleanup(h1.CloseIdleConnections)
	t.Cleanup(h2.CloseIdleConnections)
	for _, tr := range []*http.Transport{h1, h2} {
		for _, tc := range []struct {
			method, path, accept string
			coding               string // "": as it is
			varies               bool
		}{
			{"GET", "/?n=5000", "gzip, deflate, br, zstd", "zstd", true},
			{"GET", "/?n=5000", "gzip", "gzip", true},
			{"GET", "/?n=5000", "br", "", true},
			{"GET", "/br?n=5000", "gzip, br", "br", true},
			{"GET", "/off?n=5000", "gzip, br, zstd", "", false},
			{"GET", "/?n=5000", "", "", true},
			{"GET", "/?n=5000&flush=1", "gzip", "gzip", true},
			{"GET", "/?n=3000000", "gzip", "gzip", true},
			{"GET", "/br?n=3000000", "br", "br", true},
			{"GET", "/?n=3000000&flush=1", "zstd", "zstd", true},
			{"GET", "/?n=1023", "gzip", "", false},
			{"GET", "/?n=0", "gzip", "", false},
			{"GET", "/?n=10&flush=1", "gzip", "", false}, // so short that its length is told
			{"GET", "/?n=5000&status=404", "gzip", "gzip", true},
			{"GET", "/?n=5000&status=500", "gzip", "gzip", true},
			{"GET", "/?n=5000&status=206", "gzip", "", false},
			{"GET", "/?n=5000&Content-Range=bytes+0-4999/9000", "gzip", "", false},
			{"GET", "/?n=5000&Content-Encoding=x-own", "gzip", "x-own", false},
			{"GET", "/?n=5000&Cache-Control=public,+No-Transform", "gzip", "", false},
			{"GET", "/?n=5000&Content-Type=image/png", "gzip", "", false},
			{"GET", "/?n=5000&Content-Type=text/event-stream", "gzip", "", false},
			{"GET", "/?n=5000&Vary=Accept-Encoding", "gzip", "gzip", true},
			{"GET", "/?n=5000&Vary=Cookie", "gzip", "gzip", true},
			{"HEAD", "/?n=5000", "gzip", "gzip", true},
			{"HEAD", "/?n=5000", "", "", true},
			{"HEAD", "/?n=100", "gzip", "", false},
		} {
			req, _ := http.NewRequest(tc.method, "http://"+p.Address+tc.path, nil)
			req.Host = "shop.test"
			if tc.accept != "" {
				req.Header.Set("Accept-Encoding", tc.accept)
			}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatalf("%s %s: %v", tc.method, tc.path, err)
			}
			name := fmt.Sprintf("%s %s %s, %q", resp.Proto, tc.method, tc.path, tc.accept)
			n, _ := strconv.Atoi(req.URL.Query().Get("n"))
			if coding := resp.Header.Get("Content-Encoding"); coding != tc.coding {
				t.Errorf("%s: coding %q, want %q", name, coding, tc.coding)
			}
			if tc.method == "GET" {
				if _, body := decoded(t, resp); !bytes.Equal(body, page(n)) {
					t.Errorf("%s: %d bytes, want %d", name, len(body), n)
				}
			}
			resp.Body.Close()
			packed := tc.coding != "" && tc.coding != "x-own"
			if h := resp.Header; packed && (h.Get("ETag") != `W/"v1"` || h.Get("Content-Length") != "" || h.Get("Accept-Ranges") != "") {
				t.Errorf("%s: fields of the body as the pod has it: %v", name, h)
			} else if !packed && (h.Get("ETag") != `"v1"` || h.Get("Accept-Ranges") != "bytes" || !strings.Contains(tc.path, "flush") && resp.ContentLength != int64(n)) {
				t.Errorf("%s: fields changed: %v", name, h)
			}
			vary := strings.Join(resp.Header.Values("Vary"), ",")
			if strings.Contains(vary, "Accept-Encoding") != tc.varies || strings.Count(vary, "Accept-Encoding") > 1 {
				t.Errorf("%s: Vary %q", name, vary)
			}
		}
	}
	// HTTP/1.0 gets no coding: a body that ends with the connection could be cut off unseen.
	if got := talk(t, p, "GET /?n=5000 HTTP/1.0\r\nHost: shop.test\r\nAccept-Encoding: gzip\r\n\r\n"); strings.Contains(got, "Content-Encoding") || !strings.HasSuffix(got, string(page(5000))) {
		t.Errorf("HTTP/1.0: %.300s", got)
	}
	m := p.Worker.Metrics
	if m.Compressed[compression.Brotli].Load() != 4 || m.PackedIn.Load() < 12_000_000 || m.PackedOut.Load() == 0 || m.PackedOut.Load() > m.PackedIn.Load()/4 {
		t.Errorf("%d responses in Brotli, %d bytes became %d", m.Compressed[compression.Brotli].Load(), m.PackedIn.Load(), m.PackedOut.Load())
	}
	for reason := range exchange.Uncompressed(exchange.UncompressedReasons) {
		if m.Uncompressed[reason].Load() == 0 && reason != exchange.EncodersBusy {
			t.Errorf("%v was not counted", reason)
		}
	}
}

// TestCompressedStream: a client sees each piece when the pod has sent it.
func TestCompressedStream(t *testing.T) {
	next := make(chan string) // an empty one ends the response
	p := proxytest.Start(t, []proxytest.Service{{Name: "default/web:80", Path: "/", Backends: []string{pod(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		for piece := <-next; piece != ""; piece = <-next {
			io.WriteString(w, piece)
			w.(http.Flusher).Flush()
		}
	})}}}, &feedpb.Settings{Compression: &feedpb.Compression{Encodings: []string{"gzip", "br", "zstd"}}})
	for _, coding := range []string{"gzip", "br", "zstd"} {
		req, _ := http.NewRequest("GET", "http://"+p.Address, nil)
		req.Host = "shop.test"
		req.Header.Set("Accept-Encoding", coding)
		answer := make(chan *http.Response, 1)
		go func() {
			resp, err := (&http.Client{Timeout: 20 * time.Second}).Do(req)
			if err != nil {
				t.Error(err)
			}
			answer <- resp
		}()
		next <- "one "
		resp := <-answer
		if resp == nil {
			return
		}
		var from io.Reader = brotli.NewReader(resp.Body)
		var err error
		switch coding {
		case "gzip":
			from, err = gzip.NewReader(resp.Body)
		case "zstd":
			from, err = zstd.NewReader(resp.Body, zstd.WithDecoderConcurrency(1))
		}
		if err != nil {
			t.Fatal(err)
		}
		piece := make([]byte, 4)
		for _, want := range []string{"one ", "two ", "six "} {
			if want != "one " {
				next <- want
			}
			if _, err := io.ReadFull(from, piece); err != nil || string(piece) != want {
				t.Fatalf("%s: got %q, %v", coding, piece, err)
			}
		}
		next <- ""
		if rest, err := io.ReadAll(from); err != nil || len(rest) > 0 {
			t.Errorf("%s: %q, %v at the end", coding, rest, err)
		}
		resp.Body.Close()
	}
}

// TestBusyEncoders: what no encoder is left for goes out as it is.
func TestBusyEncoders(t *testing.T) {
	p := proxytest.Start(t, []proxytest.Service{{Name: "default/web:80", Path: "/", Backends: []string{pod(t, text)}}},
		&feedpb.Settings{Compression: &feedpb.Compression{Encodings: []string{"gzip"}}})
	var held []*compress.Stream
	p.OnLoop(func() {
		for range compress.MaxStreams {
			held = append(held, p.Worker.Encoders.Open(compression.Gzip))
		}
	})
	answer := shop(t, p, "GET /?n=5000", "Accept-Encoding: gzip")
	has(t, answer, "200 OK", "Content-Length: 5000\r\n", "Vary: Accept-Encoding\r\n", "</li>")
	if n := p.Worker.Metrics.Uncompressed[exchange.EncodersBusy].Load(); n != 1 {
		t.Errorf("%d were counted", n)
	}
	p.OnLoop(func() {
		for _, s := range held {
			p.Worker.Encoders.Put(s)
		}
	})
	has(t, shop(t, p, "GET /?n=5000", "Accept-Encoding: gzip"), "Content-Encoding: gzip\r\n")
}
