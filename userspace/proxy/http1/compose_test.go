package http1

import (
	"fmt"
	"strings"
	"testing"
)

// splitFields splits lines "name value", of which a pseudo-header field's begins with ':'.
func splitFields(lines string) (fields [][2]string) {
	for line := range strings.SplitSeq(lines, "\n") {
		if line == "" {
			continue
		}
		i := strings.IndexByte(line[1:], ' ') + 1
		if i == 0 {
			fields = append(fields, [2]string{line, ""})
			continue
		}
		fields = append(fields, [2]string{line[:i], line[i+1:]})
	}
	return fields
}

func composeRequest(r *Request, lines string, ended bool, lim Limits) error {
	r.Compose(lim)
	for _, f := range splitFields(lines) {
		if err := r.AddField(f[0], f[1]); err != nil {
			if again := r.Finish(ended); again != err {
				return fmt.Errorf("AddField says %w, Finish %v", err, again)
			}
			return err
		}
	}
	return r.Finish(ended)
}

const simple = ":method GET\n:scheme https\n:authority example.com\n:path /\n"

// TestComposeIsParse: a request in either form is the same request.
func TestComposeIsParse(t *testing.T) {
	for _, c := range []struct {
		name, lines, head string
		body              bool
	}{
		{"simple", simple, "GET / HTTP/1.1\r\nhost: example.com\r\n\r\n", false},
		{"path and query", ":method GET\n:scheme http\n:authority Example.com:8080\n:path /a/b?c=d?e\n",
			"GET /a/b?c=d?e HTTP/1.1\r\nhost: Example.com:8080\r\n\r\n", false},
		{"empty query", ":method GET\n:scheme http\n:authority a\n:path /?\n", "GET /? HTTP/1.1\r\nhost: a\r\n\r\n", false},
		{"path to normalise", ":method GET\n:scheme http\n:authority a\n:path /a/../%41?/%2e\n",
			"GET /a/../%41?/%2e HTTP/1.1\r\nhost: a\r\n\r\n", false},
		{"query with escapes", ":method GET\n:scheme http\n:authority a\n:path /a?/../%41\n", "GET /a?/../%41 HTTP/1.1\r\nhost: a\r\n\r\n", false},
		{"asterisk", ":method OPTIONS\n:scheme http\n:authority a\n:path *\n", "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", false},
		{"IPv6 literal", ":method GET\n:scheme http\n:authority [::A]:443\n:path /\n", "GET / HTTP/1.1\r\nhost: [::A]:443\r\n\r\n", false},
		{"trailing dot", ":method GET\n:scheme http\n:authority a.b.\n:path /\n", "GET / HTTP/1.1\r\nhost: a.b.\r\n\r\n", false},
		{"order of pseudo fields", ":path /\n:authority a\n:scheme http\n:method GET\n", "GET / HTTP/1.1\r\nhost: a\r\n\r\n", false},
		{"fields", simple + "user-agent x\nx-a \nx_forwarded_for 1\ncookie a=b\nx-forwarded-for 6.6.6.6\nx-utf ä\tb\nproxy-authorization x\n",
			"GET / HTTP/1.1\r\nhost: example.com\r\nuser-agent: x\r\nx-a:\r\nx_forwarded_for: 1\r\ncookie: a=b\r\nx-forwarded-for: 6.6.6.6\r\n" +
				"x-utf: ä\tb\r\nproxy-authorization: x\r\n\r\n", false},
		{"length", ":method POST\n:scheme http\n:authority a\n:path /\ncontent-length 5\n", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n", true},
		{"unknown length", ":method POST\n:scheme http\n:authority a\n:path /\n", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", true},
		{"GET with body", simple, "GET / HTTP/1.1\r\nhost: example.com\r\ntransfer-encoding: chunked\r\n\r\n", true},
		{"no body where one is usual", ":method PUT\n:scheme http\n:authority a\n:path /\n", "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", false},
		{"expect", ":method PUT\n:scheme http\n:authority a\n:path /\nexpect 100-continue\ncontent-length 1\n",
			"PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n", true},
		{"te", simple + "te trailers\n", "GET / HTTP/1.1\r\nhost: example.com\r\nte: trailers\r\n\r\n", false},
		{"other method", ":method M-SEARCH\n:scheme http\n:authority a\n:path /\n", "M-SEARCH / HTTP/1.1\r\nhost: a\r\n\r\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var composed, parsed Request
			if err := composeRequest(&composed, c.lines, !c.body, Limits{}); err != nil {
				t.Fatal(err)
			}
			if n, err := parsed.Parse([]byte(c.head), Limits{}); err != nil || n != len(c.head) {
				t.Fatalf("the head to compare with is at fault: %v", err)
			}
			// What HTTP/2 says without a field is left out of the comparison.
			parsed.Secure = composed.Secure
			kept := parsed.Fields[:0]
			for _, f := range parsed.Fields {
				if f.ID != FieldHost && f.ID != FieldTransferEncoding && (f.ID != FieldContentLength || c.body) {
					kept = append(kept, f)
				}
			}
			parsed.Fields = kept
			if a, b := show(&composed), show(&parsed); a != b {
				t.Fatalf("composed:\n%s\nparsed:\n%s", a, b)
			}
		})
	}
}

func TestComposeAccepted(t *testing.T) {
	for _, c := range []struct {
		name, lines string
		check       func(r *Request) bool
	}{
		{"Host alone", ":method GET\n:scheme http\n:path /\nhost A:80\n", func(r *Request) bool {
			return string(r.Authority) == "A:80" && string(r.Host) == "a" && r.Port == 80
		}},
		{"Host as well", simple + "host example.com\n", func(r *Request) bool { return string(r.Authority) == "example.com" }},
		{"Host in other case, with the default port", simple + "host EXAMPLE.com:443\n", func(r *Request) bool {
			return string(r.Authority) == "example.com" && string(r.Host) == "example.com" && r.Port == 0
		}},
		{"both in upper case", ":method GET\n:scheme http\n:authority AB:80\n:path /\nhost Ab\n", func(r *Request) bool {
			return string(r.Host) == "ab" && r.Port == 80
		}},
		{"crumbs", simple + "cookie a=b\nx-a 1\ncookie c=d\nx-b 2\ncookie e=f\n", func(r *Request) bool {
			return len(r.Fields) == 3 && string(r.Fields[0].Value) == "a=b; c=d; e=f" && string(r.Fields[1].Name) == "x-a" && string(r.Fields[2].Name) == "x-b"
		}},
		{"lookalike", simple + "x_real_ip 6.6.6.6\n", func(r *Request) bool { return r.Fields[0].HopByHop }},
		{"scheme", simple, func(r *Request) bool { return r.Secure }},
		{"extended CONNECT", ":method CONNECT\n:protocol websocket\n:scheme https\n:path /chat\n:authority a\nsec-websocket-version 13\nsec-websocket-key evil\n",
			func(r *Request) bool {
				if r.MethodID != MethodConnect || string(r.Protocol) != "websocket" || r.Chunked || r.TunnelWebSocket([]byte("dGhlIHNhbXBsZSBub25jZQ==")) != nil {
					return false
				}
				return string(r.AppendEndToEnd(AppendRequestLine(nil, r.Method, r.Path, r.Query), 0)) ==
					"GET /chat HTTP/1.1\r\nsec-websocket-version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" &&
					string(r.Upgrade) == "websocket" && !r.HasBody() && r.MethodID == MethodGet
			}},
		{"extended CONNECT for something else", ":method CONNECT\n:protocol connect-udp\n:scheme https\n:path /\n:authority a\n",
			func(r *Request) bool { return r.TunnelWebSocket(nil) == ErrConnectProtocol }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r Request
			if err := composeRequest(&r, c.lines, false, Limits{}); err != nil {
				t.Fatal(err)
			}
			if !c.check(&r) {
				t.Fatal(show(&r))
			}
		})
	}
}

