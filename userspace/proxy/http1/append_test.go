package http1

import (
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/message"
)

func TestAppend(t *testing.T) {
	for _, c := range []struct{ name, got, want string }{
		{"line", string(AppendRequestLine(nil, []byte("GET"), []byte("/a"), nil)), "GET /a HTTP/1.1\r\n"},
		{"line with empty query", string(AppendRequestLine(nil, []byte("GET"), []byte("/a"), []byte{})), "GET /a? HTTP/1.1\r\n"},
		{"line with query", string(AppendRequestLine(nil, []byte("GET"), []byte("/a"), []byte("b=c"))), "GET /a?b=c HTTP/1.1\r\n"},
		{"status", string(AppendStatusLine(nil, 404)), "HTTP/1.1 404 Not Found\r\n"},
		{"status without phrase", string(AppendStatusLine(nil, 299)), "HTTP/1.1 299 \r\n"},
		{"status beyond 599", string(AppendStatusLine(nil, 999)), "HTTP/1.1 999 \r\n"},
		{"field", string(AppendField(nil, "Via", []byte("x"))), "Via: x\r\n"},
		{"field from string", string(AppendFieldString(nil, "Via", "x")), "Via: x\r\n"},
		{"field from number", string(AppendFieldUint(nil, "Content-Length", 1234567890)), "Content-Length: 1234567890\r\n"},
		{"chunk of 1", string(AppendChunkHeader(nil, 1)), "1\r\n"},
		{"chunk of 15", string(AppendChunkHeader(nil, 15)), "f\r\n"},
		{"chunk of 16", string(AppendChunkHeader(nil, 16)), "10\r\n"},
		{"largest chunk", string(AppendChunkHeader(nil, 1<<63-1)), "7fffffffffffffff\r\n"},
		{"last chunk", string(AppendLastChunk(nil, nil)), LastChunk},
		{"trailers", string(AppendLastChunk(nil, []message.Field{{Name: []byte("A"), Value: []byte("b")}})), "0\r\nA: b\r\n\r\n"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, c.got, c.want)
		}
	}
	if n := len(AppendChunkHeader(nil, 1<<63-1)); n > MaxChunkHeader {
		t.Errorf("chunk header of %d bytes, MaxChunkHeader is %d", n, MaxChunkHeader)
	}
	if n := len(message.AppendDate(nil, time.Now())); n != message.DateSize {
		t.Errorf("date of %d bytes, DateSize is %d", n, message.DateSize)
	}
}

func TestAppendEndToEnd(t *testing.T) {
	var r Request
	if _, err := r.Parse([]byte("POST / HTTP/1.1\r\n"+host+"Connection: close, X-A\r\nX-A: 1\r\nx-b:2 \r\nKeep-Alive: 1\r\nProxy-Connection: x\r\n"+
		"TE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nContent-Length: 3\r\nX_Real_IP: 6\r\nX-Real-IP: 7\r\nEmpty:\r\n\r\n"), message.Limits{}); err != nil {
		t.Fatal(err)
	}
	got := string(AppendEndToEnd([]byte("> "), r.Fields, message.Fields(message.FieldXRealIP)))
	if want := "> Host: example.com\r\nx-b: 2\r\nEmpty: \r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
