package upstream_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// FuzzPod: whatever a pod sends on a connection that carries a request, the client gets an
// answer that is valid or sees that it broke off, nothing crashes, and nothing stays behind.
func FuzzPod(f *testing.F) {
	compose := func(write func(fr *http2.Framer, block []byte)) []byte {
		var out, block bytes.Buffer
		e := hpack.NewEncoder(&block)
		e.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
		e.WriteField(hpack.HeaderField{Name: "content-type", Value: "text/plain"})
		fr := http2.NewFramer(&out, nil)
		fr.AllowIllegalWrites = true
		write(fr, block.Bytes())
		return out.Bytes()
	}
	f.Add(compose(func(fr *http2.Framer, b []byte) {
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b, EndHeaders: true})
		fr.WriteData(1, true, []byte("body"))
	}))
	f.Add(compose(func(fr *http2.Framer, b []byte) {
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:1]})
		fr.WriteContinuation(1, true, b[1:])
		fr.WriteDataPadded(1, false, []byte("body"), make([]byte, 9))
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[1:], EndHeaders: true, EndStream: true})
	}))
	f.Add(compose(func(fr *http2.Framer, b []byte) {
		fr.WritePing(false, [8]byte{1})
		fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}, http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20})
		fr.WriteWindowUpdate(0, 100)
		fr.WriteWindowUpdate(1, 100)
		fr.WritePriority(1, http2.PriorityParam{StreamDep: 3})
		fr.WriteRSTStream(1, http2.ErrCodeRefusedStream)
		fr.WriteGoAway(0, http2.ErrCodeNo, []byte("bye"))
	}))
	f.Add(compose(func(fr *http2.Framer, b []byte) {
		fr.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: b, EndHeaders: true})
		fr.WriteRawFrame(0x7f, 0xff, 1, b)
	}))

	var input atomic.Pointer[[]byte]
	pod := wirePod(f, nil, func(w *wire) {
		if _, err := w.request(); err != nil {
			return
		}
		w.conn.Write(*input.Load())
		w.conn.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, w.conn)
	})
	p := start(f, &feedpb.Settings{ResponseTimeoutMs: 2000}, pod)
	f.Fuzz(func(t *testing.T, b []byte) {
		input.Store(&b)
		c, err := net.Dial("tcp", p.Address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			if e, ok := err.(net.Error); ok && e.Timeout() {
				t.Fatal("no answer")
			}
			return // broken off before the first byte was sent
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			if e, ok := err.(net.Error); ok && e.Timeout() {
				t.Fatal("the answer does not end")
			}
		}
		done := make(chan string, 1)
		p.Loop.Submit(func() {
			switch {
			case p.Loop.Panics() > 0:
				done <- "a panic"
			case p.Pool.Stats.Sessions > 8:
				done <- "connections stay open"
			default:
				done <- ""
			}
		})
		if what := <-done; what != "" {
			t.Fatal(what)
		}
		for end := time.Now().Add(5 * time.Second); inFlight(p) != 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d requests in flight", inFlight(p))
			}
		}
	})
}
