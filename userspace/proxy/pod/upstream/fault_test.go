package upstream_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestFaults: what a pod does wrong is told by its reason, ends that request, and costs
// neither memory nor other pods' requests anything.
func TestFaults(t *testing.T) {
	ok := func(w *wire, id uint32) { w.headers(id, false, ":status", "200") }
	for _, c := range []struct {
		name   string
		script func(w *wire, id uint32)
		reason exchange.Reason
		detail string
		late   bool // the response has begun
	}{
		{"closes without a word", func(w *wire, id uint32) { w.conn.Close() }, exchange.UpstreamClosed, "", false},
		{"resets the stream", func(w *wire, id uint32) { w.WriteRSTStream(id, http2.ErrCodeInternal) }, exchange.UpstreamReset, "internal_error", false},
		{"resets within the body", func(w *wire, id uint32) {
			ok(w, id)
			w.WriteData(id, false, []byte("part"))
			w.WriteRSTStream(id, http2.ErrCodeCancel)
		}, exchange.UpstreamAborted, "cancel", true},
		{"closes within the body", func(w *wire, id uint32) {
			ok(w, id)
			w.WriteData(id, false, []byte("part"))
			w.conn.Close()
		}, exchange.UpstreamAborted, "", true},
		{"upper-case name", func(w *wire, id uint32) { w.headers(id, true, ":status", "200", "X-Upper", "1") }, exchange.UpstreamInvalid, "", false},
		{"line break in a value", func(w *wire, id uint32) { w.headers(id, true, ":status", "200", "x", "a\r\nb: c") }, exchange.UpstreamInvalid, "", false},
		{"connection field", func(w *wire, id uint32) { w.headers(id, true, ":status", "200", "transfer-encoding", "chunked") }, exchange.UpstreamInvalid, "", false},
		{"no status", func(w *wire, id uint32) { w.headers(id, true, "x", "y") }, exchange.UpstreamInvalid, "", false},
		{"status 101", func(w *wire, id uint32) { w.headers(id, false, ":status", "101") }, exchange.UpstreamInvalid, "", false},
		{"two lengths", func(w *wire, id uint32) {
			w.headers(id, false, ":status", "200", "content-length", "1", "content-length", "2")
		}, exchange.UpstreamInvalid, "", false},
		{"body before the head", func(w *wire, id uint32) { w.WriteData(id, true, []byte("x")) }, exchange.UpstreamInvalid, "body_before_the_head", false},
		{"longer than it says", func(w *wire, id uint32) {
			w.headers(id, false, ":status", "200", "content-length", "3")
			w.WriteData(id, true, []byte("longer"))
		}, exchange.UpstreamInvalid, "body_too_long", true},
		{"shorter than it says", func(w *wire, id uint32) {
			w.headers(id, false, ":status", "200", "content-length", "9")
			w.WriteData(id, true, []byte("short"))
		}, exchange.UpstreamAborted, "body_too_short", true},
		{"pseudo-header field in trailers", func(w *wire, id uint32) {
			ok(w, id)
			w.headers(id, true, ":status", "200")
		}, exchange.UpstreamInvalid, "", true},
		{"a second head", func(w *wire, id uint32) {
			ok(w, id)
			w.headers(id, false, "x", "y")
		}, exchange.UpstreamInvalid, "head_after_the_head", true},
		{"head beyond the limit", func(w *wire, id uint32) {
			fields := []string{":status", "200"}
			for i := range 30 {
				fields = append(fields, fmt.Sprint("x-", i), strings.Repeat("v", 1500))
			}
			w.buf.Reset()
			for i := 0; i < len(fields); i += 2 {
				w.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
			}
			b := w.buf.Bytes()
			w.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b[:16000], EndStream: true})
			w.WriteContinuation(id, true, b[16000:])
		}, exchange.UpstreamInvalid, "", false},
		{"HPACK bomb", func(w *wire, id uint32) {
			// One entry of 4000 bytes, then 12,000 references to it of one byte each.
			w.buf.Reset()
			w.enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
			w.enc.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("v", 4000)})
			block := append(bytes.Clone(w.buf.Bytes()), bytes.Repeat([]byte{0x80 | 62}, 12000)...)
			w.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: true, EndHeaders: true})
		}, exchange.UpstreamInvalid, "", false},
		{"bad HPACK", func(w *wire, id uint32) {
			w.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true})
		}, exchange.UpstreamInvalid, "compression_error", false},
		{"CONTINUATION flood", func(w *wire, id uint32) {
			w.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0x88}})
			for w.WriteContinuation(id, false, nil) == nil {
			}
		}, exchange.UpstreamInvalid, "frame_flood", false},
		{"SETTINGS flood", func(w *wire, id uint32) {
			for w.WriteSettings() == nil {
			}
		}, exchange.UpstreamInvalid, "frame_flood", false},
		{"PING flood", func(w *wire, id uint32) {
			for w.WritePing(false, [8]byte{}) == nil {
			}
		}, exchange.UpstreamInvalid, "frame_flood", false},
		{"empty DATA flood", func(w *wire, id uint32) {
			ok(w, id)
			for w.WriteData(id, false, nil) == nil {
			}
		}, exchange.UpstreamInvalid, "frame_flood", true},
		{"1xx storm", func(w *wire, id uint32) {
			for w.headers(id, false, ":status", "103", "link", strings.Repeat("l", 5000)) == nil {
			}
		}, exchange.UpstreamInvalid, "too_many_interim_responses", false},
		{"1xx that ends the stream", func(w *wire, id uint32) { w.headers(id, true, ":status", "103") }, exchange.UpstreamInvalid, "", false},
		{"more than the window", func(w *wire, id uint32) {
			ok(w, id)
			for w.WriteData(id, false, make([]byte, 16<<10)) == nil {
			}
		}, exchange.UpstreamInvalid, "flow_control_error", true},
		{"frame too large", func(w *wire, id uint32) {
			w.WriteRawFrame(http2.FrameData, 0, id, make([]byte, 1<<15))
		}, exchange.UpstreamInvalid, "frame_size_error", false},
		{"pushes", func(w *wire, id uint32) {
			w.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, BlockFragment: []byte{0x82}, EndHeaders: true})
		}, exchange.UpstreamInvalid, "protocol_error", false},
		{"a stream that nobody opened", func(w *wire, id uint32) { w.headers(id+2, true, ":status", "200") }, exchange.UpstreamInvalid, "protocol_error", false},
		{"window overflow", func(w *wire, id uint32) { w.WriteWindowUpdate(0, 1<<31-1) }, exchange.UpstreamInvalid, "flow_control_error", false},
		{"window overflow of the stream", func(w *wire, id uint32) { w.WriteWindowUpdate(id, 1<<31-1) }, exchange.UpstreamInvalid, "flow_control_error", false},
		{"says nothing", func(w *wire, id uint32) { time.Sleep(2 * time.Second) }, exchange.UpstreamTimeout, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := wirePod(t, nil, func(w *wire) {
				if id, err := w.request(); err == nil {
					go io.Copy(io.Discard, w.conn)
					c.script(w, id)
					time.Sleep(200 * time.Millisecond)
				}
			})
			good := h2Pod(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "fine") }))
			settings := &feedpb.Settings{ResponseTimeoutMs: 700, AccessLogSample: 1}
			p := proxytest.Start(t, []proxytest.Service{
				{Name: "default/bad:80", Host: "bad", Path: "/", Backends: []string{bad}, Upstream: h2c},
				{Name: "default/good:80", Path: "/", Backends: []string{good}, Upstream: h2c},
			}, settings)
			before := heap()
			q, _ := http.NewRequest("GET", "http://"+p.Address+"/x", nil)
			q.Host = "bad"
			r, err := client(t).Do(q)
			switch {
			case c.late && err == nil:
				if _, err := io.ReadAll(r.Body); err == nil {
					t.Error("the client took half a response for a whole one")
				}
			case c.late:
			case err != nil:
				t.Fatal(err)
			default:
				if b, _ := io.ReadAll(r.Body); r.StatusCode != c.reason.Status() || !strings.HasPrefix(string(b), c.reason.String()) {
					t.Errorf("%d %q, want %s", r.StatusCode, b, c.reason)
				}
			}
			eventually(t, "counted as "+c.reason.String(), func() bool { return p.Metrics.Ended[c.reason].Load() == 1 })
			if failures(p) != 1 {
				t.Error("the pod's failure is not counted")
			}
			if n := inFlight(p); n != 0 {
				t.Errorf("%d requests are counted as in flight", n)
			}
			if status, body, err := outcome(t, p, "GET"); status != 200 || body != "fine" || err != nil {
				t.Errorf("another pod: %d %q %v", status, body, err)
			}
			eventually(t, "logged", func() bool { return strings.Contains(p.Log.String(), c.reason.String()) })
			if c.detail != "" && !strings.Contains(p.Log.String(), `"detail":"`+c.detail+`"`) {
				t.Errorf("detail is not %s: %s", c.detail, p.Log)
			}
			if grown := int64(heap()) - int64(before); grown > 8<<20 {
				t.Errorf("%d bytes of memory more than before", grown)
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
