package message_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/message/messagetest"
)

// forwarded returns the lines of the fields that go on to the next hop.
func forwarded(fields []message.Field) string {
	var b strings.Builder
	for _, f := range fields {
		if !f.HopByHop {
			fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
		}
	}
	return b.String()
}

func TestComposeAccepted(t *testing.T) {
	for _, c := range []struct {
		name, lines string
		check       func(r *message.Request) bool
	}{
		{"Host alone", ":method GET\n:scheme http\n:path /\nhost A:80\n", func(r *message.Request) bool {
			return string(r.Authority) == "A:80" && string(r.Host) == "a" && r.Port == 80
		}},
		{"Host as well", messagetest.Simple + "host example.com\n", func(r *message.Request) bool { return string(r.Authority) == "example.com" }},
		{"Host in other case, with the default port", messagetest.Simple + "host EXAMPLE.com:443\n", func(r *message.Request) bool {
			return string(r.Authority) == "example.com" && string(r.Host) == "example.com" && r.Port == 0
		}},
		{"both in upper case", ":method GET\n:scheme http\n:authority AB:80\n:path /\nhost Ab\n", func(r *message.Request) bool {
			return string(r.Host) == "ab" && r.Port == 80
		}},
		{"crumbs", messagetest.Simple + "cookie a=b\nx-a 1\ncookie c=d\nx-b 2\ncookie e=f\n", func(r *message.Request) bool {
			return len(r.Fields) == 3 && string(r.Fields[0].Value) == "a=b; c=d; e=f" && string(r.Fields[1].Name) == "x-a" && string(r.Fields[2].Name) == "x-b"
		}},
		{"lookalike", messagetest.Simple + "x_real_ip 6.6.6.6\n", func(r *message.Request) bool { return r.Fields[0].HopByHop }},
		{"scheme", messagetest.Simple, func(r *message.Request) bool { return r.Secure }},
		{"extended CONNECT", ":method CONNECT\n:protocol websocket\n:scheme https\n:path /chat\n:authority a\nsec-websocket-version 13\nsec-websocket-key evil\n",
			func(r *message.Request) bool {
				if r.MethodID != message.MethodConnect || string(r.Protocol) != "websocket" || r.Chunked || r.TunnelWebSocket([]byte("dGhlIHNhbXBsZSBub25jZQ==")) != nil {
					return false
				}
				return string(r.Method)+" "+string(r.Path) == "GET /chat" && forwarded(r.Fields) ==
					"sec-websocket-version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" &&
					string(r.Upgrade) == "websocket" && !r.HasBody() && r.MethodID == message.MethodGet
			}},
		{"extended CONNECT for something else", ":method CONNECT\n:protocol connect-udp\n:scheme https\n:path /\n:authority a\n",
			func(r *message.Request) bool { return r.TunnelWebSocket(nil) == message.ErrConnectProtocol }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r message.Request
			if err := messagetest.Compose(&r, c.lines, false, message.Limits{}); err != nil {
				t.Fatal(err)
			}
			if !c.check(&r) {
				t.Fatal(messagetest.Show(&r))
			}
		})
	}
}

