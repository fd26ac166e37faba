package http2_test

import (
	"bufio"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	h2 "github.com/kerngate/kerngate/userspace/proxy/client/http2"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestAttacks: each client does one thing without end. It must be told so and cut off, the
// proxy must hold no more memory than before, and others must be served.
func TestAttacks(t *testing.T) {
	hang := rawPod(t, func(c net.Conn, in *bufio.Reader, head string) { io.Copy(io.Discard, in) })
	for _, a := range []struct {
		limit h2.Limit
		// attack is called until writing fails or the proxy says GOAWAY.
		attack func(c *raw, round int) error
	}{
		{h2.LimitResets, func(c *raw, round int) error { // rapid reset, CVE-2023-44487
			id := uint32(2*round + 1)
			c.request(id, true, "GET", "/")
			return c.WriteRSTStream(id, http2.ErrCodeCancel)
		}},
		{h2.LimitResets, func(c *raw, round int) error { // the same, once requests have reached the pod
			id := uint32(2*round + 1)
			if id > 200 {
				c.WriteRSTStream(id-200, http2.ErrCodeCancel)
			}
			return c.request(id, false, "POST", "/")
		}},
		{h2.LimitRefused, func(c *raw, round int) error {
			return c.request(uint32(2*round+1), true, "GET", "/")
		}},
		{h2.LimitMalformed, func(c *raw, round int) error {
			return c.request(uint32(2*round+1), true, "GET", "/", "connection", "close")
		}},
		{h2.LimitMalformed, func(c *raw, round int) error { // server-made resets, CVE-2025-8671
			id := uint32(2*round + 1)
			c.request(id, true, "GET", "/")
			return c.WriteWindowUpdate(id, 1<<31-1)
		}},
		{h2.LimitContinuation, func(c *raw, round int) error { // CVE-2024-27316 and others
			if round == 0 {
				return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(":method", "GET")})
			}
			return c.WriteContinuation(1, false, nil)
		}},
		{h2.LimitHeaderBlock, func(c *raw, round int) error {
			block := make([]byte, 16000)
			for i := range block {
				block[i] = 0x82 // :method GET, again and again
			}
			if round == 0 {
				return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block})
			}
			return c.WriteContinuation(1, false, block)
		}},
		{h2.LimitHeaderBlock, func(c *raw, round int) error { // one string without end
			if round == 0 {
				return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0, 1, 'a', 0x7f, 0x80, 0x80, 0x80, 0x40}})
			}
			return c.WriteContinuation(1, false, make([]byte, 16000))
		}},
		{h2.LimitSettings, func(c *raw, round int) error { return c.WriteSettings() }},
		{h2.LimitSettings, func(c *raw, round int) error { return c.WriteSettingsAck() }},
		{h2.LimitPings, func(c *raw, round int) error { return c.WritePing(false, [8]byte{}) }},
		{h2.LimitPings, func(c *raw, round int) error { return c.WritePing(true, [8]byte{}) }},
		{h2.LimitEmptyData, func(c *raw, round int) error {
			if round == 0 {
				c.request(1, false, "POST", "/")
			}
			return c.WriteData(1, false, nil)
		}},
		{h2.LimitEmptyData, func(c *raw, round int) error { // padding alone
			if round == 0 {
				c.request(1, false, "POST", "/")
			}
			return c.WriteDataPadded(1, false, nil, make([]byte, 100))
		}},
		{h2.LimitPriority, func(c *raw, round int) error {
			return c.WritePriority(uint32(2*round+1), http2.PriorityParam{Weight: 1})
		}},
		{h2.LimitWindows, func(c *raw, round int) error {
			if round == 0 {
				c.request(1, false, "POST", "/")
			}
			return c.WriteWindowUpdate(uint32(round%2), 1)
		}},
		{h2.LimitOther, func(c *raw, round int) error { return c.WriteRawFrame(0xbe, 0, 0, nil) }},
		{h2.LimitOther, func(c *raw, round int) error { // of a stream that has ended
			if round == 0 {
				c.request(1, true, "GET", "/", "connection", "close")
			}
			return c.WriteRSTStream(1, http2.ErrCodeCancel)
		}},
		{h2.LimitOther, func(c *raw, round int) error { // trailers of such a stream
			if round == 0 {
				c.request(1, false, "POST", "/", "connection", "close")
			}
			return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}, EndStream: true, EndHeaders: true})
		}},
		{h2.LimitMalformed, func(c *raw, round int) error { // heads that are too large: 431, but not without end
			for len(c.many) < 12000 {
				c.many = append(c.many, 0x90) // accept-encoding: gzip, deflate, again and again
			}
			block := append(c.fields(":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/"), c.many...)
			return c.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*round + 1), BlockFragment: block, EndStream: true, EndHeaders: true})
		}},
	} {
		t.Run(a.limit.String(), func(t *testing.T) {
			p := one(t, hang)
			c := connect(t, p)
			told := make(chan *http2.GoAwayFrame, 1)
			go func() {
				defer close(told)
				for {
					f, err := c.ReadFrame()
					if err != nil {
						return
					}
					if g, ok := f.(*http2.GoAwayFrame); ok {
						again := *g
						told <- &again
						return
					}
				}
			}()
			before := heap()
			var said *http2.GoAwayFrame
			for round := 0; said == nil; round++ {
				if round > 100000 {
					t.Fatal("not cut off")
				}
				err := a.attack(c, round)
				select {
				case said = <-told:
				default:
					if err != nil {
						said = <-told
					}
				}
			}
			if said == nil || said.ErrCode != http2.ErrCodeEnhanceYourCalm {
				t.Fatalf("the end came as %v", said)
			}
			if n := p.Stats.HTTP2.Cut[a.limit].Load(); n != 1 {
				t.Errorf("counted %d times", n)
			}
			c.Close()
			calm(t, p)
			if after := heap(); after > before+2<<20 {
				t.Errorf("heap grew from %d to %d KiB", before>>10, after>>10)
			}
		})
	}
}

