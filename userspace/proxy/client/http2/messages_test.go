package http2_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// rawPod answers each connection with f, which gets the request's head.
func rawPod(t testing.TB, f func(c net.Conn, in *bufio.Reader, head string)) string {
	t.Helper()
	return proxytest.RawPod(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		for {
			head, err := proxytest.ReadHead(in)
			if err != nil {
				return
			}
			f(c, in, head)
		}
	})
}

// says answers each request with the same bytes.
func says(t testing.TB, response string) string {
	return rawPod(t, func(c net.Conn, in *bufio.Reader, head string) { io.WriteString(c, response) })
}

// TestSpaceAroundValues: whitespace around a field's value is no part of it, in requests,
// responses and trailers.
func TestSpaceAroundValues(t *testing.T) {
	heads := make(chan string, 1)
	p := one(t, rawPod(t, func(c net.Conn, in *bufio.Reader, head string) {
		heads <- head
		io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
	}))
	c := connect(t, p)
	if a := c.get(1, "/", "cookie", "a=b ", "cookie", " c=d", "x-a", "\t1 2 ", "x-empty", " ", "te", "trailers "); a.field(":status") != "204" {
		t.Errorf("%+v", a)
	}
	if head := <-heads; !strings.Contains(head, "cookie: a=b; c=d\r\nx-a: 1 2\r\nx-empty: \r\n") {
		t.Errorf("head %q", head)
	}
}

// TestRequestHead: what pods get is HTTP/1.1, with nothing of HTTP/2 left in it.
func TestRequestHead(t *testing.T) {
	heads := make(chan string, 1)
	p := one(t, rawPod(t, func(c net.Conn, in *bufio.Reader, head string) {
		heads <- head
		io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
	}))
	c := connect(t, p)
	c.get(1, "/a%2Fb//c?d=e", "cookie", "a=b", "x-a", "1", "cookie", "c=d", "te", "trailers", "x-request-id", "id", "x_real_ip", "6.6.6.6")
	head := <-heads
	if want := "GET /a%2Fb//c?d=e HTTP/1.1\r\nHost: a.test\r\ncookie: a=b; c=d\r\nx-a: 1\r\n"; !strings.HasPrefix(head, want) {
		t.Errorf("head %q, want %q", head, want)
	}
	for _, want := range []string{"X-Forwarded-For: 127.0.0.1\r\n", "X-Forwarded-Proto: http\r\n", "X-Request-ID: id\r\n"} {
		if !strings.Contains(head, want) {
			t.Errorf("no %q in %q", want, head)
		}
	}
	if lower := strings.ToLower(head); strings.Contains(lower, "6.6.6.6") || strings.Contains(lower, ":method") || strings.Contains(lower, "content-length") {
		t.Errorf("head %q", head)
	}
}

