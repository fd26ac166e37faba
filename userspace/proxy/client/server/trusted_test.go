package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestTrustedProxy: behind a trusted proxy pods and the access log see the client.
func TestTrustedProxy(t *testing.T) {
	var got *http.Request
	backend := pod(t, func(w http.ResponseWriter, r *http.Request) { got = r.Clone(context.Background()) })
	p := proxytest.Start(t, []proxytest.Service{{Name: "default/web:80", Path: "/", Backends: []string{backend}}},
		&feedpb.Settings{TrustedProxies: []string{"127.0.0.0/8"}, AccessLogSample: 1})
	answer := talk(t, p, "GET /x HTTP/1.1\r\nHost: inner.test\r\nX-Forwarded-For: 6.6.6.6, 192.0.2.7\r\nX-Forwarded-Proto: https\r\n"+
		"X-Forwarded-Host: outer.test\r\nForwarded: for=6.6.6.6\r\nConnection: close\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 200 OK\r\n") {
		t.Fatalf("answer %q", answer)
	}
	for name, want := range map[string]string{
		"X-Forwarded-For": "192.0.2.7, 127.0.0.1", "X-Real-Ip": "192.0.2.7", "X-Forwarded-Proto": "https",
		"X-Forwarded-Host": "outer.test", "X-Forwarded-Port": "443", "Forwarded": "",
	} {
		if v := strings.Join(got.Header.Values(name), "; "); v != want {
			t.Errorf("pod saw %s %q, want %q", name, v, want)
		}
	}
	if got.Host != "inner.test" {
		t.Errorf("pod saw Host %q", got.Host)
	}
	for deadline := time.Now().Add(5 * time.Second); !strings.Contains(p.Log.String(), "/x"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no line in the access log")
		}
	}
	if log := p.Log.String(); !strings.Contains(log, `"client":"192.0.2.7","peer":"127.0.0.1:`) {
		t.Errorf("access log %s", log)
	}
}
