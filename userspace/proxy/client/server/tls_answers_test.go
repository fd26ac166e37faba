package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/control/cert/certtest"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/client/server"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestRedirect: clear-text requests of routes that want it are sent to https, and where a
// client must show a certificate they get nowhere.
func TestRedirect(t *testing.T) {
	s := startSite(t, &feedpb.Settings{RedirectPort: 8443, Hsts: "max-age=31536000"})
	s.config.Settings.HttpsPorts = nil
	s.apply(s.config)
	for _, c := range []struct {
		request  string
		status   int
		location string
	}{
		{get("a.test", "/secure/x?q=1&r=%0d"), 308, "https://a.test:8443/secure/x?q=1&r=%0d"},
		{get("A.test:80", "/secure?"), 308, "https://a.test:8443/secure?"},
		{"GET /secure HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-Proto: https\r\n\r\n", 308, "https://a.test:8443/secure"},
		{"POST http://a.test/secure HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi", 308, "https://a.test:8443/secure"},
		{"GET /secure HTTP/1.0\r\n\r\n", 308, "https://127.0.0.1:8443/secure"},
		{get("a.test", "/open"), 200, ""},
		{get("mtls.test", "/"), 400, ""}, {get("mtls.test", "/secure"), 308, "https://mtls.test:8443/secure"},
		{get("optional.test", "/"), 200, ""},
	} {
		r, body := ask(t, s.Dial(t), c.request)
		if r.StatusCode != c.status || r.Header.Get("Location") != c.location {
			t.Errorf("%q: %s to %q, want %d to %q (%s)", c.request, r.Status, r.Header.Get("Location"), c.status, c.location, body)
		}
		if got := r.Header.Get("Strict-Transport-Security"); got != "" {
			t.Errorf("%q: HSTS %q in clear text (RFC 6797 section 7.2)", c.request, got)
		}
	}
	proxytest.Counted(t, s.Metrics, exchange.Forwarded, 1)
}

// TestHSTS: answers over TLS have the field once.
func TestHSTS(t *testing.T) {
	s := startSite(t, &feedpb.Settings{Hsts: "max-age=31536000; includeSubDomains"})
	for request, want := range map[string]string{
		get("a.test", "/"):           "max-age=31536000; includeSubDomains",
		get("a.test", "/own-hsts"):   "max-age=1",
		get("b.test", "/"):           "max-age=31536000; includeSubDomains", // 421
		"GET / HTTP/1.1\r\nHost\r\n": "max-age=31536000; includeSubDomains", // 400
	} {
		conn, err := s.connect("a.test", nil)
		if err != nil {
			t.Fatal(err)
		}
		r, _ := ask(t, conn, request+"\r\n")
		if got := r.Header.Values("Strict-Transport-Security"); len(got) != 1 || got[0] != want {
			t.Errorf("%q: %q, want %q", request, got, want)
		}
	}
}

func (s *site) failed(reason string) uint64 { return failedHandshakes(s.Stats, reason) }

// TestBadHandshakes: what does not become TLS is closed in time, and counted.
func TestBadHandshakes(t *testing.T) {
	s := startSite(t, &feedpb.Settings{HeadTimeoutMs: 300})
	for reason, send := range map[string]string{
		"not_tls": "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"timeout": "\x16\x03\x01\x00\x50",
		"invalid": "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
	} {
		before := s.failed(reason)
		conn := s.Dial(t)
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(conn, send)
		io.Copy(io.Discard, conn)
		waitFor(t, func() bool { return s.failed(reason) == before+1 })
	}
	silent := s.failed("timeout")
	io.Copy(io.Discard, s.Dial(t))
	waitFor(t, func() bool { return s.failed("timeout") == silent+1 })

	gone := s.Dial(t)
	io.WriteString(gone, "\x16\x03\x01\x00\x50")
	gone.Close()
	waitFor(t, func() bool { return s.failed("closed") == 1 })

	conn, err := s.connect("a.test", func(c *tls.Config) { c.InsecureSkipVerify, c.RootCAs = false, x509.NewCertPool() })
	if err == nil {
		t.Fatalf("trusted %v", conn.ConnectionState().PeerCertificates[0].Subject)
	}
	waitFor(t, func() bool { return s.failed("alert") == 1 })
	if n := s.Stats.Handshakes.Open.Load(); n != 0 {
		t.Errorf("%d handshakes are still open", n)
	}
}

// TestBodies moves large bodies both ways at once, with a client that reads slowly.
func TestBodies(t *testing.T) {
	s := startSite(t, nil)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		tr := &http.Transport{
			DisableCompression: true,
			DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
				return s.connect("a.test", func(c *tls.Config) { c.MaxVersion = version })
			},
		}
		defer tr.CloseIdleConnections()
		client := &http.Client{Transport: tr}
		for _, size := range []int{0, 1, 100, 16 << 10, 16<<10 + 1, 100_000, 3 << 20} {
			sent := bytes.Repeat([]byte("kerngate"), size/8+1)[:size]
			resp, err := client.Post("https://a.test/echo", "", bytes.NewReader(sent))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(slowly{resp.Body})
			resp.Body.Close()
			if err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("%s: %d bytes came back of %d: %v", tls.VersionName(version), len(got), size, err)
			}
		}
	}
}

type slowly struct{ io.Reader }

func (s slowly) Read(p []byte) (int, error) {
	if len(p) > 10_000 {
		time.Sleep(100 * time.Microsecond)
	}
	return s.Reader.Read(p)
}

// TestNoKeyShows: no key is in errors, logs or dumps of the configuration.
func TestNoKeyShows(t *testing.T) {
	s := startSite(t, nil)
	dump := fmt.Sprintf("%v %+v", s.Config.Load(), s.Stats)
	for i, c := range s.config.Certificates {
		broken := &feedpb.Config{Certificates: []*feedpb.Certificate{
			{Id: "d/broken", Chain: s.config.Certificates[(i+1)%len(s.config.Certificates)].Chain, Key: c.Key}}}
		_, err := config.Empty().Apply(broken)
		if err == nil {
			t.Fatal("a key of another certificate was taken")
		}
		if !strings.Contains(err.Error(), "d/broken") {
			t.Errorf("the error does not name the Secret: %v", err)
		}
		dump += err.Error() + "\n"
	}
	dump += s.Log.String()
	for _, key := range s.keys {
		if leak := certtest.Leaks(dump, key); leak != "" {
			t.Errorf("a key shows: %s", leak)
		}
	}
}

// failedHandshakes returns a count by its reason.
func failedHandshakes(s *server.Stats, reason string) uint64 {
	if reason == "" {
		return 0
	}
	return s.Handshakes.Failed[slices.Index(server.HandshakeFaults[:], reason)].Load()
}

func waitFor(t testing.TB, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen within 5 s")
		}
	}
}