// heap returns the bytes that are in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// calm waits until the proxy has no client connection and no request under way.
func calm(t testing.TB, p *proxytest.Proxy) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); p.Stats.Open.Load() > 0 || p.Stats.Active.Load() > 0; {
		if time.Now().After(end) {
			t.Fatalf("%d connections are open, %d active", p.Stats.Open.Load(), p.Stats.Active.Load())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestHPACKBomb: fields that refer to one large entry of the table are many bytes for few.
// Each such request is answered by 431 at the cost of its bytes; too many end the connection.
func TestHPACKBomb(t *testing.T) {
	p := one(t, says(t, "HTTP/1.1 204 No Content\r\n\r\n"))
	c := connect(t, p)
	bomb := append(c.fields(":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/", "x", strings.Repeat("y", 3900)),
		[]byte(strings.Repeat("\xbe", 12000))...) // index 62: the newest entry
	before := heap()
	for id := uint32(1); id < 40; id += 2 {
		c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: bomb, EndStream: true, EndHeaders: true})
		if a := c.take(id)[id]; a.field(":status") != "431" {
			t.Fatalf("%+v", a)
		}
	}
	if after := heap(); after > before+1<<20 {
		t.Errorf("heap grew from %d to %d KiB", before>>10, after>>10)
	}
	if a := c.get(41, "/"); a.field(":status") != "204" {
		t.Errorf("afterwards: %+v", a)
	}
	// A table larger than announced is not to be had.
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: 43, BlockFragment: []byte{0x3f, 0xe2, 0x1f}, EndStream: true, EndHeaders: true}) // 4097
	if g := c.goAway(); g.ErrCode != http2.ErrCodeCompression {
		t.Errorf("%v", g)
	}
}

// bigPod answers with a body that no buffer holds.
func bigPod(t testing.TB) string {
	block := make([]byte, 1<<20)
	return rawPod(t, func(c net.Conn, in *bufio.Reader, head string) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
		for range 100 {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	})
}

func start(t testing.TB, backend string, s *feedpb.Settings) *proxytest.Proxy {
	t.Helper()
	return proxytest.Start(t, []proxytest.Service{{Name: "default/a:80", Path: "/", Backends: []string{backend}}}, s)
}

