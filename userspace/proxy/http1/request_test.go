package http1

import (
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/message/messagetest"
	"github.com/kerngate/kerngate/userspace/route"
)

// accepted are heads that must be taken, and what must be found in them.
var accepted = []struct {
	name, head string
	check      func(r *Request) bool
}{
	{"curl", curlHead, func(r *Request) bool {
		return r.MethodID == message.MethodGet && string(r.Path) == "/intro" && r.Query == nil && !r.PathNeedsNormalise &&
			string(r.Host) == "host.example.com" && r.Minor == 1 && r.KeepAlive && r.ContentLength == -1 && !r.HasBody() &&
			len(r.Fields) == 4 && r.Fields[1].ID == message.FieldUserAgent && r.Fields[2].ID == message.FieldOther
	}},
	{"browser", browserHead, func(r *Request) bool {
		return string(r.Query) == "utm_source=feed&page=2" && r.KeepAlive && len(r.Fields) == 10
	}},
	{"leading empty line", "\r\nGET / HTTP/1.1\r\n" + host + "\r\n", func(r *Request) bool { return string(r.Path) == "/" }},
	{"1.0", "GET / HTTP/1.0\r\n\r\n", func(r *Request) bool {
		return r.Minor == 0 && !r.KeepAlive && len(r.Host) == 0 && len(r.Fields) == 0
	}},
	{"1.0 with keep-alive", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", func(r *Request) bool { return r.KeepAlive }},
	{"1.0 with keep-alive and close", "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", func(r *Request) bool { return !r.KeepAlive }},
	{"close", "GET / HTTP/1.1\r\n" + host + "Connection: Close\r\n\r\n", func(r *Request) bool { return !r.KeepAlive }},
	{"close in a second field", "GET / HTTP/1.1\r\n" + host + "Connection: keep-alive\r\nconnection: x, close\r\n\r\n",
		func(r *Request) bool { return !r.KeepAlive }},
	{"length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\n", func(r *Request) bool {
		return r.MethodID == message.MethodPost && r.ContentLength == 5 && r.HasBody()
	}},
	{"length 0", "POST / HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n", func(r *Request) bool {
		return r.ContentLength == 0 && !r.HasBody()
	}},
	{"largest length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 9223372036854775807\r\n\r\n",
		func(r *Request) bool { return r.ContentLength == 1<<63-1 }},
	{"chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding:\t Chunked  \r\n\r\n", func(r *Request) bool {
		return r.Chunked && r.ContentLength == -1 && r.HasBody()
	}},
	{"expect", "POST / HTTP/1.1\r\n" + host + "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n",
		func(r *Request) bool { return r.Expect100 }},
	{"expect on 1.0", "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
		func(r *Request) bool { return !r.Expect100 }},
	{"websocket", "GET /ws HTTP/1.1\r\n" + host + "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
		func(r *Request) bool { return string(r.Upgrade) == "websocket" && r.KeepAlive }},
	{"upgrade not in Connection", "GET /ws HTTP/1.1\r\n" + host + "Upgrade: websocket\r\n\r\n",
		func(r *Request) bool { return r.Upgrade == nil && r.Fields[1].HopByHop }},
	{"upgrade on 1.0", "GET /ws HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
		func(r *Request) bool { return r.Upgrade == nil }},
	{"trailers wanted", "GET / HTTP/1.1\r\n" + host + "TE: deflate;q=0.5, trailers\r\n\r\n", func(r *Request) bool { return r.TETrailers }},
	{"absolute form", "GET http://Other.Example.com:8080/a?b HTTP/1.1\r\n" + host + "\r\n", func(r *Request) bool {
		return r.Absolute && !r.Secure && string(r.Authority) == "Other.Example.com:8080" && string(r.Host) == "other.example.com" &&
			r.Port == 8080 && string(r.Path) == "/a" && string(r.Query) == "b" && !r.PathNeedsNormalise
	}},
	{"absolute form, Host in upper case", "GET HTTPS://a.b/ HTTP/1.1\r\nHost: WWW.X.Y:443\r\n\r\n", func(r *Request) bool {
		return r.Secure && string(r.Host) == "a.b" && r.Port == 0
	}},
	{"absolute form without path", "GET http://a.b?c HTTP/1.1\r\n" + host + "\r\n", func(r *Request) bool {
		return string(r.Path) == "/" && string(r.Query) == "c"
	}},
	{"absolute form of asterisk", "OPTIONS http://a.b HTTP/1.1\r\n" + host + "\r\n", func(r *Request) bool { return string(r.Path) == "*" }},
	{"asterisk", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", func(r *Request) bool { return string(r.Path) == "*" && !r.Absolute }},
	{"double slash is a path", "GET //a/b HTTP/1.1\r\n" + host + "\r\n", func(r *Request) bool {
		return string(r.Path) == "//a/b" && r.PathNeedsNormalise && string(r.Host) == "example.com"
	}},
	{"escape", "GET /%61 HTTP/1.1\r\n" + host + "\r\n", func(r *Request) bool { return r.PathNeedsNormalise }},
	{"dots", "GET /a/../b HTTP/1.1\r\n" + host + "\r\n", func(r *Request) bool { return r.PathNeedsNormalise }},
	{"escape and dots in the query", "GET /a?b=%61/../c//? HTTP/1.1\r\n" + host + "\r\n", func(r *Request) bool {
		return !r.PathNeedsNormalise && string(r.Query) == "b=%61/../c//?"
	}},
	{"empty query", "GET /a? HTTP/1.1\r\n" + host + "\r\n", func(r *Request) bool { return r.Query != nil && len(r.Query) == 0 }},
	{"query as browsers send it", "GET /a?q={\"a|b\"}^[] HTTP/1.1\r\n" + host + "\r\n", func(r *Request) bool { return len(r.Query) == 12 }},
	{"own method", "PURGE / HTTP/1.1\r\n" + host + "\r\n", func(r *Request) bool {
		return r.MethodID == message.MethodOther && string(r.Method) == "PURGE"
	}},
	{"method in lower case is another", "get / HTTP/1.1\r\n" + host + "\r\n", func(r *Request) bool { return r.MethodID == message.MethodOther }},
	{"longest method", strings.Repeat("M", message.MaxMethod) + " / HTTP/1.1\r\n" + host + "\r\n", func(r *Request) bool { return len(r.Method) == message.MaxMethod }},
	{"values", "GET / HTTP/1.1\r\n" + host + "Empty:\r\nSpaces: \t \r\nInner: a \t b \r\nObs: \xff\x80\r\nColon::\r\n\r\n",
		func(r *Request) bool {
			return len(r.Fields) == 6 && len(r.Fields[1].Value) == 0 && len(r.Fields[2].Value) == 0 &&
				string(r.Fields[3].Value) == "a \t b" && string(r.Fields[4].Value) == "\xff\x80" && string(r.Fields[5].Value) == ":"
		}},
	{"named in Connection", "GET / HTTP/1.1\r\n" + host + "Connection: X-Private, authorization, x-forwarded-for,,te\r\nX-private: 1\r\n" +
		"Authorization: a\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n", func(r *Request) bool {
		return r.Fields[2].HopByHop && !r.Fields[3].HopByHop && !r.Fields[4].HopByHop
	}},
	{"lookalike", "GET / HTTP/1.1\r\n" + host + "X_Forwarded_For: 1.2.3.4\r\nMy_Field: 1\r\n\r\n", func(r *Request) bool {
		return r.Fields[1].HopByHop && r.Fields[1].ID == message.FieldOther && !r.Fields[2].HopByHop
	}},
}

func TestRequestAccepted(t *testing.T) {
	for _, c := range accepted {
		t.Run(c.name, func(t *testing.T) {
			// What follows the head is not looked at.
			buf := []byte(c.head + "\x00next")
			var r Request
			n, err := r.Parse(buf, message.Limits{})
			if err != nil || n != len(c.head) {
				t.Fatalf("n=%d of %d, error %v", n, len(c.head), err)
			}
			if !c.check(&r) {
				t.Errorf("found\n%s", messagetest.Show(&r.Request))
			}
			if got := r.PathNeedsNormalise; got != route.NeedsNormalise(r.Path) {
				t.Errorf("PathNeedsNormalise is %t", got)
			}
			checkSplits(t, c.head, messagetest.Show(&r.Request))
		})
	}
}

// checkSplits gives head to a Request in two pieces, split at every place, and
// byte by byte, each time in a new buffer, and the old one overwritten.
func checkSplits(t *testing.T, head, want string) {
	t.Helper()
	var r Request
	parse := func(size int, last []byte) []byte {
		for i := range last {
			last[i] = '!'
		}
		buf := []byte(head[:size])
		n, err := r.Parse(buf, message.Limits{})
		if err != nil || n != 0 && size < len(head) || n != len(head) && size == len(head) {
			t.Fatalf("with %d of %d bytes: n=%d, error %v", size, len(head), n, err)
		}
		return buf
	}
	for i := range head {
		parse(len(head), parse(i, nil))
		if got := messagetest.Show(&r.Request); got != want {
			t.Fatalf("split at %d: got\n%s\nwant\n%s", i, got, want)
		}
	}
	var last []byte
	for i := range len(head) + 1 {
		last = parse(i, last)
	}
	if got := messagetest.Show(&r.Request); got != want {
		t.Fatalf("byte by byte: got\n%s\nwant\n%s", got, want)
	}
}

func TestRequestHost(t *testing.T) {
	for _, c := range []struct {
		host, want string
		port       uint16
		ok         bool
	}{
		{"example.com", "example.com", 0, true},
		{"EXAMPLE.com:80", "example.com", 80, true},
		{"example.com.", "example.com", 0, true},
		{"example.com.:8", "example.com", 8, true},
		{"example.com:", "example.com", 0, true},
		{"example.com:65535", "example.com", 65535, true},
		{"a_b.example.com", "a_b.example.com", 0, true},
		{"127.0.0.1:80", "127.0.0.1", 80, true},
		{"[::1]", "[::1]", 0, true},
		{"[FE80::1]:443", "[fe80::1]", 443, true},
		{"[1:2:3:4:5:6:7:8]", "[1:2:3:4:5:6:7:8]", 0, true},
		{"[::ffff:1.2.3.4]", "[::ffff:1.2.3.4]", 0, true},
		{"[1:2:3:4:5:6:1.2.3.4]", "[1:2:3:4:5:6:1.2.3.4]", 0, true},
		{"[::]", "[::]", 0, true},
		{"[1::]", "[1::]", 0, true},
		{"", "", 0, true},
		{strings.Repeat("a", 255), strings.Repeat("a", 255), 0, true},
		{strings.Repeat("a", 256), "", 0, false},
		{"example.com:65536", "", 0, false},
		{"example.com:080000", "", 0, false},
		{"example.com:8a", "", 0, false},
		{"example.com:-1", "", 0, false},
		{"example.com:80:80", "", 0, false},
		{":80", "", 0, false},
		{".", "", 0, false},
		{"..", "", 0, false},
		{"example.com..", "", 0, false},
		{".example.com", "", 0, false},
		{"example..com", "", 0, false},
		{"a, b", "", 0, false},
		{"a,b", "", 0, false},
		{"a b", "", 0, false},
		{"a/b", "", 0, false},
		{"a\\b", "", 0, false},
		{"a?b", "", 0, false},
		{"a#b", "", 0, false},
		{"u@a", "", 0, false},
		{"%61", "", 0, false},
		{"http://a", "", 0, false},
		{"\xc3\xa4.de", "", 0, false},
		{"[::1", "", 0, false},
		{"[::1]a", "", 0, false},
		{"[]", "", 0, false},
		{"[:]", "", 0, false},
		{"[:1]", "", 0, false},
		{"[1:]", "", 0, false},
		{"[1]", "", 0, false},
		{"[:::]", "", 0, false},
		{"[1::2::3]", "", 0, false},
		{"[12345::]", "", 0, false},
		{"[1:2:3:4:5:6:7:8:9]", "", 0, false},
		{"[1:2:3:4:5:6:7::8]", "[1:2:3:4:5:6:7::8]", 0, false},
		{"[::1.2.3]", "", 0, false},
		{"[::1.2.3.256]", "", 0, false},
		{"[::1.2.3.04]", "", 0, false},
		{"[::1.2.3.4.5]", "", 0, false},
		{"[1.2.3.4]", "", 0, false},
		{"[fe80::1%eth0]", "", 0, false},
		{"[v1.a]", "", 0, false},
	} {
		var r Request
		_, err := r.Parse([]byte("GET / HTTP/1.1\r\nHost: "+c.host+"\r\n\r\n"), message.Limits{})
		if !c.ok {
			if messagetest.Fault(t, err) != message.ErrBadHost {
				t.Errorf("Host %q: error %v, want %v", c.host, err, message.ErrBadHost)
			}
			continue
		}
		if err != nil || string(r.Host) != c.want || r.Port != c.port || string(r.Authority) != c.host {
			t.Errorf("Host %q: error %v, host %q, port %d", c.host, err, r.Host, r.Port)
		}
	}
}

func TestRequestLimits(t *testing.T) {
	head := "GET / HTTP/1.1\r\n" + host + "A: b\r\n\r\n"
	line := len("GET / HTTP/1.1\r\n")
	for _, c := range []struct {
		lim  message.Limits
		want *message.Error
	}{
		{message.Limits{RequestLine: line}, nil},
		{message.Limits{RequestLine: line - 1}, message.ErrRequestLineLimit},
		{message.Limits{Head: len(head)}, nil},
		{message.Limits{Head: len(head) - 1}, message.ErrHeadLimit},
		{message.Limits{Head: len(head) - 2}, message.ErrHeadLimit},
		{message.Limits{Head: len(head) - 3}, message.ErrHeadLimit},
		{message.Limits{Fields: 2}, nil},
		{message.Limits{Fields: 1}, message.ErrFieldLimit},
	} {
		for _, step := range []int{1, 7, len(head)} {
			var r Request
			var n int
			var err error
			for size := min(step, len(head)); ; size = min(size+step, len(head)) {
				if n, err = r.Parse([]byte(head[:size]), c.lim); n != 0 || err != nil || size == len(head) {
					break
				}
			}
			if got := messagetest.Fault(t, err); got != c.want || c.want == nil && n != len(head) {
				t.Errorf("%+v in steps of %d: n=%d, error %v, want %v", c.lim, step, n, got, c.want)
			}
		}
	}
}

// TestRequestReset proves that nothing of one head is left in the next, also
// after an error and after an unfinished head.
func TestRequestReset(t *testing.T) {
	var fresh Request
	if _, err := fresh.Parse([]byte("GET / HTTP/1.0\r\n\r\n"), message.Limits{}); err != nil {
		t.Fatal(err)
	}
	want := messagetest.Show(&fresh.Request)
	var r Request
	for _, c := range accepted {
		for _, input := range []string{c.head, c.head[:len(c.head)-2] + " \r\n\r\n", c.head[:len(c.head)-1]} {
			if n, err := r.Parse([]byte(input), message.Limits{}); n == 0 && err == nil {
				r.Reset()
			}
			if _, err := r.Parse([]byte("GET / HTTP/1.0\r\n\r\n"), message.Limits{}); err != nil {
				t.Fatalf("after %q: %v", input, err)
			}
			if got := messagetest.Show(&r.Request); got != want {
				t.Fatalf("after %q: got\n%s\nwant\n%s", input, got, want)
			}
		}
	}
}

func TestRequestAllocates(t *testing.T) {
	curl, browser := []byte(curlHead), []byte(browserHead)
	upper := []byte("GET http://EXAMPLE.com/%61 HTTP/1.1\r\nHost: X\r\nConnection: a, b\r\nA_b: c\r\n\r\n")
	bad := []byte("GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
	var r Request
	var dst []byte
	if n := testing.AllocsPerRun(100, func() {
		for _, head := range [][]byte{curl, browser, upper} {
			for size := len(head) - 20; size <= len(head); size += 10 {
				if _, err := r.Parse(head[:size], message.DefaultLimits); err != nil {
					t.Fatal(err)
				}
			}
			dst = AppendRequestLine(dst[:0], r.Method, r.Path, r.Query)
			dst = AppendEndToEnd(dst, r.Fields, message.Fields(message.FieldHost))
		}
		if _, err := r.Parse(bad, message.DefaultLimits); err == nil {
			t.Fatal("not refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