func TestComposeRefused(t *testing.T) {
	without := func(name string) string {
		var b strings.Builder
		for line := range strings.SplitSeq(simple, "\n") {
			if line != "" && !strings.HasPrefix(line, name) {
				b.WriteString(line + "\n")
			}
		}
		return b.String()
	}
	post := ":method POST\n:scheme http\n:authority a\n:path /\n"
	for _, c := range []struct {
		name, lines string
		ended       bool
		want        *Error
	}{
		{"no :method", without(":method"), true, ErrPseudoMissing},
		{"no :scheme", without(":scheme"), true, ErrPseudoMissing},
		{"no :path", without(":path"), true, ErrPseudoMissing},
		{"nothing at all", "", true, ErrPseudoMissing},
		{"neither :authority nor Host", without(":authority"), true, ErrMissingHost},
		{":method twice", simple + ":method GET\n", true, ErrPseudoRepeated},
		{":scheme twice", simple + ":scheme https\n", true, ErrPseudoRepeated},
		{":path twice", simple + ":path /\n", true, ErrPseudoRepeated},
		{":authority twice", simple + ":authority example.com\n", true, ErrPseudoRepeated},
		{":path behind a field", without(":path") + "a b\n:path /\n", true, ErrPseudoOrder},
		{":status", simple + ":status 200\n", true, ErrUnknownPseudo},
		{"unknown pseudo field", simple + ":foo bar\n", true, ErrUnknownPseudo},
		{"empty pseudo field", simple + ": bar\n", true, ErrUnknownPseudo},
		{":Method", ":Method GET\n" + without(":method"), true, ErrUnknownPseudo},
		{":protocol without CONNECT", simple + ":protocol websocket\n", false, ErrUnknownPseudo},
		{"CONNECT", ":method CONNECT\n:authority a:443\n", false, ErrConnect},
		{"CONNECT with path", ":method CONNECT\n:scheme https\n:path /\n:authority a:443\n", false, ErrConnect},
		{"extended CONNECT without path", ":method CONNECT\n:protocol websocket\n:scheme https\n:authority a\n", false, ErrPseudoMissing},
		{"extended CONNECT with length", ":method CONNECT\n:protocol websocket\n:scheme https\n:path /\n:authority a\ncontent-length 0\n", false, ErrLengthOfTunnel},
		{"empty :method", ":method \n" + without(":method"), true, ErrBadMethod},
		{":method with space", ":method GET /evil HTTP/1.1\n" + without(":method"), true, ErrBadMethod},
		{":method with CRLF", ":method GET\r\n" + without(":method"), true, ErrBadMethod},
		{":method too long", ":method " + strings.Repeat("M", maxMethod+1) + "\n" + without(":method"), true, ErrBadMethod},
		{"other scheme", ":scheme ftp\n" + without(":scheme"), true, ErrBadScheme},
		{"scheme in upper case", ":scheme HTTP\n" + without(":scheme"), true, ErrBadScheme},
		{"scheme with more", ":scheme https://a/\n" + without(":scheme"), true, ErrBadScheme},
		{"empty :path", ":path \n" + without(":path"), true, ErrEmptyPath},
		{":path without slash", ":path a\n" + without(":path"), true, ErrBadTarget},
		{"absolute :path", ":path http://a/\n" + without(":path"), true, ErrBadTarget},
		{":path with space", ":path / HTTP/1.1\n" + without(":path"), true, ErrBadTarget},
		{":path with CR", ":path /\r\n" + without(":path"), true, ErrBadTarget},
		{":path with NUL", ":path /\x00\n" + without(":path"), true, ErrBadTarget},
		{":path with fragment", ":path /a#b\n" + without(":path"), true, ErrBadTarget},
		{":path beyond ASCII", ":path /ä\n" + without(":path"), true, ErrBadTarget},
		{"asterisk for GET", ":path *\n" + without(":path"), true, ErrBadTarget},
		{":path too long", ":path /" + strings.Repeat("a", 600) + "\n" + without(":path"), true, ErrRequestLineLimit},
		{"empty :authority", ":authority \n" + without(":authority"), true, ErrBadHost},
		{":authority with userinfo", ":authority u@a\n" + without(":authority"), true, ErrBadHost},
		{":authority with CR", ":authority a\r\n" + without(":authority"), true, ErrBadHost},
		{":authority with space", ":authority a b\n" + without(":authority"), true, ErrBadHost},
		{":authority with slash", ":authority a/b\n" + without(":authority"), true, ErrBadHost},
		{":authority with a bad port", ":authority a:99999\n" + without(":authority"), true, ErrBadHost},
		{"empty Host alone", without(":authority") + "host \n", true, ErrBadHost},
		{"bad Host as well", simple + "host a b\n", true, ErrBadHost},
		{"other Host", simple + "host other.example\n", true, ErrAuthorityMismatch},
		{"Host with another port", simple + "host example.com:80\n", true, ErrAuthorityMismatch},
		{"two Hosts", simple + "host example.com\nhost example.com\n", true, ErrSeveralHosts},

		{"empty name", simple + " v\n", true, ErrBadFieldName},
		{"upper case", simple + "X-A v\n", true, ErrUpperCaseName},
		{"upper case at the end", simple + "x-A v\n", true, ErrUpperCaseName},
		{"name with CR", simple + "a\r v\n", true, ErrBadFieldName},
		{"name with NUL", simple + "a\x00 v\n", true, ErrBadFieldName},
		{"name with colon", simple + "a:b v\n", true, ErrBadFieldName},
		{"name beyond ASCII", simple + "ä v\n", true, ErrBadFieldName},
		{"value with CR", simple + "a b\rc\n", true, ErrBadFieldValue},
		{"value with NUL", simple + "a b\x00c\n", true, ErrBadFieldValue},
		{"value with ESC", simple + "a b\x1bc\n", true, ErrBadFieldValue},
		{"value with DEL", simple + "a bcdefghijk\x7f\n", true, ErrBadFieldValue},
		{"value with tab, then CR", simple + "a b\tcdefghijk\rl\n", true, ErrBadFieldValue},
		{"connection", simple + "connection close\n", true, ErrConnectionField},
		{"keep-alive", simple + "keep-alive 1\n", true, ErrConnectionField},
		{"proxy-connection", simple + "proxy-connection keep-alive\n", true, ErrConnectionField},
		{"transfer-encoding", simple + "transfer-encoding chunked\n", true, ErrConnectionField},
		{"upgrade", simple + "upgrade h2c\n", true, ErrConnectionField},
		{"http2-settings", simple + "http2-settings x\n", true, ErrConnectionField},
		{"te gzip", simple + "te gzip\n", true, ErrBadTE},
		{"te trailers and gzip", simple + "te trailers, gzip\n", true, ErrBadTE},
		{"other expectation", simple + "expect 200-ok\n", true, ErrExpectation},
		{"length twice", post + "content-length 5\ncontent-length 5\n", false, ErrSeveralContentLengths},
		{"length list", post + "content-length 5, 5\n", false, ErrBadContentLength},
		{"length with sign", post + "content-length +5\n", false, ErrBadContentLength},
		{"length without body", post + "content-length 5\n", true, ErrLengthMismatch},
		{"large", simple + "a " + strings.Repeat("b", 1000) + "\n", true, ErrHeadLimit},
		{"large by what each field counts", simple + strings.Repeat("a "+strings.Repeat("b", 30)+"\n", 15), true, ErrHeadLimit},
		{"many fields", simple + strings.Repeat("a b\n", 17), true, ErrFieldLimit},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r Request
			err := composeRequest(&r, c.lines, c.ended, Limits{RequestLine: 512, Head: 1024, Fields: 16})
			if fault(t, err) != c.want {
				t.Fatalf("error %v, want %v\n%s", err, c.want, show(&r))
			}
			// The fault leaves nothing behind.
			if err := composeRequest(&r, simple, true, Limits{}); err != nil || len(r.Fields) != 0 || r.Protocol != nil {
				t.Fatalf("the next request: %v\n%s", err, show(&r))
			}
		})
	}
}