func TestComposeRefused(t *testing.T) {
	without := func(name string) string {
		var b strings.Builder
		for line := range strings.SplitSeq(messagetest.Simple, "\n") {
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
		want        *message.Error
	}{
		{"no :method", without(":method"), true, message.ErrPseudoMissing},
		{"no :scheme", without(":scheme"), true, message.ErrPseudoMissing},
		{"no :path", without(":path"), true, message.ErrPseudoMissing},
		{"nothing at all", "", true, message.ErrPseudoMissing},
		{"neither :authority nor Host", without(":authority"), true, message.ErrMissingHost},
		{":method twice", messagetest.Simple + ":method GET\n", true, message.ErrPseudoRepeated},
		{":scheme twice", messagetest.Simple + ":scheme https\n", true, message.ErrPseudoRepeated},
		{":path twice", messagetest.Simple + ":path /\n", true, message.ErrPseudoRepeated},
		{":authority twice", messagetest.Simple + ":authority example.com\n", true, message.ErrPseudoRepeated},
		{":path behind a field", without(":path") + "a b\n:path /\n", true, message.ErrPseudoOrder},
		{":status", messagetest.Simple + ":status 200\n", true, message.ErrUnknownPseudo},
		{"unknown pseudo field", messagetest.Simple + ":foo bar\n", true, message.ErrUnknownPseudo},
		{"empty pseudo field", messagetest.Simple + ": bar\n", true, message.ErrUnknownPseudo},
		{":Method", ":Method GET\n" + without(":method"), true, message.ErrUnknownPseudo},
		{":protocol without CONNECT", messagetest.Simple + ":protocol websocket\n", false, message.ErrUnknownPseudo},
		{"CONNECT", ":method CONNECT\n:authority a:443\n", false, message.ErrConnect},
		{"CONNECT with path", ":method CONNECT\n:scheme https\n:path /\n:authority a:443\n", false, message.ErrConnect},
		{"extended CONNECT without path", ":method CONNECT\n:protocol websocket\n:scheme https\n:authority a\n", false, message.ErrPseudoMissing},
		{"extended CONNECT with length", ":method CONNECT\n:protocol websocket\n:scheme https\n:path /\n:authority a\ncontent-length 0\n", false, message.ErrLengthOfTunnel},
		{"empty :method", ":method \n" + without(":method"), true, message.ErrBadMethod},
		{":method with space", ":method GET /evil HTTP/1.1\n" + without(":method"), true, message.ErrBadMethod},
		{":method with CRLF", ":method GET\r\n" + without(":method"), true, message.ErrBadMethod},
		{":method too long", ":method " + strings.Repeat("M", message.MaxMethod+1) + "\n" + without(":method"), true, message.ErrBadMethod},
		{"other scheme", ":scheme ftp\n" + without(":scheme"), true, message.ErrBadScheme},
		{"scheme in upper case", ":scheme HTTP\n" + without(":scheme"), true, message.ErrBadScheme},
		{"scheme with more", ":scheme https://a/\n" + without(":scheme"), true, message.ErrBadScheme},
		{"empty :path", ":path \n" + without(":path"), true, message.ErrEmptyPath},
		{":path without slash", ":path a\n" + without(":path"), true, message.ErrBadTarget},
		{"absolute :path", ":path http://a/\n" + without(":path"), true, message.ErrBadTarget},
		{":path with space", ":path / HTTP/1.1\n" + without(":path"), true, message.ErrBadTarget},
		{":path with CR", ":path /\r\n" + without(":path"), true, message.ErrBadTarget},
		{":path with NUL", ":path /\x00\n" + without(":path"), true, message.ErrBadTarget},
		{":path with fragment", ":path /a#b\n" + without(":path"), true, message.ErrBadTarget},
		{":path beyond ASCII", ":path /ä\n" + without(":path"), true, message.ErrBadTarget},
		{"asterisk for GET", ":path *\n" + without(":path"), true, message.ErrBadTarget},
		{":path too long", ":path /" + strings.Repeat("a", 600) + "\n" + without(":path"), true, message.ErrRequestLineLimit},
		{"empty :authority", ":authority \n" + without(":authority"), true, message.ErrBadHost},
		{":authority with userinfo", ":authority u@a\n" + without(":authority"), true, message.ErrBadHost},
		{":authority with CR", ":authority a\r\n" + without(":authority"), true, message.ErrBadHost},
		{":authority with space", ":authority a b\n" + without(":authority"), true, message.ErrBadHost},
		{":authority with slash", ":authority a/b\n" + without(":authority"), true, message.ErrBadHost},
		{":authority with a bad port", ":authority a:99999\n" + without(":authority"), true, message.ErrBadHost},
		{"empty Host alone", without(":authority") + "host \n", true, message.ErrBadHost},
		{"bad Host as well", messagetest.Simple + "host a b\n", true, message.ErrBadHost},
		{"other Host", messagetest.Simple + "host other.example\n", true, message.ErrAuthorityMismatch},
		{"Host with another port", messagetest.Simple + "host example.com:80\n", true, message.ErrAuthorityMismatch},
		{"two Hosts", messagetest.Simple + "host example.com\nhost example.com\n", true, message.ErrSeveralHosts},

		{"empty name", messagetest.Simple + " v\n", true, message.ErrBadFieldName},
		{"upper case", messagetest.Simple + "X-A v\n", true, message.ErrUpperCaseName},
		{"upper case at the end", messagetest.Simple + "x-A v\n", true, message.ErrUpperCaseName},
		{"name with CR", messagetest.Simple + "a\r v\n", true, message.ErrBadFieldName},
		{"name with NUL", messagetest.Simple + "a\x00 v\n", true, message.ErrBadFieldName},
		{"name with colon", messagetest.Simple + "a:b v\n", true, message.ErrBadFieldName},
		{"name beyond ASCII", messagetest.Simple + "ä v\n", true, message.ErrBadFieldName},
		{"value with CR", messagetest.Simple + "a b\rc\n", true, message.ErrBadFieldValue},
		{"value with NUL", messagetest.Simple + "a b\x00c\n", true, message.ErrBadFieldValue},
		{"value with ESC", messagetest.Simple + "a b\x1bc\n", true, message.ErrBadFieldValue},
		{"value with DEL", messagetest.Simple + "a bcdefghijk\x7f\n", true, message.ErrBadFieldValue},
		{"value with tab, then CR", messagetest.Simple + "a b\tcdefghijk\rl\n", true, message.ErrBadFieldValue},
		{"connection", messagetest.Simple + "connection close\n", true, message.ErrConnectionField},
		{"keep-alive", messagetest.Simple + "keep-alive 1\n", true, message.ErrConnectionField},
		{"proxy-connection", messagetest.Simple + "proxy-connection keep-alive\n", true, message.ErrConnectionField},
		{"transfer-encoding", messagetest.Simple + "transfer-encoding chunked\n", true, message.ErrConnectionField},
		{"upgrade", messagetest.Simple + "upgrade h2c\n", true, message.ErrConnectionField},
		{"http2-settings", messagetest.Simple + "http2-settings x\n", true, message.ErrConnectionField},
		{"te gzip", messagetest.Simple + "te gzip\n", true, message.ErrBadTE},
		{"te trailers and gzip", messagetest.Simple + "te trailers, gzip\n", true, message.ErrBadTE},
		{"other expectation", messagetest.Simple + "expect 200-ok\n", true, message.ErrExpectation},
		{"length twice", post + "content-length 5\ncontent-length 5\n", false, message.ErrSeveralContentLengths},
		{"length list", post + "content-length 5, 5\n", false, message.ErrBadContentLength},
		{"length with sign", post + "content-length +5\n", false, message.ErrBadContentLength},
		{"length without body", post + "content-length 5\n", true, message.ErrLengthMismatch},
		{"large", messagetest.Simple + "a " + strings.Repeat("b", 1000) + "\n", true, message.ErrHeadLimit},
		{"large by what each field counts", messagetest.Simple + strings.Repeat("a "+strings.Repeat("b", 30)+"\n", 15), true, message.ErrHeadLimit},
		{"many fields", messagetest.Simple + strings.Repeat("a b\n", 17), true, message.ErrFieldLimit},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r message.Request
			err := messagetest.Compose(&r, c.lines, c.ended, message.Limits{RequestLine: 512, Head: 1024, Fields: 16})
			if messagetest.Fault(t, err) != c.want {
				t.Fatalf("error %v, want %v\n%s", err, c.want, messagetest.Show(&r))
			}
			// The fault leaves nothing behind.
			if err := messagetest.Compose(&r, messagetest.Simple, true, message.Limits{}); err != nil || len(r.Fields) != 0 || r.Protocol != nil {
				t.Fatalf("the next request: %v\n%s", err, messagetest.Show(&r))
			}
		})
	}
}

