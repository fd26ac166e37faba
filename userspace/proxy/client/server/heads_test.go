package server_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// fieldsOf returns what a pod answers for a path: /one/N a field of N bytes, /many/N so many
// small ones, /cookies/N so many cookies of 4,000 bytes.
func fieldsOf(path string) (list []string) {
	var n int
	switch {
	case strings.Contains(path, "/one/"):
		fmt.Sscanf(path[strings.Index(path, "/one/"):], "/one/%d", &n)
		return []string{"x-large", strings.Repeat("v", n)}
	case strings.Contains(path, "/many/"):
		fmt.Sscanf(path[strings.Index(path, "/many/"):], "/many/%d", &n)
		for range n {
			list = append(list, "set-cookie", "a=b")
		}
	case strings.Contains(path, "/cookies/"):
		fmt.Sscanf(path[strings.Index(path, "/cookies/"):], "/cookies/%d", &n)
		for range n {
			list = append(list, "set-cookie", strings.Repeat("c", 4000))
		}
	}
	return list
}

// TestResponseHeads: heads of pods up to the proxy's bound pass, and larger ones where the
// route allows them; one byte too many is told as such.
func TestResponseHeads(t *testing.T) {
	h1 := pod(t, func(w http.ResponseWriter, r *http.Request) {
		list := fieldsOf(r.URL.Path)
		for i := 0; i < len(list); i += 2 {
			w.Header().Add(list[i], list[i+1])
		}
		io.WriteString(w, strings.Repeat("body", 10_000))
	})
	h2 := headPod(t)
	http2 := &feedpb.Upstream{Protocol: feedpb.Upstream_HTTP2}
	raised := func(n uint32) *feedpb.Policy { return &feedpb.Policy{MaxResponseHeadBytes: n} }
	s := startRefusing(t, []proxytest.Service{
		{Name: "d/ok:80", Path: "/ok", Backends: []string{h1}},
		{Name: "d/h1:80", Path: "/h1", Backends: []string{h1}},
		{Name: "d/h1-128k:80", Path: "/h1-128k", Backends: []string{h1}, Policy: raised(128 << 10)},
		{Name: "d/h1-1m:80", Path: "/h1-1m", Backends: []string{h1}, Policy: raised(1 << 20)},
		{Name: "d/h2:80", Path: "/h2", Backends: []string{h2}, Upstream: http2},
		{Name: "d/h2-128k:80", Path: "/h2-128k", Backends: []string{h2}, Upstream: http2, Policy: raised(128 << 10)},
		{Name: "d/h2-1m:80", Path: "/h2-1m", Backends: []string{h2}, Upstream: http2, Policy: raised(1 << 20)},
	}, nil, nil)
	for _, f := range []front{fronts[0], fronts[5], fronts[7]} {
		for path, status := range map[string]int{
			"/one/20000": 200, "/one/32000": 200, "/many/130": 200, "/many/500": 200, "/cookies/7": 200,
			"/one/60000": 502, "/cookies/15": 502, "/many/600": 502,
			"-128k/one/60000": 200, "-128k/one/120000": 200, "-128k/cookies/15": 200, "-128k/one/140000": 502,
			"-1m/one/1000000": 200, "-1m/one/1100000": 502,
		} {
			for _, kind := range []string{"/h1", "/h2"} {
				a := f.open(s, "app.test")
				a.send(question{path: kind + path}.withDefaults())
				got := a.reply()
				a.close()
				if got.status != status {
					t.Errorf("%s, %s%s: status %d, want %d: %.100s", f.name, kind, path, got.status, status, got.body)
					continue
				}
				list := fieldsOf(path)
				if status == 200 && (len(got.header.Values(list[0])) != len(list)/2 || got.header.Get(list[0]) != list[1] || len(got.body) != 40_000) {
					t.Errorf("%s, %s%s: the head or the body of %d bytes differ", f.name, kind, path, len(got.body))
				}
				why := "head_too_large"
				switch {
				case strings.HasPrefix(path, "/many/"):
					why = "too_many_fields"
				case kind == "/h2" && strings.Contains(path, "/one/1100000"):
					why = "compression_error" // HPACK's decoder takes no string beyond 1 MiB
				}
				if status == 502 && !strings.Contains(got.body, why) {
					t.Errorf("%s, %s%s: %q", f.name, kind, path, got.body)
				}
			}
		}
	}
}

