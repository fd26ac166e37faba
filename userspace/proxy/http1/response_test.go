package http1

import (
	"fmt"
	"strings"
	"testing"
)

func showResponse(r *Response) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %q 1.%d body=%d length=%d chunked=%t keep=%t upgrade=%q\n",
		r.Status, r.Reason, r.Minor, r.Body, r.ContentLength, r.Chunked, r.KeepAlive, r.Upgrade)
	showFields(&b, r.Fields)
	return b.String()
}

func TestResponseRefused(t *testing.T) {
	for _, c := range []struct {
		name, input string
		want        *Error
	}{
		{"empty line", "\r\nHTTP/1.1 200 OK\r\n\r\n", ErrBadStatusLine},
		{"another protocol", "SSH-2.0-OpenSSH_9.2\r\n\r\n", ErrBadStatusLine},
		{"too short", "HTTP/1.1\r\n\r\n", ErrBadStatusLine},
		{"version 2.0", "HTTP/2.0 200 OK\r\n\r\n", ErrVersion},
		{"version 1.2", "HTTP/1.2 200 OK\r\n\r\n", ErrVersion},
		{"version in lower case", "http/1.1 200 OK\r\n\r\n", ErrBadStatusLine},
		{"two spaces", "HTTP/1.1  200 OK\r\n\r\n", ErrBadStatusLine},
		{"two digits", "HTTP/1.1 20 OK\r\n\r\n", ErrBadStatusLine},
		{"four digits", "HTTP/1.1 2000 OK\r\n\r\n", ErrBadStatusLine},
		{"sign", "HTTP/1.1 +20 OK\r\n\r\n", ErrBadStatusLine},
		{"below 100", "HTTP/1.1 099 OK\r\n\r\n", ErrBadStatusLine},
		{"NUL in reason", "HTTP/1.1 200 O\x00K\r\n\r\n", ErrBadStatusLine},
		{"bare LF", "HTTP/1.1 200 OK\nA: b\r\n\r\n", ErrBareLF},
		{"bare LF without reason", "HTTP/1.1 200\nA: b\r\n\r\n", ErrBareLF},
		{"bare CR", "HTTP/1.1 200 OK\rA: b\r\n\r\n", ErrBareCR},
		{"bare LF in fields", "HTTP/1.1 200 OK\r\nA: b\n\r\n", ErrBareLF},
		{"obs-fold", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", ErrObsFold},
		{"space before colon", "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n", ErrBadFieldName},
		{"no colon", "HTTP/1.1 200 OK\r\nabc\r\n\r\n", ErrBadFieldName},
		{"bad length", "HTTP/1.1 200 OK\r\nContent-Length: 5a\r\n\r\n", ErrBadContentLength},
		{"equal lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", ErrSeveralContentLengths},
		{"length and encoding", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", ErrLengthAndEncoding},
		{"length and encoding on 304", "HTTP/1.1 304 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", ErrLengthAndEncoding},
		{"gzip", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", ErrTransferCoding},
		{"chunked twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", ErrBadTransferEncoding},
		{"encoding on 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ErrTransferEncodingOn10},
		{"status line too long", "HTTP/1.1 200 " + strings.Repeat("a", 512) + "\r\n\r\n", ErrHeadLimit},
		{"head too large", "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", 1024) + "\r\n\r\n", ErrHeadLimit},
	} {
		t.Run(c.name, func(t *testing.T) {
			lim := Limits{RequestLine: 256, Head: 1024}
			var r Response
			if n, err := r.Parse([]byte(c.input), lim, MethodGet); fault(t, err) != c.want || n != 0 {
				t.Fatalf("whole: n=%d, error %v, want %v", n, err, c.want)
			}
			for i := range len(c.input) + 1 {
				n, err := r.Parse([]byte(c.input[:i]), lim, MethodGet)
				if got := fault(t, err); got == c.want {
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
		method     Method
		status     int
		reason     string
		body       Body
		length     int64
		keep       bool
	}{
		{"nginx", responseHead, MethodGet, 200, "OK", BodyLength, 128, true},
		{"length 0", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", MethodGet, 200, "OK", BodyLength, 0, true},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", MethodGet, 200, "OK", BodyChunked, -1, true},
		{"until close", "HTTP/1.1 200 OK\r\n\r\n", MethodGet, 200, "OK", BodyUntilClose, -1, false},
		{"until close, keep-alive", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", MethodGet, 200, "OK", BodyUntilClose, -1, false},
		{"1.0 keep-alive", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n", MethodGet, 200, "OK", BodyLength, 1, true},
		{"1.0", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", MethodGet, 200, "OK", BodyLength, 1, false},
		{"close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n", MethodGet, 200, "OK", BodyLength, 1, false},
		{"HEAD with length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", MethodHead, 200, "OK", BodyNone, 5, true},
		{"HEAD chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", MethodHead, 200, "OK", BodyNone, -1, true},
		{"HEAD", "HTTP/1.1 200 OK\r\n\r\n", MethodHead, 200, "OK", BodyNone, -1, true},
		{"304 with length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", MethodGet, 304, "Not Modified", BodyNone, 5, true},
		{"204", "HTTP/1.1 204 No Content\r\n\r\n", MethodGet, 204, "No Content", BodyNone, -1, true},
		{"204 with length 0", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", MethodGet, 204, "No Content", BodyNone, -1, true},
		{"204 with length", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", MethodGet, 204, "No Content", BodyNone, -1, false},
		{"204 chunked", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", MethodGet, 204, "No Content", BodyNone, -1, false},
		{"100", "HTTP/1.1 100 Continue\r\n\r\n", MethodPost, 100, "Continue", BodyNone, -1, true},
		{"103", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", MethodGet, 103, "Early Hints", BodyNone, -1, true},
		{"101", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", MethodGet, 101, "Switching Protocols", BodyNone, -1, true},
		{"no reason", "HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\n", MethodGet, 200, "", BodyLength, 1, true},
		{"no reason, no space", "HTTP/1.1 200\r\nContent-Length: 1\r\n\r\n", MethodGet, 200, "", BodyLength, 1, true},
		{"shortest", "HTTP/1.1 200\r\n\r\n", MethodHead, 200, "", BodyNone, -1, true},
		{"reason with tab and obs-text", "HTTP/1.1 200 a\tb\xff\r\nContent-Length: 1\r\n\r\n", MethodGet, 200, "a\tb\xff", BodyLength, 1, true},
		{"status 999", "HTTP/1.1 999 x\r\nContent-Length: 1\r\n\r\n", MethodGet, 999, "x", BodyLength, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r Response
			n, err := r.Parse([]byte(c.head+"\x00"), Limits{}, c.method)
			if err != nil || n != len(c.head) {
				t.Fatalf("n=%d of %d, error %v", n, len(c.head), err)
			}
			if r.Status != c.status || string(r.Reason) != c.reason || r.Body != c.body || r.ContentLength != c.length || r.KeepAlive != c.keep {
				t.Errorf("found\n%s", showResponse(&r))
			}
			if want := c.status < 200 && c.status != 101; r.Interim() != want {
				t.Errorf("Interim is %t", r.Interim())
			}
			want := showResponse(&r)
			for i := range c.head {
				first := []byte(c.head[:i])
				if n, err := r.Parse(first, Limits{}, c.method); n != 0 || err != nil {
					t.Fatalf("first %d bytes: n=%d, error %v", i, n, err)
				}
				clear(first)
				if n, err := r.Parse([]byte(c.head), Limits{}, c.method); n != len(c.head) || err != nil {
					t.Fatalf("split at %d: n=%d, error %v", i, n, err)
				}
				if got := showResponse(&r); got != want {
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
			if _, err := r.Parse(head[:size], DefaultLimits, MethodGet); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Parse(head, DefaultLimits, MethodGet); err != nil {
			t.Fatal(err)
		}
		dst = AppendStatusLine(dst[:0], r.Status)
		dst = r.AppendEndToEnd(dst, 0)
		dst = AppendFieldUint(dst, "Content-Length", uint64(r.ContentLength))
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
