package server_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/io/linger"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestLinger: a client that reads nothing before it has sent all of a body, and takes longer
// for that than a moment, gets the answer to its head.
func TestLinger(t *testing.T) {
	// A pod that answers at once and closes, so that what is sent to it later is reset.
	quits := rawPod(t, func(c net.Conn) {
		c.Read(make([]byte, 1024))
		io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\npod")
	})
	p := proxytest.Start(t, []proxytest.Service{{Name: "default/a:80", Host: "a.test", Path: "/", Backends: []string{quits}}}, nil)
	for host, want := range map[string]string{"a.test": "HTTP/1.1 403 ", "b.test": "HTTP/1.1 404 "} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			c := p.Dial(t)
			c.SetDeadline(time.Now().Add(20 * time.Second))
			const pieces, size = 60, 100_000
			fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", host, pieces*size)
			piece := make([]byte, size)
			for i := range pieces {
				if _, err := c.Write(piece); err != nil {
					t.Fatalf("after %d of %d bytes: %v", i*size, pieces*size, err)
				}
				time.Sleep(50 * time.Millisecond) // 2 MB/s
			}
			answer, err := io.ReadAll(c)
			if err != nil || !strings.HasPrefix(string(answer), want) {
				t.Errorf("%q, %v; want %s", answer, err, want)
			}
		})
	}
}

// TestLingerBound: what is read after the answer has an end, which is counted.
func TestLingerBound(t *testing.T) {
	p := one(t)
	c := p.Dial(t)
	c.SetDeadline(time.Now().Add(60 * time.Second))
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n")
	piece := make([]byte, 1<<20)
	sent := 0
	for sent < 2*linger.Burst {
		n, err := c.Write(piece)
		if sent += n; err != nil {
			break
		}
	}
	if sent < linger.Burst || sent >= 2*linger.Burst {
		t.Errorf("%d bytes were taken", sent)
	}
	for deadline := time.Now().Add(5 * time.Second); p.Metrics.Linger.Cut.Load() != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bodies are counted as cut", p.Metrics.Linger.Cut.Load())
		}
	}
	if n := p.Metrics.Linger.Bytes.Load(); n < linger.Burst {
		t.Errorf("%d bytes are counted", n)
	}
}
