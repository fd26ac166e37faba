//go:build linux

package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// What is not beyond doubt HTTP/1.1 is refused with the status of the fault, a reason, and a
// closed connection, and reaches no pod.
func TestMalformedRequests(t *testing.T) {
	s := webSite(t, 1)
	const host = "Host: host.example.com\r\n"
	for _, tc := range []struct {
		name    string
		request string
		status  int
	}{
		{"no version", "GET /\r\n\r\n", 400},
		{"unknown version", "GET / HTTP/3.0\r\n" + host + "\r\n", 505},
		{"no host", "GET / HTTP/1.1\r\n\r\n", 400},
		{"two hosts", "GET / HTTP/1.1\r\n" + host + host + "\r\n", 400},
		{"bad host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
		{"space before the colon", "GET / HTTP/1.1\r\n" + host + "X-A : 1\r\n\r\n", 400},
		{"folded field", "GET / HTTP/1.1\r\n" + host + "X-A: 1\r\n 2\r\n\r\n", 400},
		{"bare LF", "GET / HTTP/1.1\n" + "Host: host.example.com\n\n", 400},
		{"bare CR in a value", "GET / HTTP/1.1\r\n" + host + "X-A: a\rb\r\n\r\n", 400},
		{"NUL in a value", "GET / HTTP/1.1\r\n" + host + "X-A: a\x00b\r\n\r\n", 400},
		{"empty field name", "GET / HTTP/1.1\r\n" + host + ": 1\r\n\r\n", 400},
		{"length and chunked", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"two lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400},
		{"list of lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3, 3\r\n\r\nabc", 400},
		{"signed length", "POST / HTTP/1.1\r\n" + host + "Content-Length: +3\r\n\r\nabc", 400},
		{"huge length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 99999999999999999999\r\n\r\n", 400},
		{"chunked not last", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked, gzip\r\n\r\n", 0},
		{"chunked in disguise", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n", 501},
		{"chunked in HTTP/1.0", "POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"CONNECT", "CONNECT host.example.com:443 HTTP/1.1\r\n" + host + "\r\n", 501},
		{"TLS", "\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03" + strings.Repeat("\x07", 200), 400},
		{"long target", "GET /" + strings.Repeat("a", 100<<10) + " HTTP/1.1\r\n" + host + "\r\n", 414},
		{"long field", "GET / HTTP/1.1\r\n" + host + "X-A: " + strings.Repeat("a", 100<<10) + "\r\n\r\n", 431},
		{"many fields", "GET / HTTP/1.1\r\n" + host + strings.Repeat("X-A: 1\r\n", 5000) + "\r\n", 431},
		{"unknown expectation", "POST / HTTP/1.1\r\n" + host + "Expect: a-miracle\r\nContent-Length: 1\r\n\r\na", 417},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := s.dial()
			w.t = t
			_, _ = w.Write([]byte(tc.request)) // the proxy may close before it is all sent
			r, err := w.tryReceive("GET")
			if err != nil {
				t.Fatalf("no answer: %v", err)
			}
			if tc.status == 0 && (r.Status == 400 || r.Status == 501) {
				r.Status = 0 // either is right
			}
			if r.Status != tc.status || r.reason() == "" || !r.Whole.Close {
				t.Errorf("status %d, reason %q, close %t; want %d, a reason and a close; %.100q", r.Status, r.reason(), r.Whole.Close, tc.status, r.Body)
			}
			w.wantClosed()
		})
	}
}

// A path that cannot be matched is refused, too, but it leaves no doubt where the request
// ends: the connection may go on.
func TestBadPaths(t *testing.T) {
	s := webSite(t, 1)
	for _, path := range []string{"/%zz", "/%", "/a%00b", "/../etc/passwd", "/a/../../b", "/%2e%2e/b"} {
		w := s.dial()
		w.send("GET " + path + " HTTP/1.1\r\nHost: host.example.com\r\n\r\n")
		if r := w.receive("GET"); r.Status != 400 || r.reason() != "bad_path" {
			t.Errorf("GET %s: %d %s, want 400 bad_path", path, r.Status, r.Body)
		}
	}
}

// A fault in a body comes too late for a clean answer in general; what matters is that the
// connection is closed and that the pod was not told the body was whole.
func TestMalformedBodies(t *testing.T) {
	s := webSite(t, 1)
	for _, body := range []string{"zz\r\nabc\r\n0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "-3\r\nabc\r\n", "ffffffffffffffffff\r\nabc", "3 \n\r\nabc"} {
		w := s.dial()
		w.send("POST / HTTP/1.1\r\nHost: host.example.com\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
		if r, err := w.tryReceive("POST"); err == nil && r.Status != 400 {
			t.Errorf("body %q: status %d %.100s, want 400 or a closed connection", body, r.Status, r.Body)
		}
		w.wantClosed()
	}
}

// Random bytes, and requests with random damage, end each with an answer or a close; and the
// proxy that got them is still the same and serves.
func TestGarbage(t *testing.T) {
	s := webSite(t, 1)
	before, err := s.ProxyPIDs()
	must(t, err)
	random := rand.New(rand.NewPCG(1, 2))
	valid := "POST /x?y=z HTTP/1.1\r\nHost: host.example.com\r\nTransfer-Encoding: chunked\r\nX-Custom: some value\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
	for i := range 400 {
		var text []byte
		if i%4 == 0 {
			text = make([]byte, 1+random.IntN(2000))
			for j := range text {
				text[j] = byte(random.Uint32())
			}
		} else {
			text = []byte(valid)
			for range 1 + random.IntN(3) {
				text[random.IntN(len(text))] = byte(random.Uint32())
			}
			if i%4 == 2 {
				text = text[:random.IntN(len(text))]
			}
		}
		w := s.dial()
		_, _ = w.Write(text)
		if i%2 == 0 {
			_ = w.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			_ = w.rest()
		}
		w.Close()
	}
	if r := s.get("http://" + webHost + "/alive"); r.Pod.Path != "/alive" {
		t.Errorf("after garbage: %d %s", r.Status, r.Body)
	}
	after, err := s.ProxyPIDs()
	must(t, err)
	if fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("the proxy was process %v and is %v: it crashed", before, after)
	}
}
