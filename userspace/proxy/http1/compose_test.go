package http1

import (
	"testing"

	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/message/messagetest"
)

// TestComposeIsParse: a request in either form is the same request.
func TestComposeIsParse(t *testing.T) {
	for _, c := range []struct {
		name, lines, head string
		body              bool
	}{
		{"simple", messagetest.Simple, "GET / HTTP/1.1\r\nhost: example.com\r\n\r\n", false},
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
		{"fields", messagetest.Simple + "user-agent x\nx-a \nx_forwarded_for 1\ncookie a=b\nx-forwarded-for 6.6.6.6\nx-utf ä\tb\nproxy-authorization x\n",
			"GET / HTTP/1.1\r\nhost: example.com\r\nuser-agent: x\r\nx-a:\r\nx_forwarded_for: 1\r\ncookie: a=b\r\nx-forwarded-for: 6.6.6.6\r\n" +
				"x-utf: ä\tb\r\nproxy-authorization: x\r\n\r\n", false},
		{"length", ":method POST\n:scheme http\n:authority a\n:path /\ncontent-length 5\n", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n", true},
		{"unknown length", ":method POST\n:scheme http\n:authority a\n:path /\n", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", true},
		{"GET with body", messagetest.Simple, "GET / HTTP/1.1\r\nhost: example.com\r\ntransfer-encoding: chunked\r\n\r\n", true},
		{"no body where one is usual", ":method PUT\n:scheme http\n:authority a\n:path /\n", "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", false},
		{"expect", ":method PUT\n:scheme http\n:authority a\n:path /\nexpect 100-continue\ncontent-length 1\n",
			"PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n", true},
		{"te", messagetest.Simple + "te trailers\n", "GET / HTTP/1.1\r\nhost: example.com\r\nte: trailers\r\n\r\n", false},
		{"other method", ":method M-SEARCH\n:scheme http\n:authority a\n:path /\n", "M-SEARCH / HTTP/1.1\r\nhost: a\r\n\r\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var composed message.Request
			var parsed Request
			if err := messagetest.Compose(&composed, c.lines, !c.body, message.Limits{}); err != nil {
				t.Fatal(err)
			}
			if n, err := parsed.Parse([]byte(c.head), message.Limits{}); err != nil || n != len(c.head) {
				t.Fatalf("the head to compare with is at fault: %v", err)
			}
			// What HTTP/2 says without a field is left out of the comparison.
			parsed.Secure = composed.Secure
			kept := parsed.Fields[:0]
			for _, f := range parsed.Fields {
				if f.ID != message.FieldHost && f.ID != message.FieldTransferEncoding && (f.ID != message.FieldContentLength || c.body) {
					kept = append(kept, f)
				}
			}
			parsed.Fields = kept
			if a, b := messagetest.Show(&composed), messagetest.Show(&parsed.Request); a != b {
				t.Fatalf("composed:\n%s\nparsed:\n%s", a, b)
			}
		})
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
		r.Compose(message.Limits{})
		r.AddField(":method", method)
		r.AddField(":scheme", scheme)
		r.AddField(":authority", authority)
		r.AddField(":path", path)
		for _, f := range messagetest.Split(lines) {
			r.AddField(f[0], f[1])
		}
		if err := r.Finish(ended); err != nil {
			messagetest.Fault(t, err)
			return
		}
		head := writeRequest(&r)
		var again Request
		n, err := again.Parse(head, message.Limits{Head: 2*len(head) + 100, RequestLine: 2*len(head) + 100})
		if n != len(head) || err != nil {
			t.Fatalf("written as HTTP/1.1 %q: n=%d, error %v", head, n, err)
		}
		if a, b := essence(&r), essence(&again); a != b {
			t.Fatalf("written as HTTP/1.1 %q:\n%s\n%s", head, a, b)
		}
	})
}
