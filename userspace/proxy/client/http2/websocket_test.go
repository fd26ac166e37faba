package http2_test

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// acceptKey answers a handshake's key (RFC 6455 section 4.2.2).
func acceptKey(head string) string {
	_, rest, _ := strings.Cut(head, "Sec-WebSocket-Key: ")
	key, _, _ := strings.Cut(rest, "\r\n")
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// openSocket asks for a WebSocket.
func (c *raw) openSocket(id uint32, more ...string) {
	list := append([]string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "a.test", ":path", "/ws",
		"sec-websocket-version", "13", "sec-websocket-protocol", "chat"}, more...)
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.fields(list...), EndHeaders: true})
}

// head reads until a final head has come on the stream.
func (c *raw) head(a *answer) {
	c.t.Helper()
	for a.head == "" && !a.wasReset {
		f, err := c.next()
		if err != nil {
			c.t.Fatal(err)
		}
		c.note(a, f)
	}
}

// TestWebSocket: an extended CONNECT is an HTTP/1.1 handshake for the pod, then bytes pass
// both ways, beside other requests, until both sides have ended.
func TestWebSocket(t *testing.T) {
	heads := make(chan string, 1)
	p := one(t, rawPod(t, func(c net.Conn, in *bufio.Reader, head string) {
		if !strings.Contains(head, "Upgrade: websocket") {
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
			return
		}
		heads <- head
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "+
			acceptKey(head)+"\r\nSec-WebSocket-Protocol: chat\r\n\r\n")
		io.Copy(c, in) // an echo, until the client's end
		io.WriteString(c, "bye")
		c.Close()
	}))
	c := connect(t, p)
	f, err := c.ReadFrame()
	if s, ok := f.(*http2.SettingsFrame); err != nil || !ok {
		t.Fatal(f, err)
	} else if v, _ := s.Value(http2.SettingEnableConnectProtocol); v != 1 {
		t.Error("extended CONNECT is not announced")
	}
	c.openSocket(1, "sec-websocket-key", "AAAA", "sec-websocket-extensions", "permessage-deflate")
	head := <-heads
	if !strings.HasPrefix(head, "GET /ws HTTP/1.1\r\nHost: a.test\r\n") || strings.Count(strings.ToLower(head), "sec-websocket-key") != 1 ||
		strings.Contains(head, "AAAA") || strings.Contains(strings.ToLower(head), "transfer-encoding") || strings.Contains(strings.ToLower(head), "content-length") {
		t.Errorf("the pod got %q", head)
	}
	for _, want := range []string{"Connection: Upgrade\r\nUpgrade: websocket\r\n", "sec-websocket-version: 13\r\n", "sec-websocket-protocol: chat\r\n",
		"sec-websocket-extensions: permessage-deflate\r\n"} {
		if !strings.Contains(head, want) {
			t.Errorf("no %q in %q", want, head)
		}
	}
	var a answer
	c.head(&a)
	if a.field(":status") != "200" || a.field("sec-websocket-protocol") != "chat" || a.field("sec-websocket-accept") != "" || a.field("upgrade") != "" || a.ended {
		t.Fatalf("%+v", a)
	}
	var sent []byte
	for i := range 200 {
		piece := bytes.Repeat([]byte{byte(i)}, 1+i*13%3000)
		sent = append(sent, piece...)
		c.WriteData(1, false, piece)
		for len(a.body) < len(sent) {
			f, err := c.next()
			if err != nil {
				t.Fatal(err)
			}
			c.note(&a, f)
		}
		if i == 100 {
			if got := c.get(3, "/"); got.field(":status") != "204" {
				t.Errorf("a request beside the tunnel: %+v", got)
			}
		}
	}
	c.WriteData(1, true, nil)
	for !a.ended {
		f, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		c.note(&a, f)
	}
	if want := append(sent, "bye"...); !bytes.Equal(a.body, want) {
		t.Errorf("%d bytes came back, want %d", len(a.body), len(want))
	}
}

// TestWebSocketRefused: whatever the pod says, and what is not a WebSocket.
func TestWebSocketRefused(t *testing.T) {
	for _, c := range []struct{ name, response, status, body string }{
		{"by the pod", "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "403", "no"},
		{"wrong accept", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
			"502", "upstream_invalid: the pod's response is not valid HTTP (bad_websocket_accept)\n"},
		{"no accept", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
			"502", "upstream_invalid: the pod's response is not valid HTTP (bad_websocket_accept)\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := start(t, says(t, c.response), &feedpb.Settings{AccessLogSample: 1})
			h := connect(t, p)
			h.openSocket(1)
			if a := h.take(1)[1]; a.field(":status") != c.status || string(a.body) != c.body {
				t.Errorf("%+v", a)
			}
		})
	}
	p := one(t, says(t, "HTTP/1.1 204 No Content\r\n\r\n"))
	c := connect(t, p)
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: c.fields(
		":method", "CONNECT", ":protocol", "connect-udp", ":scheme", "http", ":authority", "a.test", ":path", "/")})
	if a := c.take(1)[1]; a.field(":status") != "501" || !bytes.Contains(a.body, []byte("connect_protocol_not_implemented")) {
		t.Errorf("another protocol: %+v", a)
	}
}

// TestWebSocketDrain: at the drain limit client and pod get a close frame.
func TestWebSocketDrain(t *testing.T) {
	podGot := make(chan []byte, 1)
	p := one(t, rawPod(t, func(c net.Conn, in *bufio.Reader, head string) {
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "+acceptKey(head)+"\r\n\r\n")
		b, _ := io.ReadAll(in)
		podGot <- b
	}))
	c := connect(t, p)
	c.openSocket(1)
	var a answer
	c.head(&a)
	p.Loop.Submit(p.Server.Drain)
	p.Loop.Submit(p.Server.EndTunnels)
	for !a.ended {
		f, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := f.(*http2.GoAwayFrame); !ok {
			c.note(&a, f)
		}
	}
	if !bytes.Equal(a.body, []byte{0x88, 2, 1001 >> 8, 1001 & 0xff}) {
		t.Errorf("the client got %x", a.body)
	}
	select {
	case b := <-podGot:
		if len(b) != 8 || b[0] != 0x88 {
			t.Errorf("the pod got %x", b)
		}
	case <-time.After(5 * time.Second):
		t.Error("the pod was not told")
	}
	calm(t, p)
}