// headPod is a pod that speaks HTTP/2 and answers as fieldsOf says.
func headPod(t *testing.T) string {
	p := http.Protocols{}
	p.SetUnencryptedHTTP2(true)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		list := fieldsOf(r.URL.Path)
		for i := 0; i < len(list); i += 2 {
			w.Header().Add(list[i], list[i+1])
		}
		io.WriteString(w, strings.Repeat("body", 10_000))
	}))
	s.Config.Protocols = &p
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// TestRequestHeads: heads of nearly 32 KiB pass by every protocol, also one after the other on
// a connection, and cookies count as one field however they are cut.
func TestRequestHeads(t *testing.T) {
	web := pod(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%d %d %d", len(r.Header.Get("X-Large")), len(strings.Split(r.Header.Get("Cookie"), "; ")), len(r.Header.Get("Cookie")))
	})
	s := startRefusing(t, []proxytest.Service{{Name: "d/ok:80", Path: "/ok", Backends: []string{web}}}, nil, nil)
	crumbs := func(n, size int) (list []string) {
		for range n {
			list = append(list, "Cookie", strings.Repeat("c", size))
		}
		return list
	}
	for _, f := range fronts {
		for want, fields := range map[string][]string{
			"31000 1 0":  {"X-Large", strings.Repeat("v", 31000)},
			"20000 1 0":  {"X-Large", strings.Repeat("v", 20000)},
			"0 180 2158": crumbs(180, 10),
			"0 8 32014":  crumbs(8, 4000),
		} {
			if f.protocol == "h1" && fields[0] == "Cookie" {
				fields = []string{"Cookie", strings.Join(strings.Split(strings.Repeat(fields[1]+" ", len(fields)/2-1)+fields[1], " "), "; ")}
			}
			a := f.open(s, "app.test")
			a.send(question{path: "/ok", fields: fields}.withDefaults())
			if got := a.reply(); got.status != 200 || got.body != want {
				t.Errorf("%s: %d %q, want %q", f.name, got.status, got.body, want)
			}
			a.close()
		}
	}
	a := newAsker1(s, s.dial(s.Address, false)).(*asker1)
	var all strings.Builder
	sizes := []int{10, 31000, 100, 20000, 31000, 5}
	for _, n := range sizes {
		fmt.Fprintf(&all, "GET /ok HTTP/1.1\r\nHost: app.test\r\nX-Large: %s\r\n\r\n", strings.Repeat("v", n))
	}
	go io.WriteString(a.Conn, all.String())
	for _, n := range sizes {
		if got := a.reply(); got.status != 200 || got.body != fmt.Sprintf("%d 1 0", n) {
			t.Errorf("pipelined with %d bytes: %d %q", n, got.status, got.body)
		}
	}
}

// TestLargeTrailers: what a server of gRPC says at the end of a call may be long.
func TestLargeTrailers(t *testing.T) {
	var trailers []string
	for i := range 40 {
		trailers = append(trailers, fmt.Sprintf("x-t-%d", i), "v")
	}
	trailers = append(trailers, "grpc-status", "3", "grpc-message", strings.Repeat("m", 10_000))
	h2 := h2c(t, func(f *xhttp2.Framer, id uint32) {
		f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: block(":status", "200", "content-type", "application/grpc"), EndHeaders: true})
		f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: block(trailers...), EndHeaders: true, EndStream: true})
	})
	h1 := says(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"+lines1(trailers)+"\r\n")
	s := startRefusing(t, []proxytest.Service{
		{Name: "d/h2:80", Path: "/h2", Backends: []string{h2}, Upstream: &feedpb.Upstream{Protocol: feedpb.Upstream_HTTP2, Grpc: true}},
		{Name: "d/h1:80", Path: "/h1", Backends: []string{h1}},
	}, nil, nil)
	for _, path := range []string{"/h1", "/h2"} {
		a := newAsker2(s, s.dial(s.Address, false), "http")
		a.send(question{method: "POST", path: path, body: "call", fields: []string{"TE", "trailers", "Content-Type", "application/grpc"}}.withDefaults())
		got := a.reply()
		if got.status != 200 || got.header.Get("Grpc-Status") != "3" || got.header.Get("X-T-39") != "v" || len(got.header.Get("Grpc-Message")) != 10_000 {
			t.Errorf("%s: %d, grpc-status %q", path, got.status, got.header.Get("Grpc-Status"))
		}
	}
}