func TestComposeResponse(t *testing.T) {
	for _, c := range []struct {
		name, lines string
		method      Method
		ended       bool
		body        Body
		want        *Error
	}{
		{"unknown length", ":status 200\n", MethodGet, false, BodyChunked, nil},
		{"length", ":status 200\ncontent-length 5\n", MethodGet, false, BodyLength, nil},
		{"no body", ":status 200\n", MethodGet, true, BodyNone, nil},
		{"length 0", ":status 200\ncontent-length 0\n", MethodGet, true, BodyNone, nil},
		{"HEAD", ":status 200\ncontent-length 5\n", MethodHead, true, BodyNone, nil},
		{"204", ":status 204\n", MethodGet, true, BodyNone, nil},
		{"304", ":status 304\ncontent-length 5\n", MethodGet, true, BodyNone, nil},
		{"103", ":status 103\nlink x\n", MethodGet, false, BodyNone, nil},
		{"length without body", ":status 200\ncontent-length 5\n", MethodGet, true, 0, ErrLengthMismatch},
		{"103 at the end", ":status 103\n", MethodGet, true, 0, ErrBadStatus},
		{"101", ":status 101\n", MethodGet, false, 0, ErrBadStatus},
		{"no :status", "a b\n", MethodGet, false, 0, ErrPseudoMissing},
		{":status twice", ":status 200\n:status 200\n", MethodGet, false, 0, ErrPseudoRepeated},
		{":status behind", "a b\n:status 200\n", MethodGet, false, 0, ErrPseudoOrder},
		{":status of two digits", ":status 20\n", MethodGet, false, 0, ErrBadStatus},
		{":status of four digits", ":status 2000\n", MethodGet, false, 0, ErrBadStatus},
		{":status with CR", ":status 20\r\n", MethodGet, false, 0, ErrBadStatus},
		{":status below 100", ":status 099\n", MethodGet, false, 0, ErrBadStatus},
		{":path", ":status 200\n:path /\n", MethodGet, false, 0, ErrUnknownPseudo},
		{"upper case", ":status 200\nX-A b\n", MethodGet, false, 0, ErrUpperCaseName},
		{"value with CR", ":status 200\na b\rc\n", MethodGet, false, 0, ErrBadFieldValue},
		{"connection", ":status 200\nconnection close\n", MethodGet, false, 0, ErrConnectionField},
		{"large", ":status 200\na " + strings.Repeat("b", 1000) + "\n", MethodGet, false, 0, ErrHeadLimit},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r Response
			r.Compose(Limits{Head: 512})
			for _, f := range splitFields(c.lines) {
				r.AddField(f[0], f[1])
			}
			err := r.Finish(c.method, c.ended)
			if fault(t, err) != c.want {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			if c.want == nil && (r.Body != c.body || r.Minor != 1 || !r.KeepAlive || r.Chunked != (c.body == BodyChunked)) {
				t.Fatalf("body %v, want %v: %s", r.Body, c.body, showResponse(&r))
			}
		})
	}
}

