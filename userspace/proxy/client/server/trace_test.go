package server_test

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// otlp is a collector.
type otlp struct {
	url   string
	mu    sync.Mutex
	spans []*tracev1.Span
	fails bool
}

func newCollector(t *testing.T) *otlp {
	c := new(otlp)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		body, err := gzip.NewReader(r.Body)
		if err != nil || c.fails || r.URL.Path != "/v1/traces" {
			http.Error(w, "not now", http.StatusBadRequest)
			return
		}
		raw, _ := io.ReadAll(body)
		var request collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(raw, &request); err != nil {
			t.Error(err)
		}
		for _, rs := range request.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				c.spans = append(c.spans, ss.Spans...)
			}
		}
	}))
	t.Cleanup(s.Close)
	c.url = s.URL
	return c
}

// until waits for a number of spans.
func (c *otlp) until(t *testing.T, n int) []*tracev1.Span {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c.mu.Lock()
		spans := c.spans
		c.mu.Unlock()
		if len(spans) >= n {
			return spans
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d spans, want %d", len(spans), n)
		}
	}
}

func attributes(s *tracev1.Span) map[string]string {
	m := map[string]string{}
	for _, a := range s.Attributes {
		m[a.Key] = a.Value.GetStringValue()
	}
	return m
}

const theirs = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestTracing(t *testing.T) {
	c := newCollector(t)
	told := make(chan [2]string, 10)
	web := pod(t, func(w http.ResponseWriter, r *http.Request) {
		told <- [2]string{r.Header.Get("Traceparent"), r.Header.Get("Tracestate")}
		if r.URL.Path == "/error" {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	on, off := new(true), new(false)
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "default/web:80", Path: "/", Backends: []string{web}},
		{Name: "default/own:80", Path: "/own", Backends: []string{web}, Policy: &feedpb.Policy{Trace: &feedpb.Trace{Operation: "shop $request_method", Trust: on}}},
		{Name: "default/off:80", Path: "/off", Backends: []string{web}, Policy: &feedpb.Policy{Trace: &feedpb.Trace{Enabled: off}}},
		{Name: "default/none:80", Path: "/none"},
	}, &feedpb.Settings{TraceEndpoint: c.url, TraceRatio: 1, AccessLogSample: 1})
	p.Worker.Tracer.Use(c.url, zerolog.Nop())
	t.Cleanup(p.Worker.Tracer.Close)

	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(h2.CloseIdleConnections)
	get := func(tr http.RoundTripper, path string, fields ...string) int {
		t.Helper()
		req, _ := http.NewRequest("GET", "http://"+p.Address+path, nil)
		req.Host = "shop.test"
		for i := 0; i < len(fields); i += 2 {
			req.Header.Add(fields[i], fields[i+1])
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	seen := 0
	for _, tr := range []http.RoundTripper{http.DefaultTransport, h2} {
		// Of a client that is not believed: a trace of its own.
		get(tr, "/error?password=x", "Traceparent", theirs, "Tracestate", "a=1", "User-Agent", "test")
		pod := <-told
		if strings.Contains(pod[0], theirs[3:35]) || pod[1] != "" || !strings.HasSuffix(pod[0], "-01") || len(pod[0]) != len(theirs) {
			t.Errorf("the pod got %q", pod)
		}
		seen += 2
		spans := c.until(t, seen)[seen-2:]
		server, client := spans[0], spans[1]
		if server.Kind != tracev1.Span_SPAN_KIND_SERVER {
			server, client = client, server
		}
		if got := "00-" + hex.EncodeToString(client.TraceId) + "-" + hex.EncodeToString(client.SpanId) + "-01"; got != pod[0] {
			t.Errorf("the pod was told of %s, the span is %s", pod[0], got)
		}
		if string(client.ParentSpanId) != string(server.SpanId) || len(server.ParentSpanId) != 0 || string(server.TraceId) != string(client.TraceId) {
			t.Errorf("the spans are not parent and child: %v, %v", server, client)
		}
		if a := attributes(server); server.Name != "GET" || a["url.path"] != "/error" || a["kerngate.service"] != "default/web:80" || a["kerngate.ingress"] != "default/test" ||
			a["user_agent.original"] != "test" || a["server.address"] != "shop.test" || server.Status.GetCode() != tracev1.Status_STATUS_CODE_ERROR || server.EndTimeUnixNano < server.StartTimeUnixNano {
			t.Errorf("server span %v", server)
		}
		if strings.Contains(server.String()+client.String(), "password") {
			t.Error("the query is in a span")
		}
		line := `"trace_id":"` + hex.EncodeToString(server.TraceId) + `","span_id":"` + hex.EncodeToString(server.SpanId) + `"`
		for deadline := time.Now().Add(5 * time.Second); !strings.Contains(p.Log.String(), line); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s is not in the log: %s", line, p.Log)
			}
		}
		// Of one that is.
		get(tr, "/own", "Traceparent", theirs, "Tracestate", "a=1")
		if pod = <-told; !strings.HasPrefix(pod[0], theirs[:36]) || pod[0] == theirs || pod[1] != "a=1" {
			t.Errorf("the pod got %q", pod)
		}
		seen += 2
		for _, s := range c.until(t, seen)[seen-2:] {
			if s.Kind == tracev1.Span_SPAN_KIND_SERVER && (s.Name != "shop GET" || hex.EncodeToString(s.ParentSpanId) != theirs[36:52] || s.TraceState != "a=1") {
				t.Errorf("server span %v", s)
			}
		}
		// What was decided before us stands.
		get(tr, "/own", "Traceparent", theirs[:53]+"00")
		if pod = <-told; !strings.HasPrefix(pod[0], theirs[:36]) || !strings.HasSuffix(pod[0], "-00") {
			t.Errorf("the pod got %q", pod)
		}
		// Where nothing is traced, everything passes as it is.
		get(tr, "/off", "Traceparent", theirs, "Tracestate", "a=1")
		if pod = <-told; pod != [2]string{theirs, "a=1"} {
			t.Errorf("the pod got %q", pod)
		}
		// Answers of the proxy's own have a span, and no pod's.
		get(tr, "/none")
		seen++
		if s := c.until(t, seen)[seen-1]; attributes(s)["kerngate.reason"] != "no_endpoint" || s.Kind != tracev1.Span_SPAN_KIND_SERVER {
			t.Errorf("span %v", s)
		}
	}
	time.Sleep(50 * time.Millisecond)
	if n := len(c.until(t, seen)); n != seen {
		t.Errorf("%d spans, want %d", n, seen)
	}
	if n := p.Worker.Tracer.Exported.Load(); n != uint64(seen) {
		t.Errorf("%d spans were counted, want %d", n, seen)
	}
}

// TestTracingWithoutCollector: requests do not notice.
func TestTracingWithoutCollector(t *testing.T) {
	c := newCollector(t)
	c.fails = true
	p := proxytest.Start(t, []proxytest.Service{{Name: "default/web:80", Path: "/", Backends: []string{echo(t, "web")}}}, &feedpb.Settings{TraceEndpoint: c.url, TraceRatio: 1})
	p.Worker.Tracer.Use(c.url, zerolog.Nop())
	for range 5 {
		has(t, shop(t, p, "GET /"), "200 OK")
	}
	for deadline := time.Now().Add(10 * time.Second); p.Worker.Tracer.Failed.Load() < 10; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d failed", p.Worker.Tracer.Failed.Load())
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() { p.Worker.Tracer.Close(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		t.Error("it does not end")
	}
}
