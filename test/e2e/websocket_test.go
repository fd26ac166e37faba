//go:build linux

package e2e

import (
	"bytes"
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab/websocket"
)

// openWebSocket opens a WebSocket to a pod of the service web.
func (s *site) openWebSocket() (*websocket.Client, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := s.lab.Client.Dial(ctx, "tcp", netip.AddrPortFrom(s.lab.VIP4, 80).String())
	if err != nil {
		return nil, err
	}
	return websocket.Open(conn, webHost, "/ws")
}

// A WebSocket carries messages of any size both ways, beside ordinary requests.
func TestWebSocket(t *testing.T) {
	s := webSite(t, 2)
	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() {
			ws, err := s.openWebSocket()
			if err != nil {
				t.Error(err)
				return
			}
			for _, size := range []int{0, 1, 125, 126, 70000, 1 << 20, 5} {
				if err := ws.Echo(bytes.Repeat([]byte{'w'}, size), 10*time.Second); err != nil {
					t.Errorf("echo of %d bytes: %v", size, err)
					return
				}
			}
			if err := ws.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
	for range 20 {
		if r := s.get("http://" + webHost + "/beside"); r.Pod.Path != "/beside" {
			t.Errorf("a request beside WebSockets: %d %s", r.Status, r.Body)
		}
	}
	clients.Wait()
}

// Bytes that a client sends right behind its Upgrade request belong to the tunnel.
func TestWebSocketWithEarlyData(t *testing.T) {
	s := webSite(t, 1)
	w := s.dial()
	frame := websocket.Frame{Opcode: websocket.Text, Mask: []byte{1, 2, 3, 4}, Payload: []byte("early")}
	w.send("GET /ws HTTP/1.1\r\nHost: host.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + string(frame.Append(nil)))
	if r := w.receive("GET"); r.Status != 101 {
		t.Fatalf("status %d %s", r.Status, r.Body)
	}
	got, err := websocket.Read(w.in)
	must(t, err)
	if string(got.Payload) != "early" {
		t.Errorf("echo is %q", got.Payload)
	}
}

// A pod that refuses to upgrade answers like any other, and the connection goes on.
func TestRefusedUpgrade(t *testing.T) {
	s := webSite(t, 1)
	w := s.dial()
	w.send("GET /ws HTTP/1.1\r\nHost: host.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	if r := w.receive("GET"); r.Status != 400 { // no Sec-WebSocket-Key
		t.Errorf("status %d %s, want the pod's 400", r.Status, r.Body)
	}
	w.send("GET /next HTTP/1.1\r\nHost: host.example.com\r\n\r\n")
	if r, err := w.tryReceive("GET"); err != nil || r.Pod.Path != "/next" {
		t.Errorf("the next request: %v, %v", r, err)
	}
}
