package http2_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// raw is a client that sends and reads single frames.
type raw struct {
	t testing.TB
	net.Conn
	*http2.Framer
	enc   *hpack.Encoder
	block bytes.Buffer
	dec   *hpack.Decoder
	many  []byte // fields of a block
}

// connect opens a connection and sends preface and settings.
func connect(t testing.TB, p *proxytest.Proxy, settings ...http2.Setting) *raw {
	t.Helper()
	c := &raw{t: t, Conn: p.Dial(t)}
	c.Framer = http2.NewFramer(c.Conn, c.Conn)
	c.AllowIllegalWrites = true
	c.enc = hpack.NewEncoder(&c.block)
	c.dec = hpack.NewDecoder(4096, nil)
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c.Conn, http2.ClientPreface)
	if err := c.WriteSettings(settings...); err != nil {
		t.Fatal(err)
	}
	return c
}

// fields encodes a list of names and values.
func (c *raw) fields(list ...string) []byte {
	c.block.Reset()
	for i := 0; i < len(list); i += 2 {
		c.enc.WriteField(hpack.HeaderField{Name: list[i], Value: list[i+1]})
	}
	return bytes.Clone(c.block.Bytes())
}

// request sends a request's head; more are further names and values.
func (c *raw) request(id uint32, end bool, method, path string, more ...string) error {
	list := append([]string{":method", method, ":scheme", "http", ":authority", "a.test", ":path", path}, more...)
	return c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.fields(list...), EndStream: end, EndHeaders: true})
}

// next reads the next frame that says something: no settings, no windows, no pings' answers.
func (c *raw) next() (http2.Frame, error) {
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return nil, err
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				c.WriteSettingsAck()
			}
		case *http2.WindowUpdateFrame:
		case *http2.PingFrame:
			if !f.IsAck() {
				c.WritePing(true, f.Data)
			}
		default:
			return f, nil
		}
	}
}

// answer is what came back on one stream.
type answer struct {
	interim  []string // heads of 1xx
	head     string   // "name: value" lines
	body     []byte
	trailers string
	ended    bool
	reset    http2.ErrCode // of RST_STREAM
	wasReset bool
}

func (a *answer) field(name string) string {
	for line := range strings.Lines(a.head) {
		if n, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); n == name {
			return v
		}
	}
	return ""
}

// take reads frames until the streams have ended and returns what came on each.
func (c *raw) take(ids ...uint32) map[uint32]*answer {
	c.t.Helper()
	got := map[uint32]*answer{}
	open := map[uint32]bool{}
	for _, id := range ids {
		got[id], open[id] = &answer{}, true
	}
	for len(open) > 0 {
		f, err := c.next()
		if err != nil {
			c.t.Fatalf("while %v are open: %v", open, err)
		}
		a := got[f.Header().StreamID]
		if a == nil {
			if g, ok := f.(*http2.GoAwayFrame); ok && g.ErrCode == http2.ErrCodeNo {
				continue
			}
			c.t.Fatalf("unexpected %v", f)
		}
		c.note(a, f)
		if a.ended || a.wasReset {
			delete(open, f.Header().StreamID)
		}
	}
	return got
}

func (c *raw) note(a *answer, f http2.Frame) {
	c.t.Helper()
	switch f := f.(type) {
	case *http2.HeadersFrame:
		block := bytes.Clone(f.HeaderBlockFragment())
		ended := f.StreamEnded()
		for done := f.HeadersEnded(); !done; {
			more, err := c.ReadFrame()
			if err != nil {
				c.t.Fatal(err)
			}
			cont := more.(*http2.ContinuationFrame)
			block = append(block, cont.HeaderBlockFragment()...)
			done = cont.HeadersEnded()
		}
		list, err := c.dec.DecodeFull(block)
		if err != nil {
			c.t.Fatal(err)
		}
		var b strings.Builder
		for _, f := range list {
			fmt.Fprintf(&b, "%s: %s\n", f.Name, f.Value)
		}
		switch {
		case strings.HasPrefix(b.String(), ":status: 1"):
			a.interim = append(a.interim, b.String())
		case a.head == "":
			a.head = b.String()
		default:
			a.trailers = b.String()
		}
		a.ended = ended
	case *http2.DataFrame:
		a.body = append(a.body, f.Data()...)
		a.ended = f.StreamEnded()
		if n := len(f.Data()); n > 0 {
			c.WriteWindowUpdate(0, uint32(n))
			if !a.ended {
				c.WriteWindowUpdate(f.StreamID, uint32(n))
			}
		}
	case *http2.RSTStreamFrame:
		a.wasReset, a.reset = true, f.ErrCode
	default:
		c.t.Fatalf("unexpected %v", f)
	}
}

// get asks for a path and returns the answer.
func (c *raw) get(id uint32, path string, more ...string) *answer {
	c.t.Helper()
	if err := c.request(id, true, "GET", path, more...); err != nil {
		c.t.Fatal(err)
	}
	return c.take(id)[id]
}

// goAway reads until GOAWAY comes, and then the end of the connection.
func (c *raw) goAway() *http2.GoAwayFrame {
	c.t.Helper()
	for {
		f, err := c.ReadFrame()
		if err != nil {
			c.t.Fatalf("no GOAWAY: %v", err)
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			again := *g
			return &again
		}
	}
}
