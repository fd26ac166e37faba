package server_test

import (
	"bytes"
	"net"
	"testing"
)

// cheapPod answers each request on its connections with the same bytes, without
// allocating. Requests have no bodies.
func cheapPod(t testing.TB, response string) string {
	return rawPod(t, func(c net.Conn) {
		out := []byte(response)
		in := make([]byte, 16<<10)
		for {
			n := 0
			for !bytes.HasSuffix(in[:n], []byte("\r\n\r\n")) {
				m, err := c.Read(in[n:])
				if err != nil {
					return
				}
				n += m
			}
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	})
}

// TestAllocations: in steady state a request allocates nothing in the whole pipeline. Pod
// and client of this test are in the same process and are counted too.
func TestAllocations(t *testing.T) {
	for name, response := range map[string]string{
		"length":  "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 128\r\n\r\n" + string(make([]byte, 128)),
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"none":    "HTTP/1.1 204 No Content\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			p := one(t, cheapPod(t, response))
			c := p.Dial(t)
			request := []byte("GET /some/path?q=1 HTTP/1.1\r\nHost: host.example.com\r\nUser-Agent: test\r\nAccept: */*\r\nX-Other: value\r\n\r\n")
			in := make([]byte, 4096)
			exchange := func() {
				if _, err := c.Write(request); err != nil {
					t.Fatal(err)
				}
				n, err := c.Read(in)
				if err != nil || !bytes.HasPrefix(in[:n], []byte("HTTP/1.1 20")) {
					t.Fatalf("%q %v", in[:n], err)
				}
			}
			for range 100 {
				exchange()
			}
			if n := testing.AllocsPerRun(1000, exchange); n != 0 {
				t.Errorf("%v allocations per request, want 0", n)
			}
		})
	}
}

// TestAllocationsOfBodies: the same for requests with a body, with its length or gathered in memory,
// also where larger ones would go to a file.
func TestAllocationsOfBodies(t *testing.T) {
	for name, body := range map[string]string{
		"length":   "Content-Length: 5\r\n\r\nhello",
		"gathered": "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			p := one(t, cheapBodyPod(t, 5))
			p.Spool(t, 1<<30)
			c := p.Dial(t)
			request := []byte("POST / HTTP/1.1\r\nHost: host.example.com\r\n" + body)
			in := make([]byte, 4096)
			exchange := func() {
				if _, err := c.Write(request); err != nil {
					t.Fatal(err)
				}
				n, err := c.Read(in)
				if err != nil || !bytes.HasPrefix(in[:n], []byte("HTTP/1.1 204")) {
					t.Fatalf("%q %v", in[:n], err)
				}
			}
			for range 100 {
				exchange()
			}
			if n := testing.AllocsPerRun(1000, exchange); n != 0 {
				t.Errorf("%v allocations per request, want 0", n)
			}
		})
	}
}

// cheapBodyPod answers requests with a body of so many bytes without allocating.
func cheapBodyPod(t testing.TB, size int) string {
	return rawPod(t, func(c net.Conn) {
		in, out := make([]byte, 4096), []byte("HTTP/1.1 204 No Content\r\n\r\n")
		for n := 0; ; {
			m, err := c.Read(in[n:])
			if err != nil {
				return
			}
			n += m
			if i := bytes.Index(in[:n], []byte("\r\n\r\n")); i < 0 || n < i+4+size {
				continue
			}
			n = 0
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	})
}

func BenchmarkExchange(b *testing.B) {
	p := one(b, cheapPod(b, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 128\r\n\r\n"+string(make([]byte, 128))))
	c := p.Dial(b)
	request := []byte("GET /some/path?q=1 HTTP/1.1\r\nHost: host.example.com\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n")
	in := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		c.Write(request)
		c.Read(in)
	}
}