// TestResponses: each way in which a pod can end its response.
func TestResponses(t *testing.T) {
	date := "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
	long := strings.Repeat("v", 15000)
	for _, c := range []struct {
		name, method, response string
		head, body, trailers   string
	}{
		{"length", "GET", "HTTP/1.1 200 Fine\r\n" + date + "Content-Type: text/plain\r\nX-Upper-Case: Yes\r\nConnection: x-drop\r\nX-Drop: 1\r\nContent-Length: 5\r\n\r\nhello",
			":status: 200\ndate: Sun, 06 Nov 1994 08:49:37 GMT\ncontent-type: text/plain\nx-upper-case: Yes\ncontent-length: 5\n", "hello", ""},
		{"length 0", "GET", "HTTP/1.1 404 Not Found\r\n" + date + "Content-Length: 0\r\n\r\n", ":status: 404\ndate: Sun, 06 Nov 1994 08:49:37 GMT\ncontent-length: 0\n", "", ""},
		{"chunked", "GET", "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
			":status: 200\ndate: Sun, 06 Nov 1994 08:49:37 GMT\n", "hello", ""},
		{"trailers", "GET", "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n",
			":status: 200\ndate: Sun, 06 Nov 1994 08:49:37 GMT\n", "hello", "x-sum: 1\n"},
		{"trailers without body", "GET", "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n0\r\nGrpc-Status: 5\r\n\r\n",
			":status: 200\ndate: Sun, 06 Nov 1994 08:49:37 GMT\n", "", "grpc-status: 5\n"},
		{"HEAD", "HEAD", "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 5\r\n\r\n", ":status: 200\ndate: Sun, 06 Nov 1994 08:49:37 GMT\ncontent-length: 5\n", "", ""},
		{"HEAD, chunked", "HEAD", "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n", ":status: 200\ndate: Sun, 06 Nov 1994 08:49:37 GMT\n", "", ""},
		{"204", "GET", "HTTP/1.1 204 No Content\r\n" + date + "\r\n", ":status: 204\ndate: Sun, 06 Nov 1994 08:49:37 GMT\n", "", ""},
		{"304", "GET", "HTTP/1.1 304 Not Modified\r\n" + date + "Content-Length: 5\r\n\r\n", ":status: 304\ndate: Sun, 06 Nov 1994 08:49:37 GMT\ncontent-length: 5\n", "", ""},
		{"several cookies", "GET", "HTTP/1.1 201 Created\r\n" + date + "Set-Cookie: a=b\r\nSet-Cookie: c=d\r\nContent-Length: 1\r\n\r\nx",
			":status: 201\ndate: Sun, 06 Nov 1994 08:49:37 GMT\nset-cookie: a=b\nset-cookie: c=d\ncontent-length: 1\n", "x", ""},
		{"until the end of the connection", "GET", "HTTP/1.1 200 OK\r\n" + date + "A: " + long + "\r\n\r\nhello", ":status: 200\ndate: Sun, 06 Nov 1994 08:49:37 GMT\na: " + long + "\n", "hello", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			response := c.response
			closes := c.name == "until the end of the connection"
			p := one(t, rawPod(t, func(nc net.Conn, in *bufio.Reader, head string) {
				io.WriteString(nc, response)
				if closes {
					nc.Close()
				}
			}))
			h := connect(t, p)
			for id := uint32(1); id < 6; id += 2 {
				if err := h.request(id, true, c.method, "/", "te", "trailers"); err != nil {
					t.Fatal(err)
				}
				a := h.take(id)[id]
				before, after, named := strings.Cut(a.head, "server: kerngate\n")
				if !named || before+after != c.head || string(a.body) != c.body || a.trailers != c.trailers || !a.ended {
					t.Fatalf("%+v\nwant head %q body %q trailers %q", a, c.head, c.body, c.trailers)
				}
			}
		})
	}
}

// TestLargeHead: a head that takes more than one frame.
func TestLargeHead(t *testing.T) {
	var head strings.Builder
	for i := range 3 {
		fmt.Fprintf(&head, "X-Large-%d: %s\r\n", i, strings.Repeat("v", 5420))
	}
	for i := range 60 { // whose names are longer in HTTP/2 than the frame's last bytes
		fmt.Fprintf(&head, "X-Small-%d: %d\r\n", i, i)
	}
	p := one(t, says(t, "HTTP/1.1 200 OK\r\n"+head.String()+"Content-Length: 2\r\n\r\nok"))
	c := connect(t, p)
	for id := uint32(1); id < 8; id += 2 {
		a := c.get(id, "/")
		for i := range 60 {
			if v := a.field(fmt.Sprintf("x-small-%d", i)); v != fmt.Sprint(i) {
				t.Fatalf("x-small-%d is %q", i, v)
			}
		}
		if len(a.field("x-large-2")) != 5420 || string(a.body) != "ok" {
			t.Fatal("the large fields or the body differ")
		}
	}
}

