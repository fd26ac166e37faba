package upstream_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kerngate/kerngate/userspace/proxy/exchange"
)

const upgrade = "GET /chat?room=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// socketPod takes WebSockets, tells with which fields, and answers in capitals.
func socketPod(t *testing.T, fields chan<- map[string]string) string {
	return wirePod(t, []http2.Setting{{ID: http2.SettingEnableConnectProtocol, Val: 1}}, func(w *wire) {
		w.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		for {
			f, err := w.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.MetaHeadersFrame:
				m := map[string]string{}
				for _, x := range f.Fields {
					m[x.Name] = x.Value
				}
				fields <- m
				w.headers(f.StreamID, false, ":status", "200", "sec-websocket-protocol", "chat")
			case *http2.DataFrame:
				w.WriteData(f.StreamID, f.StreamEnded(), bytes.ToUpper(f.Data()))
			}
		}
	})
}

// TestWebSocket: an upgrade of HTTP/1.1 becomes an extended CONNECT for a pod that allows
// it, and bytes pass both ways until both have ended.
func TestWebSocket(t *testing.T) {
	fields := make(chan map[string]string, 1)
	p := start(t, nil, socketPod(t, fields))
	c := p.Dial(t)
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, upgrade)
	in := bufio.NewReader(c)
	r, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.StatusCode != 101 || r.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || r.Header.Get("Sec-WebSocket-Protocol") != "chat" || r.Header.Get("Upgrade") != "websocket" {
		t.Errorf("%v %v", r.Status, r.Header)
	}
	m := <-fields
	if m[":method"] != "CONNECT" || m[":protocol"] != "websocket" || m[":path"] != "/chat?room=1" || m["sec-websocket-version"] != "13" {
		t.Errorf("%v", m)
	}
	if _, ok := m["sec-websocket-key"]; ok {
		t.Error("the key has no meaning in HTTP/2, and was passed on")
	}
	for _, said := range []string{"hello", "again"} {
		io.WriteString(c, said)
		got := make([]byte, len(said))
		if _, err := io.ReadFull(in, got); err != nil || string(got) != strings.ToUpper(said) {
			t.Fatalf("%q %v", got, err)
		}
	}
	c.CloseWrite()
	if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
		t.Errorf("%q %v", rest, err)
	}
	eventually(t, "counted", func() bool { return p.Metrics.Ended[exchange.Forwarded].Load() == 1 })
}

// TestWebSocketRefused: what a pod does not allow, or does not want, the client is told.
func TestWebSocketRefused(t *testing.T) {
	for name, c := range map[string]struct {
		settings []http2.Setting
		status   int
		body     string
	}{
		"not allowed": {nil, 501, "no_websocket"},
		"not wanted":  {[]http2.Setting{{ID: http2.SettingEnableConnectProtocol, Val: 1}}, 403, "no"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := wirePod(t, c.settings, func(w *wire) {
				id, err := w.request()
				if err != nil {
					return
				}
				if c.settings == nil {
					w.headers(id, true, ":status", "204")
					w.drain()
					return
				}
				w.headers(id, false, ":status", "403", "content-length", "2")
				w.WriteData(id, true, []byte("no"))
				w.drain()
			})
			p := start(t, nil, pod)
			conn := p.Dial(t)
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			io.WriteString(conn, upgrade)
			r, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(r.Body)
			if r.StatusCode != c.status || !strings.HasPrefix(string(b), c.body) {
				t.Errorf("%d %q", r.StatusCode, b)
			}
			if c.settings != nil {
				return
			}
			// The connection has not heard of it, and serves others.
			if status, body, err := outcome(t, p, "GET"); status != 204 || err != nil {
				t.Errorf("%d %q %v", status, body, err)
			}
			if n := p.Metrics.Retries.Load(); n != 0 || sessions(p) != 1 {
				t.Errorf("%d retries, %d connections", n, sessions(p))
			}
		})
	}
}

// TestWebSocketOverHTTP2 is the same for a client of HTTP/2: an extended CONNECT on both sides.
func TestWebSocketOverHTTP2(t *testing.T) {
	fields := make(chan map[string]string, 1)
	p := start(t, nil, socketPod(t, fields))
	c := p.Dial(t)
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, http2.ClientPreface)
	w := &wire{conn: c, Framer: http2.NewFramer(c, c)}
	w.enc = hpack.NewEncoder(&w.buf)
	w.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	w.WriteSettings()
	w.headers(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "x", ":path", "/chat",
		"sec-websocket-version", "13")
	w.WriteData(1, true, []byte("hello"))
	var status string
	var body []byte
	for ended := false; !ended; {
		f, err := w.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			status = f.PseudoValue("status")
			ended = f.StreamEnded()
		case *http2.DataFrame:
			body = append(body, f.Data()...)
			ended = f.StreamEnded()
		case *http2.RSTStreamFrame:
			t.Fatal(f)
		}
	}
	if status != "200" || string(body) != "HELLO" {
		t.Errorf("%s %q", status, body)
	}
	m := <-fields
	if _, ok := m["sec-websocket-key"]; ok || m[":protocol"] != "websocket" || m["sec-websocket-version"] != "13" {
		t.Errorf("%v", m)
	}
}
