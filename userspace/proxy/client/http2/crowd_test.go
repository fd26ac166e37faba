package http2_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/exchange"
)

// TestCrowd: connections with many requests that pods do not answer do not take all connections
// to pods. Those that have the most get 503, others are served.
func TestCrowd(t *testing.T) {
	p := one(t, rawPod(t, func(c net.Conn, in *bufio.Reader, head string) {
		if strings.Contains(head, " /hang ") {
			io.Copy(io.Discard, in)
			return
		}
		io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
	}))
	p.Worker.Overload.SetPods(100)
	var attackers []*raw
	for n := range 8 {
		c := connect(t, p)
		for i := range uint32(100) {
			if n%2 == 0 {
				c.request(2*i+1, true, "GET", "/hang")
				continue
			}
			c.request(2*i+1, false, "POST", "/hang") // is gathered before it has a connection
		}
		for i := range uint32(100 * (n % 2)) {
			c.WriteData(2*i+1, true, []byte("body"))
		}
		attackers = append(attackers, c)
		go io.Copy(io.Discard, c.Conn)
	}
	for end := time.Now().Add(20 * time.Second); p.Stats.HTTP2.Streams.Load() < 800 || p.Metrics.Ended[exchange.Shed].Load() < 600; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("of %d requests %d are refused", p.Stats.HTTP2.Streams.Load(), p.Metrics.Ended[exchange.Shed].Load())
		}
	}
	if n := p.Metrics.Ended[exchange.Overloaded].Load(); n > 0 {
		t.Errorf("%d requests had no connection to a pod", n)
	}
	c := connect(t, p)
	for id := uint32(1); id < 100; id += 2 {
		if a := c.get(id, "/"); a.field(":status") != "204" {
			t.Fatalf("one of HTTP/2: %s%s", a.head, a.body)
		}
	}
	for range 20 {
		r, err := http.Get("http://" + p.Address + "/")
		if err != nil {
			t.Fatal(err)
		}
		if r.Body.Close(); r.StatusCode != 204 {
			t.Fatalf("one of HTTP/1.1: %s", r.Status)
		}
	}
	for _, c := range attackers {
		c.Close()
	}
}