func TestInterim(t *testing.T) {
	p := one(t, rawPod(t, func(c net.Conn, in *bufio.Reader, head string) {
		io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
		if strings.Contains(head, "expect: 100-continue") {
			io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			io.ReadFull(in, make([]byte, 5))
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}))
	c := connect(t, p)
	if err := c.request(1, false, "PUT", "/", "expect", "100-continue", "content-length", "5"); err != nil {
		t.Fatal(err)
	}
	var a answer
	for len(a.interim) < 2 {
		f, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		c.note(&a, f)
	}
	if a.interim[0] != ":status: 103\nlink: </a>\n" || a.interim[1] != ":status: 100\n" {
		t.Errorf("%q", a.interim)
	}
	c.WriteData(1, true, []byte("hello"))
	if got := c.take(1)[1]; string(got.body) != "ok" {
		t.Errorf("%+v", got)
	}
}

// TestRequestBodies sends bodies of known and unknown length, with and without trailers and
// padding, to a pod that gets lengths and to one that gets streams.
func TestRequestBodies(t *testing.T) {
	type seen struct{ encoding, length, body, trailer string }
	got := make(chan seen, 1)
	backend := pod(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- seen{strings.Join(r.TransferEncoding, ","), r.Header.Get("Content-Length"), string(b), r.Trailer.Get("X-Sum")}
	})
	whole, stream := one(t, backend), unbuffered(t, backend)
	for name, want := range map[string]struct {
		proxy                     *proxytest.Proxy
		method, length            string
		data                      []string
		trailer                   bool
		encoding, told, body, sum string
	}{
		"length":                  {whole, "POST", "5", []string{"he", "llo"}, false, "", "5", "hello", ""},
		"none":                    {whole, "POST", "", []string{"hel", "lo"}, false, "", "5", "hello", ""},
		"none, trailers":          {whole, "POST", "", []string{"hello"}, true, "", "5", "hello", ""},
		"empty":                   {whole, "POST", "", nil, false, "", "0", "", ""},
		"empty GET":               {whole, "GET", "", nil, false, "", "", "", ""},
		"GET":                     {whole, "GET", "", []string{"hello"}, false, "", "5", "hello", ""},
		"streamed, length":        {stream, "POST", "5", []string{"he", "llo"}, false, "", "5", "hello", ""},
		"streamed":                {stream, "POST", "", []string{"hel", "lo"}, false, "chunked", "", "hello", ""},
		"streamed, trailers":      {stream, "POST", "", []string{"hello"}, true, "chunked", "", "hello", "1"},
		"streamed, empty GET":     {stream, "GET", "", nil, false, "", "", "", ""},
		"streamed, GET":           {stream, "GET", "", []string{"hello"}, false, "", "5", "hello", ""},
		"streamed, GET, trailers": {stream, "GET", "", []string{"hello"}, true, "", "5", "hello", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, want.proxy)
			var fields []string
			if want.length != "" {
				fields = append(fields, "content-length", want.length)
			}
			if want.trailer {
				fields = append(fields, "trailer", "x-sum", "te", "trailers")
			}
			c.request(1, false, want.method, "/", fields...)
			for _, d := range want.data {
				c.WriteDataPadded(1, false, []byte(d), make([]byte, 3))
			}
			if want.trailer {
				c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields("x-sum", "1"), EndStream: true, EndHeaders: true})
			} else {
				c.WriteData(1, true, nil)
			}
			if s := <-got; s != (seen{want.encoding, want.told, want.body, want.sum}) {
				t.Errorf("the pod got %+v", s)
			}
			c.take(1)
		})
	}
}

