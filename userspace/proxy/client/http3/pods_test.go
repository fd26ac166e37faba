package http3_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// What pods do to a response is the same for clients of each version of HTTP; here it is
// compared.

// framePod is a pod that speaks HTTP/2: f answers a request.
type framePod struct {
	*http2.Framer
	conn net.Conn
	path string
}

func newFramePod(t testing.TB, f func(p *framePod, id uint32)) string {
	t.Helper()
	return proxytest.RawPod(t, func(c net.Conn) {
		p := &framePod{Framer: http2.NewFramer(c, c), conn: c}
		p.AllowIllegalWrites = true
		io.ReadFull(c, make([]byte, len(http2.ClientPreface)))
		p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		p.WriteWindowUpdate(0, 1<<20)
		fields := hpack.NewDecoder(4096, func(f hpack.HeaderField) {
			if f.Name == ":path" {
				p.path = f.Value
			}
		})
		for {
			frame, err := p.ReadFrame()
			if err != nil {
				return
			}
			if h, ok := frame.(*http2.HeadersFrame); ok {
				fields.Write(h.HeaderBlockFragment())
				f(p, h.StreamID)
			}
		}
	})
}

// headers writes a head of name, value pairs.
func (p *framePod) headers(id uint32, end bool, fields ...string) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b.Bytes(), EndStream: end, EndHeaders: true})
}

// data writes n bytes of a body.
func (p *framePod) data(id uint32, n int, end bool) {
	for ; n > 16<<10; n -= 16 << 10 {
		p.WriteData(id, false, make([]byte, 16<<10))
	}
	p.WriteData(id, end, make([]byte, n))
}

// before has the site's paths /h1 and /h2 lead to a pod that speaks HTTP/1.1 and one that
// speaks HTTP/2.
func (s *site) before(t testing.TB, h1, h2 string) {
	t.Helper()
	streamed := &feedpb.Policy{RequestBuffering: feedpb.RequestBuffering_BUFFER_OFF}
	s.Configure(t, []proxytest.Service{
		{Name: "default/a:80", Path: "/h1", Backends: []string{h1}, Policy: streamed},
		{Name: "default/b:80", Path: "/h2", Backends: []string{h2}, Policy: streamed, Upstream: &feedpb.Upstream{Protocol: feedpb.Upstream_HTTP2}},
	}, &feedpb.Settings{})
}