func TestComposeTrailers(t *testing.T) {
	for _, c := range []struct {
		name, lines, want string
		fault             *Error
	}{
		{"kept and left out", "grpc-status 0\nhost a\nx-a b\nx_forwarded_for c\nte trailers\nauthorization d\n", "grpc-status: 0\r\nx-a: b\r\n", nil},
		{"none", "", "", nil},
		{"pseudo field", "a b\n:path /\n", "", ErrPseudoOrder},
		{"length", "content-length 5\n", "", ErrFramingTrailer},
		{"encoding", "transfer-encoding chunked\n", "", ErrConnectionField},
		{"upper case", "X-A b\n", "", ErrUpperCaseName},
		{"value with CR", "a b\rc\n", "", ErrBadFieldValue},
		{"many", strings.Repeat("a b\n", DefaultLimits.Fields+1), "", ErrTrailerLimit},
		{"large", "a " + strings.Repeat("b", DefaultLimits.Head) + "\n", "", ErrTrailerLimit},
	} {
		t.Run(c.name, func(t *testing.T) {
			var tr ComposedTrailers
			for range 2 { // the second time after Reset
				for _, f := range splitFields(c.lines) {
					tr.AddField(f[0], f[1])
				}
				if err := tr.Finish(); fault(t, err) != c.fault {
					t.Fatalf("error %v, want %v", err, c.fault)
				}
				if got := string(AppendLastChunk(nil, tr.Fields)); c.fault == nil && got != "0\r\n"+c.want+"\r\n" {
					t.Fatalf("%q", got)
				}
				tr.Reset()
			}
		})
	}
}

