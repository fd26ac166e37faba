package http2_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// cheapPod answers each request with the same bytes, without allocating.
func cheapPod(t testing.TB, response string) string {
	return rawPod(t, func(c net.Conn, in *bufio.Reader, head string) {
		out := []byte(response)
		for {
			if _, err := c.Write(out); err != nil {
				return
			}
			for blank := false; !blank; {
				line, err := in.ReadSlice('\n')
				if err != nil {
					return
				}
				blank = len(line) == 2
			}
		}
	})
}

// TestAllocations: in steady state a request allocates nothing in the whole pipeline. Pod
// and client of this test are in the same process and are counted too.
func TestAllocations(t *testing.T) {
	for name, response := range map[string]string{
		"length":  "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 128\r\n\r\n" + string(make([]byte, 128)),
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
		"none":    "HTTP/1.1 204 No Content\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			p := one(t, cheapPod(t, response))
			c := connect(t, p)
			for id := uint32(1); id < 200; id += 2 {
				c.get(id, "/some/path?q=1", "user-agent", "test", "accept", "*/*", "x-other", "value")
			}
			c.WriteWindowUpdate(0, 1<<30)
			// From here on the same bytes, but for the stream's number.
			var request []byte
			block := c.fields(":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", "/some/path?q=1",
				"user-agent", "test", "accept", "*/*", "x-other", "value")
			request = append(request, 0, 0, byte(len(block)), byte(http2.FrameHeaders), byte(http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream), 0, 0, 0, 0)
			request = append(request, block...)
			id := uint32(201)
			in := make([]byte, 4096)
			exchange := func() {
				request[5], request[6], request[7], request[8] = byte(id>>24), byte(id>>16), byte(id>>8), byte(id)
				id += 2
				if _, err := c.Conn.Write(request); err != nil {
					t.Fatal(err)
				}
				for n := 0; !ended(in[:n]); {
					m, err := c.Conn.Read(in[n:])
					if err != nil {
						t.Fatal(err)
					}
					n += m
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

// ended reports whether a frame in b, which is whole frames of one stream, ends it.
func ended(b []byte) bool {
	for len(b) >= 9 {
		n := 9 + int(b[0])<<16 + int(b[1])<<8 + int(b[2])
		if n > len(b) {
			return false
		}
		if b[4]&byte(http2.FlagDataEndStream) != 0 {
			return true
		}
		b = b[n:]
	}
	return false
}

// TestIdleMemory: an idle connection holds its struct and HPACK's table.
func TestIdleMemory(t *testing.T) {
	const conns = 500
	p := start(t, says(t, "HTTP/1.1 204 No Content\r\n\r\n"), &feedpb.Settings{IdleTimeoutMs: 60000})
	talk := func() {
		// By hand, so that the client's side costs little that would be counted.
		c := p.Dial(t)
		io.WriteString(c, http2.ClientPreface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
		block := "\x82\x86\x84\x41\x06a.test\x40\x03x-a\x10" + strings.Repeat("v", 16)
		fmt.Fprintf(c, "\x00\x00%c\x01\x05\x00\x00\x00\x01%s", len(block), block)
		in := make([]byte, 512)
		for n := 0; !ended(in[:n]); {
			m, err := c.Read(in[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += m
		}
	}
	for range 10 {
		talk()
	}
	before := heap()
	for range conns {
		talk()
	}
	after := heap()
	each := (int64(after) - int64(before)) / conns
	t.Logf("%d bytes for an idle connection, with the client's side of it", each)
	if each > 6<<10 {
		t.Errorf("an idle connection takes %d bytes", each)
	}
}

// TestCurl: the client that everybody has.
func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed (scripts/setup test)")
	}
	p := one(t, says(t, "HTTP/1.1 200 OK\r\nX-Pod: one\r\nContent-Length: 5\r\n\r\nhello"))
	out, err := exec.Command(curl, "-sSi", "--http2-prior-knowledge", "http://"+p.Address+"/").CombinedOutput()
	if err != nil || !regexp.MustCompile(`(?s)^HTTP/2 200 \r\nx-pod: one\r\n.*\r\n\r\nhello$`).Match(out) {
		t.Errorf("%q %v", out, err)
	}
	// Upgrade from HTTP/1.1 stays in HTTP/1.1.
	out, err = exec.Command(curl, "-sSi", "--http2", "http://"+p.Address+"/").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "HTTP/1.1 200 OK\r\n") {
		t.Errorf("%q %v", out, err)
	}
}

// TestH2load: many connections with many streams, every request answered.
func TestH2load(t *testing.T) {
	h2load, err := exec.LookPath("h2load")
	if err != nil {
		t.Skip("h2load is not installed (scripts/setup test)")
	}
	p := one(t, says(t, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
	out, err := exec.Command(h2load, "-n", "20000", "-c", "20", "-m", "100", "http://"+p.Address+"/").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "20000 succeeded, 0 failed, 0 errored, 0 timeout") {
		t.Errorf("%s %v", out, err)
	}
	calm(t, p)
}
