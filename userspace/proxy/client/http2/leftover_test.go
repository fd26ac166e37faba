package http2_test

import (
	"io"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/io/linger"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// answersEarly starts a proxy that answers 404 to whatever raw asks for, without reading a body.
func answersEarly(t testing.TB, settings *feedpb.Settings) *proxytest.Proxy {
	t.Helper()
	return proxytest.Start(t, []proxytest.Service{{Name: "default/a:80", Host: "other.test", Path: "/"}}, settings)
}

// frames reads until a frame of this type comes for the stream, and returns all that came
// for it up to then; the window updates of the connection are counted.
func (c *raw) frames(id uint32, last http2.FrameType) (list []http2.FrameType, window int) {
	c.t.Helper()
	for {
		f, err := c.ReadFrame()
		if err != nil {
			c.t.Fatalf("after %v: %v", list, err)
		}
		if w, ok := f.(*http2.WindowUpdateFrame); ok && w.StreamID == 0 {
			window += int(w.Increment)
		}
		if f.Header().StreamID == id {
			list = append(list, f.Header().Type)
		}
		if f.Header().StreamID == id && f.Header().Type == last || id == 0 && f.Header().Type == last {
			return list, window
		}
	}
}

// TestLeftover: an answered request's stream is reset only when the client has been silent
// for a while, and then not as a failure.
func TestLeftover(t *testing.T) {
	p := answersEarly(t, nil)
	c := connect(t, p)
	c.request(1, false, "POST", "/", "content-length", "100000")
	began := time.Now()
	a := c.take(1)[1]
	if !a.ended || a.wasReset || a.field(":status") != "404" {
		t.Fatalf("%+v", a)
	}
	f, err := c.next()
	if r, ok := f.(*http2.RSTStreamFrame); err != nil || !ok || r.ErrCode != http2.ErrCodeNo {
		t.Fatalf("%v %v, want RST_STREAM with NO_ERROR", f, err)
	}
	if waited := time.Since(began); waited < linger.Pause-100*time.Millisecond {
		t.Errorf("reset after %s", waited)
	}
	if n := p.Metrics.Linger.Cut.Load(); n != 1 {
		t.Errorf("%d bodies are counted as cut", n)
	}
	// What was under way is ignored, and the connection serves on.
	c.WriteData(1, true, make([]byte, 100))
	if a := c.get(3, "/"); a.field(":status") != "404" {
		t.Errorf("%+v", a)
	}
}

// TestLeftoverEnds: the rest of an answered request's body may end as it likes, without any
// reset, and the connection's window is not used up by it.
func TestLeftoverEnds(t *testing.T) {
	p := answersEarly(t, nil)
	for name, end := range map[string]func(c *raw){
		"by its last piece": func(c *raw) { c.WriteData(1, true, []byte("last")) },
		"by trailers": func(c *raw) {
			c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields("x-sum", "1"), EndStream: true, EndHeaders: true})
		},
		"by the client's reset": func(c *raw) { c.WriteRSTStream(1, http2.ErrCodeCancel) },
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, p)
			c.request(1, false, "POST", "/")
			c.take(1)
			// More than all windows, as they are given back.
			left, window := 64<<10-1, 0
			for range 300 {
				if left < 16<<10 {
					_, n := c.frames(1, http2.FrameWindowUpdate)
					window += n
					left += 32 << 10 // what is worth a frame, or more
				}
				c.WriteData(1, false, make([]byte, 16<<10))
				left -= 16 << 10
			}
			end(c)
			if a := c.get(3, "/"); a.field(":status") != "404" {
				t.Errorf("%+v", a)
			}
			if window < 3<<20 {
				t.Errorf("the connection's window was raised by %d bytes", window)
			}
			if n := p.Metrics.Linger.Cut.Load(); n != 0 {
				t.Errorf("%d bodies are counted as cut", n)
			}
			// The stream is closed: more on it is a fault.
			if name == "by its last piece" {
				c.WriteData(1, false, []byte("x"))
				f, err := c.next()
				if r, ok := f.(*http2.RSTStreamFrame); err != nil || !ok || r.ErrCode != http2.ErrCodeStreamClosed {
					t.Errorf("%v %v, want RST_STREAM with STREAM_CLOSED", f, err)
				}
			}
		})
	}
}

