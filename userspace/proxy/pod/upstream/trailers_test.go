package upstream_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestTrailersBehindLength: a pod may say how long a body is and send fields behind it. A client
// that speaks HTTP/1.1 gets them if it says that it knows of such, else the length.
func TestTrailersBehindLength(t *testing.T) {
	p := start(t, nil, wirePod(t, nil, func(w *wire) {
		for {
			id, err := w.request()
			if err != nil {
				return
			}
			w.headers(id, false, ":status", "200", "content-length", "5", "trailer", "x-sum")
			w.WriteData(id, false, []byte("hello"))
			w.headers(id, true, "x-sum", "five")
		}
	}))
	for _, c := range []struct {
		version, te string
		length      int64
		trailer     string
	}{
		{"1.1", "TE: trailers\r\nConnection: TE\r\n", -1, "five"},
		{"1.1", "", 5, ""},
		{"1.0", "TE: trailers\r\nConnection: TE\r\n", 5, ""},
	} {
		conn := p.Dial(t)
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(conn, "GET / HTTP/%s\r\nHost: a.test\r\n%s\r\n", c.version, c.te)
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r.Body)
		if err != nil || string(b) != "hello" || r.ContentLength != c.length || r.Trailer.Get("X-Sum") != c.trailer {
			t.Errorf("HTTP/%s, %q: %v, %q of length %d, trailer %q", c.version, c.te, err, b, r.ContentLength, r.Trailer.Get("X-Sum"))
		}
	}
}

// patient runs a proxy whose pods speak gRPC and may take long.
func patient(t *testing.T, pods ...string) *proxytest.Proxy {
	t.Helper()
	return proxytest.Start(t, []proxytest.Service{{
		Name: "default/a:80", Path: "/", Backends: pods, Upstream: &feedpb.Upstream{Protocol: feedpb.Upstream_HTTP2, Grpc: true},
		Policy: &feedpb.Policy{ReadTimeoutMs: 20_000, SendTimeoutMs: 20_000},
	}}, &feedpb.Settings{BodyTimeoutMs: 300, ResponseTimeoutMs: 300})
}

// TestIdleCall: a call in which both sides speak in turn may pause for as long as the route lets
// the pod take, though its request has not ended.
func TestIdleCall(t *testing.T) {
	pod := wirePod(t, nil, func(w *wire) {
		id, err := w.request()
		if err != nil {
			return
		}
		w.headers(id, false, ":status", "200", "content-type", "application/grpc")
		for {
			f, err := w.ReadFrame()
			if err != nil {
				return
			}
			if d, ok := f.(*http2.DataFrame); ok {
				w.WriteData(id, d.StreamEnded(), append([]byte("re: "), d.Data()...))
			}
		}
	})
	p := patient(t, pod)
	client, server := io.Pipe()
	q, _ := http.NewRequest("POST", "http://"+p.Address+"/x", client)
	q.Header.Set("Content-Type", "application/grpc")
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	r, err := (&http.Client{Transport: tr, Timeout: 30 * time.Second}).Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	for _, word := range []string{"one", "two"} {
		go io.WriteString(server, word)
		b := make([]byte, len("re: one"))
		if _, err := io.ReadFull(r.Body, b); err != nil || string(b) != "re: "+word {
			t.Fatalf("%s: %v, %q", word, err, b)
		}
		time.Sleep(time.Second) // beyond what holds for other requests' bodies
	}
	server.Close()
	if _, err := io.ReadAll(r.Body); err != nil || r.Trailer.Get("Grpc-Status") != "" {
		t.Errorf("%v, grpc-status %q", err, r.Trailer.Get("Grpc-Status"))
	}
}

// TestWhoGetsGRPCErrors: what calls by gRPC gets its status, all others that of HTTP, also where
// the pods speak gRPC.
func TestWhoGetsGRPCErrors(t *testing.T) {
	p := patient(t)
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	c := &http.Client{Transport: tr, Timeout: 20 * time.Second}
	for contentType, want := range map[string]string{
		"": "503 ", "application/json": "503 ", "application/grpc-web": "503 ", "application/grpc-web-text+proto": "503 ",
		"application/grpc": "200 14", "application/grpc+proto": "200 14",
	} {
		q, _ := http.NewRequest("POST", "http://"+p.Address+"/healthz", nil)
		if contentType != "" {
			q.Header.Set("Content-Type", contentType)
		}
		r, err := c.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, r.Body)
		r.Body.Close()
		if got := fmt.Sprint(r.StatusCode, " ", r.Header.Get("Grpc-Status")); got != want {
			t.Errorf("%q: %s, want %s", contentType, got, want)
		}
	}
}
