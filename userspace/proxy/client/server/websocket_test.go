package server_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

const upgrade = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket, other\r\n\r\n"

// webSocketPod accepts any upgrade to that protocol and hands the rest over.
func webSocketPod(t *testing.T, protocol string, rest func(c net.Conn, in *bufio.Reader)) string {
	return rawPod(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		for line := ""; line != "\r\n"; {
			var err error
			if line, err = in.ReadString('\n'); err != nil {
				return
			}
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+protocol+"\r\n\r\n")
		rest(c, in)
	})
}

// openTunnel upgrades a connection and returns it, behind the head of the answer.
func openTunnel(t *testing.T, p *proxytest.Proxy) (net.Conn, *bufio.Reader) {
	t.Helper()
	c := p.Dial(t)
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, upgrade)
	in := bufio.NewReader(c)
	for line := "-"; line != "\r\n"; {
		var err error
		if line, err = in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	return c, in
}

// unmask undoes the mask of a close frame from a client, nil if it is none.
func unmask(b []byte) []byte {
	if len(b) != 8 || b[0] != 0x88 || b[1] != 0x82 {
		return nil
	}
	return []byte{b[6] ^ b[2], b[7] ^ b[3]}
}

var goingAway = []byte{0x88, 2, 0x03, 0xe9}

// TestTunnelsEndWithCloseFrames: when the worker goes away, or the tunnel was idle for too
// long, both sides of a WebSocket get a close frame, behind whole frames alone.
func TestTunnelsEndWithCloseFrames(t *testing.T) {
	hello := []byte{0x81, 5, 'h', 'e', 'l', 'l', 'o'}
	for _, c := range []struct {
		name, protocol  string
		fromPod, fromUs []byte
		wantPod, wantUs bool // a close frame
		idle            bool
	}{
		{"between frames", "websocket", hello, []byte{0x81, 0x80, 1, 2, 3, 4}, true, true, false},
		{"idle for too long", "websocket", hello, []byte{0x81, 0x80, 1, 2, 3, 4}, true, true, true},
		{"the protocol's name in capitals", "WebSocket", hello, nil, true, true, false},
		{"within a frame of the pod's", "websocket", hello[:4], nil, true, false, false},
		{"within a frame of the client's", "websocket", hello, []byte{0x81, 0x85, 1, 2}, false, true, false},
		{"not a WebSocket", "other", hello, nil, false, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			pod := make(chan []byte, 1)
			arrived := make(chan struct{})
			backend := webSocketPod(t, c.protocol, func(conn net.Conn, in *bufio.Reader) {
				conn.Write(c.fromPod)
				first := make([]byte, len(c.fromUs))
				io.ReadFull(in, first)
				close(arrived)
				rest, _ := io.ReadAll(in)
				pod <- rest
			})
			settings := &feedpb.Settings{}
			if c.idle {
				settings.TunnelTimeoutMs = 200
			}
			p := proxytest.Start(t, []proxytest.Service{{Name: "default/a:80", Path: "/", Backends: []string{backend}}}, settings)
			conn, in := openTunnel(t, p)
			conn.Write(c.fromUs)
			first := make([]byte, len(c.fromPod))
			if _, err := io.ReadFull(in, first); err != nil || !bytes.Equal(first, c.fromPod) {
				t.Fatalf("%q, %v", first, err)
			}
			<-arrived
			if !c.idle {
				p.Loop.Submit(p.Server.EndTunnels)
			}
			rest, err := io.ReadAll(in)
			if err != nil {
				t.Errorf("the client's end: %v", err)
			}
			if c.wantUs != bytes.Equal(rest, goingAway) || !c.wantUs && len(rest) > 0 {
				t.Errorf("the client got %x", rest)
			}
			conn.Close()
			got := <-pod
			if want := []byte{0x03, 0xe9}; c.wantPod != bytes.Equal(unmask(got), want) || !c.wantPod && len(got) > 0 {
				t.Errorf("the pod got %x", got)
			}
		})
	}
}

// TestEndedTunnelIsForgotten: a tunnel that has closed by itself is not ended again.
func TestEndedTunnelIsForgotten(t *testing.T) {
	backend := webSocketPod(t, "websocket", func(c net.Conn, in *bufio.Reader) { io.WriteString(c, "\x81\x00") })
	p := one(t, backend)
	_, in := openTunnel(t, p)
	if rest, err := io.ReadAll(in); err != nil || string(rest) != "\x81\x00" {
		t.Fatalf("%q, %v", rest, err)
	}
	// Its exchange has no coroutine any more: to wake it would end the process.
	done := make(chan struct{})
	p.Loop.Submit(func() { p.Server.EndTunnels(); close(done) })
	<-done
}