// versions returns a client of each version of HTTP, and where it finds the site.
func (s *site) versions(t testing.TB) map[string]func(*http.Request) (*http.Response, error) {
	transports := map[string]http.RoundTripper{"HTTP/3": s.client.Transport}
	for name, set := range map[string]func(*http.Protocols){
		"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
		"HTTP/2":   func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
	} {
		tr := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
		set(tr.Protocols)
		t.Cleanup(tr.CloseIdleConnections)
		transports[name] = tr
	}
	clients := map[string]func(*http.Request) (*http.Response, error){}
	for name, tr := range transports {
		clients[name] = func(r *http.Request) (*http.Response, error) {
			if name != "HTTP/3" {
				r.URL.Scheme, r.URL.Host = "http", s.Address
			}
			return (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Do(r)
		}
	}
	return clients
}

// TestPodAnswersAndCloses: a pod that refuses a body and closes while that is still being
// written has its answer forwarded, whole.
func TestPodAnswersAndCloses(t *testing.T) {
	const size = 5000
	h1 := rawPod(t, func(c net.Conn, head string) {
		fmt.Fprintf(c, "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", size, make([]byte, size))
	})
	h2 := newFramePod(t, func(p *framePod, id uint32) {
		p.WriteGoAway(id, http2.ErrCodeNo, nil) // the next request is to get a connection of its own
		p.headers(id, false, ":status", "413", "content-length", fmt.Sprint(size))
		p.data(id, size, true)
		p.conn.Close()
	})
	s := newSite(t, nil)
	s.before(t, h1, h2)
	for version, do := range s.versions(t) {
		for _, pod := range []string{"h1", "h2"} {
			t.Run(version+" client, "+pod+" pod", func(t *testing.T) {
				for range 10 { // the pod's end comes at any point of the body
					r, err := http.NewRequest("POST", s.url+"/"+pod, bytes.NewReader(make([]byte, 2<<20)))
					if err != nil {
						t.Fatal(err)
					}
					resp, err := do(r)
					if err != nil {
						t.Fatal(err)
					}
					b, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if resp.StatusCode != 413 || len(b) != size || err != nil {
						t.Fatalf("%s and %d bytes, %v: %.100q", resp.Status, len(b), err, bytes.Trim(b, "\x00"))
					}
				}
			})
		}
	}
}

// breakOffs are the ways in which a pod can fail to end a response. Each has sent the first
// half of it.
var breakOffs = []struct {
	name, pod string
	h1        string // head, and how the body begins
	reset     bool
	h2        func(p *framePod, id uint32)
}{
	{name: "too short", pod: "h1", h1: "Content-Length: 100000\r\n\r\n"},
	{name: "reset", pod: "h1", h1: "Content-Length: 100000\r\n\r\n", reset: true},
	{name: "inside a chunk", pod: "h1", h1: "Transfer-Encoding: chunked\r\n\r\n186a0\r\n"},
	{name: "no last chunk", pod: "h1", h1: "Transfer-Encoding: chunked\r\n\r\nc350\r\n"},
	{name: "RST_STREAM", pod: "h2", h2: func(p *framePod, id uint32) { p.WriteRSTStream(id, http2.ErrCodeInternal) }},
	{name: "RST_STREAM with NO_ERROR", pod: "h2", h2: func(p *framePod, id uint32) { p.WriteRSTStream(id, http2.ErrCodeNo) }},
	{name: "closed", pod: "h2", h2: func(p *framePod, id uint32) { p.conn.Close() }},
	{name: "GOAWAY and closed", pod: "h2", h2: func(p *framePod, id uint32) {
		p.WriteGoAway(id, http2.ErrCodeNo, nil)
		p.conn.Close()
	}},
	{name: "too short", pod: "h2", h2: func(p *framePod, id uint32) { p.WriteData(id, true, nil) }},
	{name: "too long", pod: "h2", h2: func(p *framePod, id uint32) { p.data(id, 60000, true) }},
}

// half of a response's 100,000 bytes.
const half = 50000

// breaksOff starts pods that do what the path names.
func (s *site) breaksOff(t testing.TB) {
	t.Helper()
	index := func(path string) (i int) {
		fmt.Sscanf(path[strings.LastIndexByte(path, '/')+1:], "%d", &i)
		return i
	}
	h1 := rawPod(t, func(c net.Conn, head string) {
		target, _, _ := strings.Cut(head, " HTTP/1.1")
		b := breakOffs[index(target)]
		io.WriteString(c, "HTTP/1.1 200 OK\r\n"+b.h1)
		c.Write(make([]byte, half))
		if b.name == "no last chunk" {
			io.WriteString(c, "\r\n")
		}
		if b.reset {
			c.(*net.TCPConn).SetLinger(0)
		}
	})
	h2 := newFramePod(t, func(p *framePod, id uint32) {
		p.headers(id, false, ":status", "200", "content-length", "100000")
		p.data(id, half, false)
		breakOffs[index(p.path)].h2(p, id)
	})
	s.before(t, h1, h2)
}

// TestBrokenResponses: a response that a pod breaks off is a failure to each client, and never
// a whole response.
func TestBrokenResponses(t *testing.T) {
	s := newSite(t, nil)
	s.breaksOff(t)
	clients := s.versions(t)
	for i, b := range breakOffs {
		path := fmt.Sprintf("/%s/%d", b.pod, i)
		for version, do := range clients {
			t.Run(version+" client, "+b.pod+" pod, "+b.name, func(t *testing.T) {
				r, err := http.NewRequest("GET", s.url+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := do(r)
				if err != nil && version == "HTTP/3" {
					return // the reset has overtaken the head; the code is looked at below
				}
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				got, err := io.ReadAll(resp.Body)
				var reset http2.StreamError
				switch {
				case err == nil:
					t.Fatalf("%s: %d bytes and a proper end", resp.Status, len(got))
				case version == "HTTP/1.1" && err != io.ErrUnexpectedEOF:
					t.Errorf("%v, want that the end is missing", err)
				case version == "HTTP/2" && (!errors.As(err, &reset) || reset.Code != http2.ErrCodeInternal) && !strings.Contains(err.Error(), "INTERNAL_ERROR"):
					t.Errorf("%v, want RST_STREAM with INTERNAL_ERROR", err)
				case version != "HTTP/3" && !b.reset && b.name != "too long" && len(got) != half:
					t.Errorf("%d bytes came, %v", len(got), err)
				}
			})
		}
		t.Run("HTTP/3, "+b.pod+" pod, "+b.name, func(t *testing.T) {
			x := s.dial(t).ask("GET", strings.TrimPrefix(s.url, "https://"), path)
			x.Close()
			m, err := x.read()
			if code := resetBy(err); code != internalError {
				t.Errorf("status %q, %d bytes, %v; want a reset with H3_INTERNAL_ERROR", m.status(), len(m.body), err)
			}
		})
	}
}

// TestBrokenCalls: a call of gRPC whose response breaks off ends with a status of its own, and
// one that the pod ends without a status gets none made up.
func TestBrokenCalls(t *testing.T) {
	s := newSite(t, nil)
	h2 := newFramePod(t, func(p *framePod, id uint32) {
		p.headers(id, false, ":status", "200", "content-type", "application/grpc")
		p.data(id, half, p.path == "/h2/statusless")
		switch p.path {
		case "/h2/reset":
			p.WriteRSTStream(id, http2.ErrCodeInternal)
		case "/h2/closed":
			p.conn.Close()
		}
	})
	s.before(t, h2, h2)
	clients := s.versions(t)
	delete(clients, "HTTP/1.1") // gRPC is not spoken by it
	for version, do := range clients {
		for _, c := range []struct{ path, status string }{
			{"/h2/reset", "13"}, {"/h2/closed", "14"}, {"/h2/statusless", ""},
		} {
			t.Run(version+c.path, func(t *testing.T) {
				r, err := http.NewRequest("POST", s.url+c.path, strings.NewReader("call"))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", "application/grpc")
				r.Header.Set("TE", "trailers")
				resp, err := do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				if got := resp.Trailer.Get("Grpc-Status"); got != c.status || len(b) != half || err != nil {
					t.Errorf("%d bytes, %v, grpc-status %q, want %q", len(b), err, got, c.status)
				}
			})
		}
	}
}