func TestComposeAllocatesNothing(t *testing.T) {
	var r Request
	fields := splitFields(simple + "user-agent x\naccept */*\ncookie a=b\ncookie c=d\n")
	compose := func() {
		r.Compose(Limits{})
		for _, f := range fields {
			r.AddField(f[0], f[1])
		}
		if err := r.Finish(true); err != nil {
			t.Fatal(err)
		}
	}
	compose()
	if n := testing.AllocsPerRun(100, compose); n != 0 {
		t.Errorf("%v allocations per request, want 0", n)
	}
}

// FuzzCompose: whatever is accepted can be written as HTTP/1.1 and read again as the same
// request: nothing in it can end a line, a head or a message early.
func FuzzCompose(f *testing.F) {
	f.Add("GET", "https", "example.com", "/", "user-agent x\ncookie a\ncookie b\n", true)
	f.Add("POST", "http", "a:80", "/a?b", "content-length 5\nhost A\n", false)
	f.Add("PUT", "http", "[::1]", "/%2e", "expect 100-continue\nte trailers\n", false)
	f.Add("OPTIONS", "http", "a.", "*", "x_forwarded_for 1\n", true)
	f.Add("GET /\r\n", "http", "a\r\nb: c", "/ HTTP/1.1\r\nx: y", "a b\r\nc: d\n", true)
	f.Fuzz(func(t *testing.T, method, scheme, authority, path, lines string, ended bool) {
		var r Request
		r.Compose(Limits{})
		r.AddField(":method", method)
		r.AddField(":scheme", scheme)
		r.AddField(":authority", authority)
		r.AddField(":path", path)
		for _, f := range splitFields(lines) {
			r.AddField(f[0], f[1])
		}
		if err := r.Finish(ended); err != nil {
			fault(t, err)
			return
		}
		head := writeRequest(&r)
		var again Request
		n, err := again.Parse(head, Limits{Head: 2*len(head) + 100, RequestLine: 2*len(head) + 100})
		if n != len(head) || err != nil {
			t.Fatalf("written as HTTP/1.1 %q: n=%d, error %v", head, n, err)
		}
		if a, b := essence(&r), essence(&again); a != b {
			t.Fatalf("written as HTTP/1.1 %q:\n%s\n%s", head, a, b)
		}
	})
}
