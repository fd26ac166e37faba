package http1

import (
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/message/messagetest"
)

func TestResponseRefused(t *testing.T) {
	for _, c := range []struct {
		name, input string
		want        *message.Error
	}{
		{"empty line", "\r\nHTTP/1.1 200 OK\r\n\r\n", message.ErrBadStatusLine},
		{"another protocol", "SSH-2.0-OpenSSH_9.2\r\n\r\n", message.ErrBadStatusLine},
		{"too short", "HTTP/1.1\r\n\r\n", message.ErrBadStatusLine},
		{"version 2.0", "HTTP/2.0 200 OK\r\n\r\n", message.ErrVersion},
		{"version 1.2", "HTTP/1.2 200 OK\r\n\r\n", message.ErrVersion},
		{"version in lower case", "http/1.1 200 OK\r\n\r\n", message.ErrBadStatusLine},
		{"two spaces", "HTTP/1.1  200 OK\r\n\r\n", message.ErrBadStatusLine},
		{"two digits", "HTTP/1.1 20 OK\r\n\r\n", message.ErrBadStatusLine},
		{"four digits", "HTTP/1.1 2000 OK\r\n\r\n", message.ErrBadStatusLine},
		{"sign", "HTTP/1.1 +20 OK\r\n\r\n", message.ErrBadStatusLine},
		{"below 100", "HTTP/1.1 099 OK\r\n\r\n", message.ErrBadStatusLine},
		{"NUL in reason", "HTTP/1.1 200 O\x00K\r\n\r\n", message.ErrBadStatusLine},
		{"bare LF", "HTTP/1.1 200 OK\nA: b\r\n\r\n", message.ErrBareLF},
		{"bare LF without reason", "HTTP/1.1 200\nA: b\r\n\r\n", message.ErrBareLF},
		{"bare CR", "HTTP/1.1 200 OK\rA: b\r\n\r\n", message.ErrBareCR},
		{"bare LF in fields", "HTTP/1.1 200 OK\r\nA: b\n\r\n", message.ErrBareLF},
		{"obs-fold", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", message.ErrObsFold},
		{"space before colon", "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n", message.ErrBadFieldName},
		{"no colon", "HTTP/1.1 200 OK\r\nabc\r\n\r\n", message.ErrBadFieldName},
		{"bad length", "HTTP/1.1 200 OK\r\nContent-Length: 5a\r\n\r\n", message.ErrBadContentLength},
		{"equal lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", message.ErrSeveralContentLengths},
		{"length and encoding", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", message.ErrLengthAndEncoding},
		{"length and encoding on 304", "HTTP/1.1 304 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", message.ErrLengthAndEncoding},
		{"gzip", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", message.ErrTransferCoding},
		{"chunked twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", message.ErrBadTransferEncoding},
		{"encoding on 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", message.ErrTransferEncodingOn10},
		{"status line too long", "HTTP/1.1 200 " + strings.Repeat("a", 512) + "\r\n\r\n", message.ErrHeadLimit},
		{"head too large", "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", 1024) + "\r\n\r\n", message.ErrHeadLimit},
	} {
		t.Run(c.name, func(t *testing.T) {
			lim := message.Limits{RequestLine: 256, Head: 1024}
			var r Response
			if n, err := r.Parse([]byte(c.input), lim, message.MethodGet); messagetest.Fault(t, err) != c.want || n != 0 {
				t.Fatalf("whole: n=%d, error %v, want %v", n, err, c.want)
			}
			for i := range len(c.input) + 1 {
				n, err := r.Parse([]byte(c.input[:i]), lim, message.MethodGet)
				if got := messagetest.Fault(t, err); got == c.want {
					return
				} else if got != nil || n != 0 {
					t.Fatalf("byte by byte: n=%d, error %v, want %v", n, got, c.want)
				}
			}
			t.Fatal("byte by byte: not refused")
		})
	}
}

func TestResponseAccepted(t *testing.T) {
	for _, c := range []struct {
		name, head string
		method     message.Method
		status     int
		reason     string
		body       message.Body
		length     int64
		keep       bool
	}{
		{"nginx", responseHead, message.MethodGet, 200, "OK", message.BodyLength, 128, true},
		{"length 0", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", message.MethodGet, 200, "OK", message.BodyLength, 0, true},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", message.MethodGet, 200, "OK", message.BodyChunked, -1, true},
		{"until close", "HTTP/1.1 200 OK\r\n\r\n", message.MethodGet, 200, "OK", message.BodyUntilClose, -1, false},
		{"until close, keep-alive", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", message.MethodGet, 200, "OK", message.BodyUntilClose, -1, false},
		{"1.0 keep-alive", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n", message.MethodGet, 200, "OK", message.BodyLength, 1, true},
		{"1.0", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", message.MethodGet, 200, "OK", message.BodyLength, 1, false},
		{"close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n", message.MethodGet, 200, "OK", message.BodyLength, 1, false},
		{"HEAD with length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", message.MethodHead, 200, "OK", message.BodyNone, 5, true},
		{"HEAD chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", message.MethodHead, 200, "OK", message.BodyNone, -1, true},
		{"HEAD", "HTTP/1.1 200 OK\r\n\r\n", message.MethodHead, 200, "OK", message.BodyNone, -1, true},
		{"304 with length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", message.MethodGet, 304, "Not Modified", message.BodyNone, 5, true},
		{"204", "HTTP/1.1 204 No Content\r\n\r\n", message.MethodGet, 204, "No Content", message.BodyNone, -1, true},
		{"204 with length 0", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", message.MethodGet, 204, "No Content", message.BodyNone, -1, true},
		{"204 with length", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", message.MethodGet, 204, "No Content", message.BodyNone, -1, false},
		{"204 chunked", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", message.MethodGet, 204, "No Content", message.BodyNone, -1, false},
		{"100", "HTTP/1.1 100 Continue\r\n\r\n", message.MethodPost, 100, "Continue", message.BodyNone, -1, true},
		{"103", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", message.MethodGet, 103, "Early Hints", message.BodyNone, -1, true},
		{"101", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", message.MethodGet, 101, "Switching Protocols", message.BodyNone, -1, true},
		{"no reason", "HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\n", message.MethodGet, 200, "", message.BodyLength, 1, true},
		{"no reason, no space", "HTTP/1.1 200\r\nContent-Length: 1\r\n\r\n", message.MethodGet, 200, "", message.BodyLength, 1, true},
		{"shortest", "HTTP/1.1 200\r\n\r\n", message.MethodHead, 200, "", message.BodyNone, -1, true},
		{"reason with tab and obs-text", "HTTP/1.1 200 a\tb\xff\r\nContent-Length: 1\r\n\r\n", message.MethodGet, 200, "a\tb\xff", message.BodyLength, 1, true},
		{"status 999", "HTTP/1.1 999 x\r\nContent-Length: 1\r\n\r\n", message.MethodGet, 999, "x", message.BodyLength, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r Response
			n, err := r.Parse([]byte(c.head+"\x00"), message.Limits{}, c.method)
			if err != nil || n != len(c.head) {
				t.Fatalf("n=%d of %d, error %v", n, len(c.head), err)
			}
			if r.Status != c.status || string(r.Reason) != c.reason || r.Body != c.body || r.ContentLength != c.length || r.KeepAlive != c.keep {
				t.Errorf("found\n%s", messagetest.ShowResponse(&r.Response))
			}
			if want := c.status < 200 && c.status != 101; r.Interim() != want {
				t.Errorf("Interim is %t", r.Interim())
			}
			want := messagetest.ShowResponse(&r.Response)
			for i := range c.head {
				first := []byte(c.head[:i])
				if n, err := r.Parse(first, message.Limits{}, c.method); n != 0 || err != nil {
					t.Fatalf("first %d bytes: n=%d, error %v", i, n, err)
				}
				clear(first)
				if n, err := r.Parse([]byte(c.head), message.Limits{}, c.method); n != len(c.head) || err != nil {
					t.Fatalf("split at %d: n=%d, error %v", i, n, err)
				}
				if got := messagetest.ShowResponse(&r.Response); got != want {
					t.Fatalf("split at %d: got\n%s\nwant\n%s", i, got, want)
				}
			}
		})
	}
}

func TestResponseAllocates(t *testing.T) {
	head := []byte(responseHead)
	var r Response
	var dst []byte
	if n := testing.AllocsPerRun(100, func() {
		for size := 5; size <= len(head); size += (len(head) - 5) / 2 {
			if _, err := r.Parse(head[:size], message.DefaultLimits, message.MethodGet); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Parse(head, message.DefaultLimits, message.MethodGet); err != nil {
			t.Fatal(err)
		}
		dst = AppendStatusLine(dst[:0], r.Status)
		dst = AppendEndToEnd(dst, r.Fields, 0)
		dst = AppendFieldUint(dst, "Content-Length", uint64(r.ContentLength))
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