// TestLeftoversCount: streams whose bodies go on after the answer are open ones, of which a
// connection has so many and no more.
func TestLeftoversCount(t *testing.T) {
	p := answersEarly(t, &feedpb.Settings{MaxStreams: 3})
	c := connect(t, p)
	for _, id := range []uint32{1, 3, 5} {
		c.request(id, false, "POST", "/")
		c.take(id)
	}
	c.request(7, true, "GET", "/")
	if a := c.take(7)[7]; !a.wasReset || a.reset != http2.ErrCodeRefusedStream {
		t.Errorf("a fourth stream: %+v", a)
	}
	c.WriteData(3, true, nil)
	if a := c.get(9, "/"); a.field(":status") != "404" {
		t.Errorf("after one has ended: %+v", a)
	}
}

// TestLeftoverDrain: a connection that is drained ends with the last body, so that none is
// reset before its client has read the answer.
func TestLeftoverDrain(t *testing.T) {
	p := answersEarly(t, nil)
	c := connect(t, p)
	c.request(1, false, "POST", "/")
	c.take(1)
	p.Loop.Submit(p.Server.Drain)
	c.goAway()
	c.frames(0, http2.FramePing)
	c.WritePing(true, [8]byte{'d', 'r', 'a', 'i', 'n'})
	c.goAway()
	c.WriteData(1, false, make([]byte, 1000))
	c.WriteData(1, true, make([]byte, 1000))
	if _, err := io.Copy(io.Discard, c.Conn); err != nil {
		t.Errorf("the connection does not end properly: %v", err)
	}
	if n := p.Metrics.Linger.Bytes.Load(); n != 2000 {
		t.Errorf("%d bytes were taken after the answer, want 2000", n)
	}
}

// TestLeftoverBudget: a connection that has used up what it may send after answers gets no
// more window, and a reset a little later.
func TestLeftoverBudget(t *testing.T) {
	p := answersEarly(t, nil)
	c := connect(t, p)
	c.SetDeadline(time.Now().Add(60 * time.Second))
	c.request(1, false, "POST", "/")
	c.take(1)
	// The sender goes by the windows, which the reader counts.
	stream, connection := make(chan int, 1<<16), make(chan int, 1<<16)
	ended := make(chan int, 1)
	go func() {
		piece := make([]byte, 16<<10)
		sent, left, all := 0, 64<<10-1, 1<<20
		for {
			for left < len(piece) || all < len(piece) {
				select {
				case n, ok := <-stream:
					if !ok {
						ended <- sent
						return
					}
					left += n
				case n := <-connection:
					all += n
				}
			}
			c.WriteData(1, false, piece)
			sent, left, all = sent+len(piece), left-len(piece), all-len(piece)
		}
	}()
	for reset := false; !reset; {
		f, err := c.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch f := f.(type) {
		case *http2.WindowUpdateFrame:
			if f.StreamID == 0 {
				connection <- int(f.Increment)
			} else {
				stream <- int(f.Increment)
			}
		case *http2.RSTStreamFrame:
			reset = true
			if f.ErrCode != http2.ErrCodeNo {
				t.Errorf("RST_STREAM %v", f.ErrCode)
			}
		}
	}
	close(stream)
	if sent := <-ended; sent < linger.Burst || sent > linger.Burst+linger.PerSecond*60 {
		t.Errorf("%d bytes were taken", sent)
	}
	if n := p.Metrics.Linger.Cut.Load(); n != 1 {
		t.Errorf("%d bodies are counted as cut", n)
	}
}