// TestEarlyResponse: an answer before the body's end is whole, and the rest of the body is
// not wanted.
func TestEarlyResponse(t *testing.T) {
	p := proxytest.Start(t, []proxytest.Service{{Name: "d/a:80", Path: "/", Backends: []string{says(t, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")}}},
		&feedpb.Settings{MaxBodyBytes: 1000})
	c := connect(t, p)
	c.request(1, false, "POST", "/", "content-length", "500")
	c.WriteData(1, false, make([]byte, 100))
	var a answer
	for !a.wasReset {
		f, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		c.note(&a, f)
	}
	if a.field(":status") != "403" || string(a.body) != "no" || a.reset != http2.ErrCodeNo {
		t.Errorf("%+v", a)
	}
	// What was on its way is dropped without complaint, and the connection goes on.
	c.WriteData(1, false, make([]byte, 100))
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields("x-sum", "1"), EndStream: true, EndHeaders: true})
	c.request(3, false, "POST", "/", "content-length", "1001")
	if a := c.take(3)[3]; a.field(":status") != "413" || !bytes.HasPrefix(a.body, []byte("body_too_large: ")) {
		t.Errorf("%+v", a)
	}
}

// TestOwnAnswers: as over HTTP/1.1.
func TestOwnAnswers(t *testing.T) {
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "d/none:80", Host: "a.test", Path: "/none"},
		{Name: "d/broken:80", Host: "a.test", Path: "/broken", Backends: []string{says(t, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf\x00")}},
	}, &feedpb.Settings{AccessLogSample: 1, MaxHeadBytes: 4096, ResponseTimeoutMs: 300})
	c := connect(t, p)
	for i, want := range []struct {
		path, status, body string
		more               []string
	}{
		{"/nowhere", "404", "no_route: no Ingress publishes this host and path\n", nil},
		{"/none", "503", "no_endpoint: the Service has no ready pod\n", nil},
		{"/../x", "400", "bad_path: the request path cannot be normalised (path_above_root)\n", nil},
		{"/", "431", "bad_request: head exceeds its limit in bytes (head_too_large)\n", []string{"x-large", strings.Repeat("x", 5000)}},
		{"/", "417", "bad_request: Expect is not 100-continue (unknown_expectation)\n", []string{"expect", "more"}},
		{"/a b", "400", "bad_request: request target has a character or a form that is not allowed (bad_target)\n", nil},
	} {
		a := c.get(uint32(2*i+1), want.path, want.more...)
		if a.field(":status") != want.status || string(a.body) != want.body || !a.ended {
			t.Errorf("%s: %+v", want.path, a)
		}
		for name, value := range map[string]string{"server": "kerngate", "content-type": "text/plain; charset=utf-8",
			"x-content-type-options": "nosniff", "content-length": fmt.Sprint(len(want.body))} {
			if a.field(name) != value {
				t.Errorf("%s: %s is %q, want %q", want.path, name, a.field(name), value)
			}
		}
		if _, err := time.Parse(http.TimeFormat, a.field("date")); err != nil {
			t.Error(err)
		}
		if (a.field("retry-after") == "1") != (want.status == "503") {
			t.Errorf("%s: retry-after %q", want.path, a.field("retry-after"))
		}
	}
	if a := c.get(101, "/broken"); a.field(":status") != "200" || !a.wasReset || a.reset != http2.ErrCodeInternal {
		t.Errorf("a response that is cut short: %+v", a)
	}
	// Malformed requests are reset, and logged by their token.
	c.request(103, true, "GET", "/", "connection", "close")
	if a := c.take(103)[103]; !a.wasReset || a.reset != http2.ErrCodeProtocol || a.head != "" {
		t.Errorf("malformed: %+v", a)
	}
	c.request(105, true, "CONNECT", "/")
	if a := c.take(105)[105]; a.field(":status") != "501" || !bytes.Contains(a.body, []byte("connect_not_implemented")) {
		t.Errorf("CONNECT: %+v", a)
	}
	for _, want := range []string{`"proto":"HTTP/2"`, `"detail":"connection_specific_field"`, `"reason":"no_route"`, `"path":"/none"`, `"reason":"upstream_timeout"`} {
		deadline := time.Now().Add(5 * time.Second)
		for !strings.Contains(p.Log.String(), want) {
			if time.Now().After(deadline) {
				t.Errorf("no %s in the access log %s", want, p.Log)
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	if n := p.Metrics.Status[4].Load(); n < 6 {
		t.Errorf("%d responses of class 4xx counted", n)
	}
}

// TestContentLength: a body that is longer or shorter than announced ends its stream.
func TestContentLength(t *testing.T) {
	p := one(t, pod(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	c := connect(t, p)
	for i, data := range []string{"hell", "hello!"} {
		id := uint32(2*i + 1)
		c.request(id, false, "POST", "/", "content-length", "5")
		c.WriteData(id, true, []byte(data))
		if a := c.take(id)[id]; !a.wasReset || a.reset != http2.ErrCodeProtocol {
			t.Errorf("%q: %+v", data, a)
		}
	}
	c.request(5, false, "POST", "/", "content-length", "5")
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: 5, BlockFragment: c.fields("x-a", "b"), EndStream: true, EndHeaders: true})
	if a := c.take(5)[5]; !a.wasReset || a.reset != http2.ErrCodeProtocol {
		t.Errorf("trailers: %+v", a)
	}
	if a := c.get(7, "/"); a.field(":status") != "200" {
		t.Errorf("afterwards: %+v", a)
	}
}
