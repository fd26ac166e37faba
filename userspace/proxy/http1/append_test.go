package http1

import (
	"testing"
	"time"
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
		{"zero", string(AppendUint(nil, 0)), "0"},
		{"largest", string(AppendUint(nil, 1<<64-1)), "18446744073709551615"},
		{"chunk of 1", string(AppendChunkHeader(nil, 1)), "1\r\n"},
		{"chunk of 15", string(AppendChunkHeader(nil, 15)), "f\r\n"},
		{"chunk of 16", string(AppendChunkHeader(nil, 16)), "10\r\n"},
		{"largest chunk", string(AppendChunkHeader(nil, 1<<63-1)), "7fffffffffffffff\r\n"},
		{"last chunk", string(AppendLastChunk(nil, nil)), LastChunk},
		{"trailers", string(AppendLastChunk(nil, []Field{{Name: []byte("A"), Value: []byte("b")}})), "0\r\nA: b\r\n\r\n"},
		{"date", string(AppendDate(nil, time.Unix(784111777, 0))), "Sun, 06 Nov 1994 08:49:37 GMT"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, c.got, c.want)
		}
	}
	if n := len(AppendChunkHeader(nil, 1<<63-1)); n > MaxChunkHeader {
		t.Errorf("chunk header of %d bytes, MaxChunkHeader is %d", n, MaxChunkHeader)
	}
	if n := len(AppendDate(nil, time.Now())); n != DateSize {
		t.Errorf("date of %d bytes, DateSize is %d", n, DateSize)
	}
}