// TestZeroWindow: a client that asks for much and opens no window gets one request after
// the other reset, and is cut off when it goes on like that. Only so much is kept for it as
// its streams' buffers hold.
func TestZeroWindow(t *testing.T) {
	p := start(t, bigPod(t), &feedpb.Settings{ResponseTimeoutMs: 300})
	before := heap()
	c := connect(t, p, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	for id := uint32(1); id < 80; id += 2 {
		c.request(id, true, "GET", "/")
	}
	time.Sleep(150 * time.Millisecond)
	if during := heap(); during > before+40*(64<<10)+8<<20 {
		t.Errorf("heap grew from %d to %d KiB", before>>10, during>>10)
	}
	if g := c.goAway(); g.ErrCode != http2.ErrCodeEnhanceYourCalm || string(g.DebugData()) != "stalled_windows" {
		t.Errorf("%v", g)
	}
	c.Close()
	calm(t, p)
	if n := p.Stats.HTTP2.Cut[h2.LimitStalled].Load(); n != 1 {
		t.Errorf("counted %d times", n)
	}
}

// TestTinyWindow: the same with windows of one byte at a time (CVE-2019-9511).
func TestTinyWindow(t *testing.T) {
	p := start(t, bigPod(t), nil)
	c := connect(t, p, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	c.request(1, true, "GET", "/")
	var said *http2.GoAwayFrame
	for round := 0; said == nil && round < 10000; round++ {
		c.WriteWindowUpdate(1, 1)
		for {
			f, err := c.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if g, ok := f.(*http2.GoAwayFrame); ok {
				said = g
			}
			if _, ok := f.(*http2.DataFrame); ok || said != nil {
				break
			}
		}
	}
	if said == nil || said.ErrCode != http2.ErrCodeEnhanceYourCalm || string(said.DebugData()) != "tiny_windows" {
		t.Errorf("%v", said)
	}
}

// TestSlowRead: a client that opens every window and reads nothing is cut off, without a
// word that it would not read either.
func TestSlowRead(t *testing.T) {
	p := start(t, bigPod(t), &feedpb.Settings{ResponseTimeoutMs: 400})
	before := heap()
	c := connect(t, p, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	c.WriteWindowUpdate(0, 1<<30)
	for id := uint32(1); id < 200; id += 2 {
		if err := c.request(id, true, "GET", "/"); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(200 * time.Millisecond)
	if during := heap(); during > before+100*(64<<10)+8<<20 {
		t.Errorf("heap grew from %d to %d KiB", before>>10, during>>10)
	}
	for end := time.Now().Add(10 * time.Second); p.Stats.HTTP2.Cut[h2.LimitBacklog].Load() == 0; {
		if time.Now().After(end) {
			t.Fatal("not cut off")
		}
		time.Sleep(10 * time.Millisecond)
	}
	calm(t, p)
}

// TestAnswersUnread: a client that goes on asking and reads no answer is not read any more,
// and then cut off. Heads have no window that could stop them.
func TestAnswersUnread(t *testing.T) {
	p := start(t, says(t, "HTTP/1.1 204 No Content\r\nX-Large: "+strings.Repeat("x", 8000)+"\r\n\r\n"), &feedpb.Settings{ResponseTimeoutMs: 400})
	before := heap()
	c := connect(t, p)
	// No faster than the proxy answers: more than it has streams for would be another offence.
	cut := &p.Stats.HTTP2.Cut[h2.LimitBacklog]
	answered := &p.Metrics.Ended[exchange.Forwarded]
	end := time.Now().Add(20 * time.Second)
	for id := uint32(1); cut.Load() == 0 && time.Now().Before(end); id += 2 {
		if c.request(id, true, "GET", "/") != nil {
			break
		}
		for uint64(id/2) > answered.Load()+64 && cut.Load() == 0 && time.Now().Before(end) {
			time.Sleep(time.Millisecond)
		}
	}
	if n := cut.Load(); n != 1 {
		t.Errorf("cut off %d times", n)
	}
	c.Close()
	calm(t, p)
	if after := heap(); after > before+4<<20 {
		t.Errorf("heap grew from %d to %d KiB", before>>10, after>>10)
	}
}

// TestHeadNeverEnds: a header block must be complete within the head time-out.
func TestHeadNeverEnds(t *testing.T) {
	p := start(t, bigPod(t), &feedpb.Settings{HeadTimeoutMs: 200})
	c := connect(t, p)
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(":method", "GET")})
	if g := c.goAway(); g.ErrCode != http2.ErrCodeEnhanceYourCalm || string(g.DebugData()) != "header_block_time" {
		t.Errorf("%v", g)
	}
}

// TestSilence: a connection without a request is ended, before its first one by the head
// time-out, afterwards by the idle one.
func TestSilence(t *testing.T) {
	p := start(t, says(t, "HTTP/1.1 204 No Content\r\n\r\n"), &feedpb.Settings{HeadTimeoutMs: 200, IdleTimeoutMs: 600})
	began := time.Now()
	c := connect(t, p)
	if g := c.goAway(); g.ErrCode != http2.ErrCodeNo || time.Since(began) > 550*time.Millisecond {
		t.Errorf("%v after %v", g, time.Since(began))
	}
	c = connect(t, p)
	c.get(1, "/")
	began = time.Now()
	if g := c.goAway(); g.ErrCode != http2.ErrCodeNo || g.LastStreamID != 1 || time.Since(began) < 500*time.Millisecond {
		t.Errorf("%v after %v", g, time.Since(began))
	}
	// Half a preface is silence, too.
	half := p.Dial(t)
	io.WriteString(half, http2.ClientPreface[:20])
	half.SetDeadline(time.Now().Add(5 * time.Second))
	io.Copy(io.Discard, half)
	calm(t, p)
}
