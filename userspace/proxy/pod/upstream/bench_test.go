package upstream_test

import (
	"encoding/binary"
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"
)

// cheapPod answers each request without a body by the same head and 128 bytes, without
// allocating.
func cheapPod(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveCheaply(c)
		}
	}()
	return l.Addr().String()
}

func serveCheaply(c net.Conn) {
	defer c.Close()
	head := []byte{0x88, 0x0f, 0x0d, 3, '1', '2', '8'} // :status 200, content-length 128
	out := make([]byte, 9+len(head)+9+128)
	out[2], out[3], out[4] = byte(len(head)), byte(http2.FrameHeaders), byte(http2.FlagHeadersEndHeaders)
	copy(out[9:], head)
	data := out[9+len(head):]
	data[2], data[3], data[4] = 128, byte(http2.FrameData), byte(http2.FlagDataEndStream)
	in := make([]byte, 64<<10)
	if _, err := io.ReadFull(c, in[:len(http2.ClientPreface)]); err != nil {
		return
	}
	settings := [9]byte{3: byte(http2.FrameSettings)}
	c.Write(settings[:])
	have := 0
	for {
		n, err := c.Read(in[have:])
		if err != nil {
			return
		}
		have += n
		at := 0
		for have-at >= 9 {
			size := int(binary.BigEndian.Uint32(in[at:]) >> 8)
			if have-at < 9+size {
				break
			}
			if in[at+3] == byte(http2.FrameHeaders) {
				copy(out[5:9], in[at+5:at+9])
				copy(data[5:9], in[at+5:at+9])
				if _, err := c.Write(out); err != nil {
					return
				}
			}
			at += 9 + size
		}
		have = copy(in, in[at:have])
	}
}

// BenchmarkStream is a request of HTTP/1.1 to a pod of HTTP/2, client and pod included.
func BenchmarkStream(b *testing.B) {
	p := start(b, nil, cheapPod(b))
	c := p.Dial(b)
	request := []byte("GET /some/path?q=1 HTTP/1.1\r\nHost: host.example.com\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n")
	in := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		c.Write(request)
		if _, err := c.Read(in); err != nil {
			b.Fatal(err)
		}
	}
}
