package server_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestLoopsEnd: a pod, a mirror or an external authentication that leads back to the proxy ends
// with 508 after a few rounds.
func TestLoopsEnd(t *testing.T) {
	var asked atomic.Int64
	web := pod(t, func(w http.ResponseWriter, r *http.Request) { asked.Add(1) })
	p := one(t, web)
	back := &feedpb.Destination{Service: 60, Authority: "a", Path: "/mirror"}
	ask := &feedpb.Destination{Service: 60, Authority: "a", Path: "/ask"}
	p.Configure(t, []proxytest.Service{
		{Name: "d/loop:80", Path: "/loop", Backends: []string{p.Address}},
		{Name: "d/mirror:80", Path: "/mirror", Backends: []string{web}, Policy: &feedpb.Policy{Mirrors: []*feedpb.Mirror{{To: back}}}},
		{Name: "d/ask:80", Path: "/ask", Backends: []string{web}, Policy: &feedpb.Policy{Access: &feedpb.Access{External: &feedpb.ExternalAuth{To: ask}}}},
	}, nil)
	p.Backend(t, 60, p.Address)
	request := func(path string) string {
		return talk(t, p, "GET "+path+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	}
	has(t, request("/loop"), "HTTP/1.1 508 ", "loop: ")
	ended := func() uint64 { return p.Metrics.Ended[exchange.Loop].Load() }
	if n := ended(); n != 1 {
		t.Errorf("%d requests were refused", n)
	}
	has(t, request("/mirror"), "HTTP/1.1 200 ")
	waitFor(t, func() bool { return ended() == 2 })
	if n := asked.Load(); n != 5 {
		t.Errorf("the pod got the request and its copies %d times", n)
	}
	has(t, request("/ask"), "HTTP/1.1 500 ", "external_failed")
	waitFor(t, func() bool { return ended() == 3 })
}

// TestPassesAreOurs: what a client says of passes counts only with the cluster's token, does not
// reach pods, and applications may hand it on.
func TestPassesAreOurs(t *testing.T) {
	p := one(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, strings.Join(r.Header.Values("X-Kerngate-Pass"), " and "))
	}))
	token := string(config.PassToken(bytes.Repeat([]byte{7}, 32)))
	for said, want := range map[string]string{
		"": "1", token + ";1": "2", token + ";4": "5", "0123456789abcdef;9": "1", token: "1", token + ";x": "1", token + ";10": "1", ";9": "1",
	} {
		fields := ""
		if said != "" {
			fields = "X-Kerngate-Pass: " + said + "\r\n"
		}
		answer := talk(t, p, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"+fields+"\r\n")
		if body(answer) != token+";"+want {
			t.Errorf("%q: the pod got %q", said, body(answer))
		}
	}
	for _, n := range []string{"5", "9"} {
		has(t, talk(t, p, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Kerngate-Pass: "+token+";"+n+"\r\n\r\n"), "HTTP/1.1 508 ")
	}
	r, err := http.Get("http://" + p.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if _, err := io.Copy(io.Discard, r.Body); err != nil || r.Header.Get("X-Kerngate-Pass") != "" {
		t.Errorf("the client is told: %v, %v", r.Header, err)
	}
}
