package http2_test

import (
	"bufio"
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"

	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestCancelAnswered: responses that go on are ended by the client as often as it likes, as gRPC's
// clients do with streams of which they have read enough.
func TestCancelAnswered(t *testing.T) {
	p := one(t, proxytest.RawPod(t, func(c net.Conn) {
		proxytest.ReadHead(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
		io.Copy(io.Discard, c)
	}))
	c := connect(t, p)
	const streams = 1500
	opened, ended := 0, 0
	open := func() {
		opened++
		c.request(uint32(2*opened-1), true, "GET", "/")
	}
	for range 20 {
		open()
	}
	for ended < streams {
		f, err := c.next()
		if err != nil {
			t.Fatalf("after %d streams: %v", ended, err)
		}
		switch f := f.(type) {
		case *http2.DataFrame:
			if string(f.Data()) != "first" {
				t.Fatalf("%q", f.Data())
			}
			c.WriteRSTStream(f.StreamID, http2.ErrCodeCancel)
			ended++
			if opened < streams {
				open()
			}
		case *http2.HeadersFrame:
		default:
			t.Fatalf("after %d streams: %v", ended, f)
		}
	}
}
