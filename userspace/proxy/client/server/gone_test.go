package server_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestClientThatIsGone: when a client has closed its connection the pod is told, though no byte
// says so, and the place of the request is free for others.
func TestClientThatIsGone(t *testing.T) {
	told := make(chan bool, 10)
	came := make(chan bool, 10)
	hang := rawPod(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			if r.URL.Path == "/quick" {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			io.Copy(io.Discard, r.Body)
			came <- true
			in.ReadByte()
			told <- true
			return
		}
	})
	p := proxytest.Start(t, []proxytest.Service{{Name: "d/a:80", Path: "/", Backends: []string{hang}, MaxConnections: 1, MaxPending: 5}}, &feedpb.Settings{AccessLogSample: 1})
	for _, request := range []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"} {
		c := p.Dial(t)
		io.WriteString(c, request)
		<-came
		c.Close()
		waiting := p.Dial(t)
		waiting.SetReadDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(waiting, "GET /quick HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		select {
		case <-told:
		case <-time.After(20 * time.Second):
			t.Fatalf("%q: the pod was not told", request)
		}
		if r, err := http.ReadResponse(bufio.NewReader(waiting), nil); err != nil || r.StatusCode != 200 {
			t.Errorf("%q: the one that waited got %v, %v", request, r, err)
		}
	}
	waitFor(t, func() bool { return strings.Count(p.Log.String(), `"status":499,"reason":"client_aborted"`) == 2 })
}

// TestGoneOverTLS: the same where the end of the connection is TLS's, too.
func TestGoneOverTLS(t *testing.T) {
	hang, came := hangs(t)
	s := startRefusing(t, []proxytest.Service{{Name: "d/a:80", Path: "/", Backends: []string{hang}}}, nil, nil)
	c := s.dialTLS("app.test", "http/1.1", false).(*tls.Conn)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
	<-came
	c.Close()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(s.Log.String(), "client_aborted"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody noticed")
		}
	}
}

// TestHalfCloseIsAsked: a client that has ended its side and waits gets its answer, however long
// that takes, and 100 Continue once before it.
func TestHalfCloseIsAsked(t *testing.T) {
	p := one(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(2500 * time.Millisecond)
		io.WriteString(w, "late")
	}))
	for version, want := range map[string]int{"1.1": 1, "1.0": 0} {
		answer := talk(t, p, "GET / HTTP/"+version+"\r\nHost: a\r\n\r\n")
		if !strings.HasSuffix(answer, "late") || strings.Count(answer, "HTTP/1.1 100 Continue\r\n\r\n") != want || strings.Count(answer, "HTTP/1.1 200 ") != 1 {
			t.Errorf("HTTP/%s: %q", version, answer)
		}
	}
}

// TestMaxForwards: TRACE and OPTIONS go as far as they are to go.
func TestMaxForwards(t *testing.T) {
	p := one(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "pod "+strings.Join(r.Header.Values("Max-Forwards"), ","))
	}))
	for request, want := range map[string]string{
		"OPTIONS / HTTP/1.1\r\nMax-Forwards: 0": "HTTP/1.1 200 ", "OPTIONS * HTTP/1.1\r\nMax-Forwards: 00": "HTTP/1.1 200 ",
		"TRACE / HTTP/1.1\r\nCookie: secret\r\nMax-Forwards: 0": "HTTP/1.1 405 ",
		"OPTIONS / HTTP/1.1\r\nMax-Forwards: 7":                 "pod 6", "TRACE / HTTP/1.1\r\nMax-Forwards: 1": "pod 0",
		"GET / HTTP/1.1\r\nMax-Forwards: 0": "pod 0", "OPTIONS / HTTP/1.1\r\nMax-Forwards: x": "pod x", "OPTIONS / HTTP/1.1\r\nA: b": "pod ",
	} {
		answer := talk(t, p, request+"\r\nHost: a\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(answer, want) && body(answer) != want || strings.Contains(answer, "secret") {
			t.Errorf("%q: %q", request, answer)
		}
	}
}
