package http2_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// startTLS starts a proxy whose only port is an https one. Its certificate is self-signed.
func startTLS(t testing.TB, backend string, settings *feedpb.Settings) *proxytest.Proxy {
	t.Helper()
	services := []proxytest.Service{{Name: "default/a:80", Path: "/", Backends: []string{backend}}}
	p := proxytest.Start(t, services, settings)
	_, port, _ := net.SplitHostPort(p.Address)
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	settings.HttpsPorts = []uint32{uint32(n)}
	p.Configure(t, services, settings)
	return p
}

// TestTLS: the same over TLS, chosen by ALPN, bodies both ways larger than any record.
func TestTLS(t *testing.T) {
	p := startTLS(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Proto", r.Header.Get("X-Forwarded-Proto"))
		io.Copy(w, r.Body)
	}), &feedpb.Settings{Hsts: "max-age=1000"})
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(tr.CloseIdleConnections)
	c := &http.Client{Transport: tr}
	done := make(chan error)
	for i := range 10 {
		go func() {
			sent := bytes.Repeat([]byte{byte(i)}, 1+i*300_000)
			resp, err := c.Post("https://"+p.Address+"/", "", bytes.NewReader(sent))
			if err == nil {
				var got []byte
				got, err = io.ReadAll(resp.Body)
				switch {
				case err != nil:
				case resp.ProtoMajor != 2 || resp.Header.Get("X-Proto") != "https" || resp.Header.Get("Strict-Transport-Security") != "max-age=1000":
					err = fmt.Errorf("%s %v", resp.Proto, resp.Header)
				case !bytes.Equal(got, sent):
					err = fmt.Errorf("%d bytes came back of %d", len(got), len(sent))
				}
			}
			done <- err
		}()
	}
	for range 10 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// dialTLS opens a connection that offers these protocols.
func dialTLS(t testing.TB, p *proxytest.Proxy, protocols ...string) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", p.Address, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols, ServerName: "a.test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// TestPrefaceOverTLS: what is spoken is what the handshake has settled.
func TestPrefaceOverTLS(t *testing.T) {
	p := startTLS(t, says(t, "HTTP/1.1 204 No Content\r\n\r\n"), &feedpb.Settings{})
	c := dialTLS(t, p, "http/1.1")
	io.WriteString(c, http2.ClientPreface)
	b, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 505 ") {
		t.Errorf("HTTP/2 where HTTP/1.1 was settled: %q %v", b, err)
	}
	c = dialTLS(t, p, "h2")
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	b, err = io.ReadAll(c)
	if err != nil || bytes.Contains(b, []byte("HTTP/1.1")) || !bytes.Contains(b, []byte("no_preface")) {
		t.Errorf("HTTP/1.1 where HTTP/2 was settled: %q %v", b, err)
	}
}

// TestPrefaceTooLate: HTTP/2 begins with the connection's first byte or not at all.
func TestPrefaceTooLate(t *testing.T) {
	p := one(t, says(t, "HTTP/1.1 204 No Content\r\n\r\n"))
	c := p.Dial(t)
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"+http2.ClientPreface)
	b, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 204 ") || !strings.Contains(string(b), "HTTP/1.1 505 ") {
		t.Errorf("%q %v", b, err)
	}
	q := start(t, says(t, "HTTP/1.1 204 No Content\r\n\r\n"), &feedpb.Settings{DisableHttp2: true})
	c = q.Dial(t)
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, http2.ClientPreface)
	b, err = io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 505 ") {
		t.Errorf("disabled: %q %v", b, err)
	}
}

// TestPrefaceInPieces: however the first bytes arrive.
func TestPrefaceInPieces(t *testing.T) {
	p := one(t, says(t, "HTTP/1.1 204 No Content\r\n\r\n"))
	all := http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x09\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x04host"
	for _, at := range []int{1, 3, 14, 16, 17, 23, 24, 25, 33, 40, len(all) - 1} {
		c := p.Dial(t)
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, all[:at])
		time.Sleep(5 * time.Millisecond)
		io.WriteString(c, all[at:])
		in := make([]byte, 4096)
		for n := 0; !ended(in[:n]); {
			m, err := c.Read(in[n:])
			if err != nil {
				t.Fatalf("split at %d: %v", at, err)
			}
			n += m
		}
	}
}