func TestComposeResponse(t *testing.T) {
	for _, c := range []struct {
		name, lines string
		method      message.Method
		ended       bool
		body        message.Body
		want        *message.Error
	}{
		{"unknown length", ":status 200\n", message.MethodGet, false, message.BodyChunked, nil},
		{"length", ":status 200\ncontent-length 5\n", message.MethodGet, false, message.BodyLength, nil},
		{"no body", ":status 200\n", message.MethodGet, true, message.BodyNone, nil},
		{"length 0", ":status 200\ncontent-length 0\n", message.MethodGet, true, message.BodyNone, nil},
		{"HEAD", ":status 200\ncontent-length 5\n", message.MethodHead, true, message.BodyNone, nil},
		{"204", ":status 204\n", message.MethodGet, true, message.BodyNone, nil},
		{"304", ":status 304\ncontent-length 5\n", message.MethodGet, true, message.BodyNone, nil},
		{"103", ":status 103\nlink x\n", message.MethodGet, false, message.BodyNone, nil},
		{"length without body", ":status 200\ncontent-length 5\n", message.MethodGet, true, 0, message.ErrLengthMismatch},
		{"103 at the end", ":status 103\n", message.MethodGet, true, 0, message.ErrBadStatus},
		{"101", ":status 101\n", message.MethodGet, false, 0, message.ErrBadStatus},
		{"no :status", "a b\n", message.MethodGet, false, 0, message.ErrPseudoMissing},
		{":status twice", ":status 200\n:status 200\n", message.MethodGet, false, 0, message.ErrPseudoRepeated},
		{":status behind", "a b\n:status 200\n", message.MethodGet, false, 0, message.ErrPseudoOrder},
		{":status of two digits", ":status 20\n", message.MethodGet, false, 0, message.ErrBadStatus},
		{":status of four digits", ":status 2000\n", message.MethodGet, false, 0, message.ErrBadStatus},
		{":status with CR", ":status 20\r\n", message.MethodGet, false, 0, message.ErrBadStatus},
		{":status below 100", ":status 099\n", message.MethodGet, false, 0, message.ErrBadStatus},
		{":path", ":status 200\n:path /\n", message.MethodGet, false, 0, message.ErrUnknownPseudo},
		{"upper case", ":status 200\nX-A b\n", message.MethodGet, false, 0, message.ErrUpperCaseName},
		{"value with CR", ":status 200\na b\rc\n", message.MethodGet, false, 0, message.ErrBadFieldValue},
		{"connection", ":status 200\nconnection close\n", message.MethodGet, false, 0, message.ErrConnectionField},
		{"large", ":status 200\na " + strings.Repeat("b", 1000) + "\n", message.MethodGet, false, 0, message.ErrHeadLimit},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r message.Response
			r.Compose(message.Limits{Head: 512})
			for _, f := range messagetest.Split(c.lines) {
				r.AddField(f[0], f[1])
			}
			err := r.Finish(c.method, c.ended)
			if messagetest.Fault(t, err) != c.want {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			if c.want == nil && (r.Body != c.body || r.Minor != 1 || !r.KeepAlive || r.Chunked != (c.body == message.BodyChunked)) {
				t.Fatalf("body %v, want %v: %s", r.Body, c.body, messagetest.ShowResponse(&r))
			}
		})
	}
}

