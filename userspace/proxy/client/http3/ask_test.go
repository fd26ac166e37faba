package http3_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestExternalAuth: clients of HTTP/3 are asked about like others, also by pods that speak
// TLS; and a host outside of the cluster whose certificate nobody has signed lets nobody in.
func TestExternalAuth(t *testing.T) {
	gate := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("X-Original-Url"); !strings.HasPrefix(got, "https://localhost:") || !strings.HasSuffix(got, "x") {
			t.Errorf("the service gets X-Original-URL: %s", got)
		}
		if r.Header.Get("Authorization") != "Bearer good" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("X-User", "ann")
	}))
	t.Cleanup(gate.Close)
	address := strings.TrimPrefix(gate.URL, "https://")
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("User", strings.Join(r.Header.Values("X-User"), ","))
	}))
	t.Cleanup(web.Close)
	asks := func(to *feedpb.Destination) *feedpb.Policy {
		to.Tls, to.Path = true, "/check"
		return &feedpb.Policy{Access: &feedpb.Access{External: &feedpb.ExternalAuth{To: to, Response: []string{"X-User"}}}}
	}
	pods := []string{strings.TrimPrefix(web.URL, "http://")}
	s := newSite(t, func(http.ResponseWriter, *http.Request) {})
	s.Configure(t, []proxytest.Service{
		{Name: "default/gate:443", Path: "/gate", Backends: []string{address}},
		{Name: "default/web:80", Path: "/in", Backends: pods, Policy: asks(&feedpb.Destination{Service: 1, Authority: "gate.default.svc"})},
		{Name: "default/web:80", Path: "/out", Backends: pods, Policy: asks(&feedpb.Destination{Authority: address})},
	}, nil)
	for _, c := range []struct {
		path, token string
		status      int
		user        string
	}{
		{"/in/x", "good", 200, "ann"}, {"/in/x", "bad", 401, ""}, {"/out/x", "good", 500, ""},
	} {
		r, err := http.NewRequest("GET", s.url+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Authorization": {"Bearer " + c.token}, "X-User": {"root"}}
		answer, err := s.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if got := answer.Header.Get("User"); answer.StatusCode != c.status || got != c.user {
			t.Errorf("%s with %s: status %d as %q, want %d as %q", c.path, c.token, answer.StatusCode, got, c.status, c.user)
		}
	}
	proxytest.Counted(t, s.Metrics, exchange.ExternalFailed, 1)
}