func TestComposeTrailers(t *testing.T) {
	for _, c := range []struct {
		name, lines, want string
		fault             *message.Error
	}{
		{"kept and left out", "grpc-status 0\nhost a\nx-a b\nx_forwarded_for c\nte trailers\nauthorization d\n", "grpc-status: 0\r\nx-a: b\r\n", nil},
		{"none", "", "", nil},
		{"pseudo field", "a b\n:path /\n", "", message.ErrPseudoOrder},
		{"length", "content-length 5\n", "", message.ErrFramingTrailer},
		{"encoding", "transfer-encoding chunked\n", "", message.ErrConnectionField},
		{"upper case", "X-A b\n", "", message.ErrUpperCaseName},
		{"value with CR", "a b\rc\n", "", message.ErrBadFieldValue},
		{"many", strings.Repeat("a b\n", message.DefaultLimits.Fields+1), "", message.ErrTrailerLimit},
		{"large", "a " + strings.Repeat("b", message.DefaultLimits.Head) + "\n", "", message.ErrTrailerLimit},
	} {
		t.Run(c.name, func(t *testing.T) {
			var tr message.ComposedTrailers
			for range 2 { // the second time after Reset
				for _, f := range messagetest.Split(c.lines) {
					tr.AddField(f[0], f[1])
				}
				if err := tr.Finish(); messagetest.Fault(t, err) != c.fault {
					t.Fatalf("error %v, want %v", err, c.fault)
				}
				if got := forwarded(tr.Fields); c.fault == nil && got != c.want {
					t.Fatalf("%q", got)
				}
				tr.Reset()
			}
		})
	}
}

func TestComposeAllocatesNothing(t *testing.T) {
	var r message.Request
	fields := messagetest.Split(messagetest.Simple + "user-agent x\naccept */*\ncookie a=b\ncookie c=d\n")
	compose := func() {
		r.Compose(message.Limits{})
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
