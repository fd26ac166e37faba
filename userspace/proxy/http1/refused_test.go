package http1

import (
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/message/messagetest"
)

const host = "Host: example.com\r\n"

func TestRequestRefused(t *testing.T) {
	get := "GET / HTTP/1.1\r\n" + host
	for _, c := range []struct {
		name, input string
		want        *message.Error
	}{
		{"no method", " / HTTP/1.1\r\n" + host + "\r\n", message.ErrBadMethod},
		{"method not a token", "GE(T / HTTP/1.1\r\n" + host + "\r\n", message.ErrBadMethod},
		{"method with NUL", "GET\x00 / HTTP/1.1\r\n" + host + "\r\n", message.ErrBadMethod},
		{"method too long", strings.Repeat("M", message.MaxMethod+1) + " / HTTP/1.1\r\n" + host + "\r\n", message.ErrBadMethod},
		{"tab after method", "GET\t/ HTTP/1.1\r\n" + host + "\r\n", message.ErrBadMethod},
		{"two spaces", "GET  / HTTP/1.1\r\n" + host + "\r\n", message.ErrBadRequestLine},
		{"two spaces before version", "GET /  HTTP/1.1\r\n" + host + "\r\n", message.ErrBadVersion},
		{"space behind version", "GET / HTTP/1.1 \r\n" + host + "\r\n", message.ErrBadVersion},
		{"method alone", "GET\r\n\r\n", message.ErrBadRequestLine},
		{"method alone, bare LF", "GET\n\n", message.ErrBareLF},
		{"no version", "GET /\r\n\r\n", message.ErrBadRequestLine},
		{"empty version", "GET / \r\n\r\n", message.ErrBadVersion},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", message.ErrTLS},
		{"leading LF", "\nGET / HTTP/1.1\r\n" + host + "\r\n", message.ErrBareLF},
		{"leading CR", "\rGET / HTTP/1.1\r\n" + host + "\r\n", message.ErrBareCR},
		{"two leading empty lines", "\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n", message.ErrBadRequestLine},
		{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", message.ErrHTTP2Preface},
		{"version 2.0", "GET / HTTP/2.0\r\n" + host + "\r\n", message.ErrVersion},
		{"version 0.9", "GET / HTTP/0.9\r\n" + host + "\r\n", message.ErrVersion},
		{"version 1.2", "GET / HTTP/1.2\r\n" + host + "\r\n", message.ErrVersion},
		{"version 3.0", "GET / HTTP/3.0\r\n" + host + "\r\n", message.ErrVersion},
		{"version in lower case", "GET / http/1.1\r\n" + host + "\r\n", message.ErrBadVersion},
		{"version too long", "GET / HTTP/1.10\r\n" + host + "\r\n", message.ErrBadVersion},
		{"version too short", "GET / HTTP/1\r\n" + host + "\r\n", message.ErrBadVersion},
		{"version with comma", "GET / HTTP/1,1\r\n" + host + "\r\n", message.ErrBadVersion},
		{"other protocol", "GET / ICAP/1.0\r\n" + host + "\r\n", message.ErrBadVersion},
		{"bare LF behind version", "GET / HTTP/1.1\n" + host + "\r\n", message.ErrBareLF},
		{"bare CR behind version", "GET / HTTP/1.1\rX" + host + "\r\n", message.ErrBareCR},
		{"request line too long", "GET /" + strings.Repeat("a", 1000) + " HTTP/1.1\r\n" + host + "\r\n", message.ErrRequestLineLimit},

		{"target with NUL", "GET /\x00 HTTP/1.1\r\n" + host + "\r\n", message.ErrBadTarget},
		{"target with DEL", "GET /\x7f HTTP/1.1\r\n" + host + "\r\n", message.ErrBadTarget},
		{"target with tab", "GET /\ta HTTP/1.1\r\n" + host + "\r\n", message.ErrBadTarget},
		{"target with space", "GET /a b HTTP/1.1\r\n" + host + "\r\n", message.ErrBadVersion},
		{"target beyond ASCII", "GET /\xc3\xa4 HTTP/1.1\r\n" + host + "\r\n", message.ErrBadTarget},
		{"query beyond ASCII", "GET /?\xc3\xa4 HTTP/1.1\r\n" + host + "\r\n", message.ErrBadTarget},
		{"target with fragment", "GET /a#b HTTP/1.1\r\n" + host + "\r\n", message.ErrBadTarget},
		{"query with fragment", "GET /a?b#c HTTP/1.1\r\n" + host + "\r\n", message.ErrBadTarget},
		{"target without slash", "GET a HTTP/1.1\r\n" + host + "\r\n", message.ErrBadTarget},
		{"target is a query", "GET ?a HTTP/1.1\r\n" + host + "\r\n", message.ErrBadTarget},
		{"asterisk for GET", "GET * HTTP/1.1\r\n" + host + "\r\n", message.ErrBadTarget},
		{"asterisk with more", "OPTIONS *a HTTP/1.1\r\n" + host + "\r\n", message.ErrBadTarget},
		{"asterisk with query", "OPTIONS *?a HTTP/1.1\r\n" + host + "\r\n", message.ErrBadTarget},
		{"CONNECT", "CONNECT example.com:443 HTTP/1.1\r\n" + host + "\r\n", message.ErrConnect},
		{"CONNECT to a path", "CONNECT / HTTP/1.1\r\n" + host + "\r\n", message.ErrConnect},
		{"authority form for GET", "GET example.com:80 HTTP/1.1\r\n" + host + "\r\n", message.ErrBadTarget},
		{"other scheme", "GET ftp://example.com/ HTTP/1.1\r\n" + host + "\r\n", message.ErrBadTarget},
		{"scheme without authority", "GET http:/a HTTP/1.1\r\n" + host + "\r\n", message.ErrBadTarget},
		{"scheme alone", "GET http:// HTTP/1.1\r\n" + host + "\r\n", message.ErrBadTarget},
		{"empty authority", "GET http:///a HTTP/1.1\r\n" + host + "\r\n", message.ErrBadHost},
		{"authority is a query", "GET http://?a HTTP/1.1\r\n" + host + "\r\n", message.ErrBadTarget},
		{"authority with userinfo", "GET http://u@example.com/ HTTP/1.1\r\n" + host + "\r\n", message.ErrBadHost},
		{"authority with password", "GET http://u:p@example.com/ HTTP/1.1\r\n" + host + "\r\n", message.ErrBadHost},
		{"authority with backslash", "GET http://example.com\\a/ HTTP/1.1\r\n" + host + "\r\n", message.ErrBadHost},
		{"absolute form, bad Host", "GET http://example.com/ HTTP/1.1\r\nHost: a b\r\n\r\n", message.ErrBadHost},
		{"absolute form, no Host", "GET http://example.com/ HTTP/1.1\r\n\r\n", message.ErrMissingHost},

		{"obs-fold", get + "A: b\r\n c\r\n\r\n", message.ErrObsFold},
		{"obs-fold with tab", get + "A: b\r\n\tc\r\n\r\n", message.ErrObsFold},
		{"obs-fold as first field", "GET / HTTP/1.1\r\n " + host + "\r\n", message.ErrObsFold},
		{"bare LF behind field", get + "A: b\nC: d\r\n\r\n", message.ErrBareLF},
		{"bare LF ends head", get + "A: b\r\n\n", message.ErrBareLF},
		{"bare CR ends head", get + "A: b\r\n\rX\r\n\r\n", message.ErrBareCR},
		{"bare CR in value", get + "A: b\rc\r\n\r\n", message.ErrBareCR},
		{"CR CR LF", get + "A: b\r\r\n\r\n", message.ErrBareCR},
		{"NUL in value", get + "A: b\x00c\r\n\r\n", message.ErrBadFieldValue},
		{"ESC in value", get + "A: b\x1bc\r\n\r\n", message.ErrBadFieldValue},
		{"DEL in value", get + "A: bbbbbbbb\x7fc\r\n\r\n", message.ErrBadFieldValue},
		{"vertical tab before value", get + "A:\x0bchunked\r\n\r\n", message.ErrBadFieldValue},
		{"space before colon", get + "A : b\r\n\r\n", message.ErrBadFieldName},
		{"tab before colon", get + "A\t: b\r\n\r\n", message.ErrBadFieldName},
		{"empty name", get + ": b\r\n\r\n", message.ErrBadFieldName},
		{"no colon", get + "Abc\r\n\r\n", message.ErrBadFieldName},
		{"no colon, bare LF", get + "Abc\n\r\n", message.ErrBareLF},
		{"no colon, bare CR", get + "Abc\rd: e\r\n\r\n", message.ErrBareCR},
		{"name with space", get + "A b: c\r\n\r\n", message.ErrBadFieldName},
		{"name with NUL", get + "A\x00: c\r\n\r\n", message.ErrBadFieldName},
		{"name beyond ASCII", get + "\xc3\xa4: c\r\n\r\n", message.ErrBadFieldName},
		{"name with parenthesis", get + "A(b): c\r\n\r\n", message.ErrBadFieldName},
		{"name in quotes", get + "\"A\": c\r\n\r\n", message.ErrBadFieldName},
		{"head too large", get + "A: " + strings.Repeat("b", 2000) + "\r\n\r\n", message.ErrHeadLimit},
		{"too many fields", get + strings.Repeat("A: b\r\n", 20) + "\r\n", message.ErrFieldLimit},

		{"empty Content-Length", get + "Content-Length:\r\n\r\n", message.ErrBadContentLength},
		{"Content-Length with plus", get + "Content-Length: +5\r\n\r\n", message.ErrBadContentLength},
		{"Content-Length with minus", get + "Content-Length: -5\r\n\r\n", message.ErrBadContentLength},
		{"Content-Length in hex", get + "Content-Length: 0x5\r\n\r\n", message.ErrBadContentLength},
		{"Content-Length with space inside", get + "Content-Length: 5 5\r\n\r\n", message.ErrBadContentLength},
		{"Content-Length with point", get + "Content-Length: 5.0\r\n\r\n", message.ErrBadContentLength},
		{"Content-Length with underscore", get + "Content-Length: 1_0\r\n\r\n", message.ErrBadContentLength},
		{"Content-Length of 2^63", get + "Content-Length: 9223372036854775808\r\n\r\n", message.ErrBadContentLength},
		{"Content-Length of 20 digits", get + "Content-Length: 00000000000000000005\r\n\r\n", message.ErrBadContentLength},
		{"Content-Length list", get + "Content-Length: 5, 5\r\n\r\n", message.ErrBadContentLength},
		{"Content-Length with comma", get + "Content-Length: 5,\r\n\r\n", message.ErrBadContentLength},
		{"equal Content-Lengths", get + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", message.ErrSeveralContentLengths},
		{"different Content-Lengths", get + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", message.ErrSeveralContentLengths},
		{"length and encoding", get + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", message.ErrLengthAndEncoding},
		{"encoding and length", get + "Transfer-Encoding: chunked\r\ncontent-length: 0\r\n\r\n", message.ErrLengthAndEncoding},
		{"encoding twice", get + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", message.ErrBadTransferEncoding},
		{"chunked twice", get + "Transfer-Encoding: chunked, chunked\r\n\r\n", message.ErrBadTransferEncoding},
		{"chunked not at the end", get + "Transfer-Encoding: chunked, gzip\r\n\r\n", message.ErrBadTransferEncoding},
		{"empty encoding", get + "Transfer-Encoding:\r\n\r\n", message.ErrBadTransferEncoding},
		{"encoding with comma", get + "Transfer-Encoding: chunked,\r\n\r\n", message.ErrBadTransferEncoding},
		{"encoding with parameter", get + "Transfer-Encoding: chunked;q=1\r\n\r\n", message.ErrBadTransferEncoding},
		{"encoding in quotes", get + "Transfer-Encoding: \"chunked\"\r\n\r\n", message.ErrBadTransferEncoding},
		{"encoding with a tab behind", get + "Transfer-Encoding: chunked \t\r\n\r\n", message.ErrBadTransferEncoding},
		{"gzip", get + "Transfer-Encoding: gzip\r\n\r\n", message.ErrTransferCoding},
		{"gzip and chunked", get + "Transfer-Encoding: gzip, chunked\r\n\r\n", message.ErrTransferCoding},
		{"identity", get + "Transfer-Encoding: identity\r\n\r\n", message.ErrTransferCoding},
		{"xchunked", get + "Transfer-Encoding: xchunked\r\n\r\n", message.ErrTransferCoding},
		{"encoding on 1.0", "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", message.ErrTransferEncodingOn10},

		{"no Host", "GET / HTTP/1.1\r\n\r\n", message.ErrMissingHost},
		{"two Hosts", get + host + "\r\n", message.ErrSeveralHosts},
		{"two Hosts on 1.0", "GET / HTTP/1.0\r\n" + host + host + "\r\n", message.ErrSeveralHosts},
		{"Connection not tokens", get + "Connection: a b\r\n\r\n", message.ErrBadConnection},
		{"Connection with many names", get + "Connection: " + strings.Repeat("a,", 17) + "\r\n\r\n", message.ErrBadConnection},
		{"Connections with many names", get + "Connection: " + strings.Repeat("a,", 9) + "\r\nConnection: " + strings.Repeat("a,", 9) + "\r\n\r\n", message.ErrBadConnection},
		{"other expectation", get + "Expect: 200-ok\r\n\r\n", message.ErrExpectation},
	} {
		t.Run(c.name, func(t *testing.T) {
			lim := message.Limits{RequestLine: 512, Head: 1024, Fields: 16}
			var r Request
			n, err := r.Parse([]byte(c.input), lim)
			if got := messagetest.Fault(t, err); got != c.want || n != 0 {
				t.Fatalf("whole: n=%d, error %v, want %v", n, got, c.want)
			}
			// Byte by byte it is the same fault, with a buffer that moves.
			for i := 0; ; i++ {
				if i > len(c.input) {
					t.Fatal("byte by byte: not refused")
				}
				n, err := r.Parse([]byte(c.input[:i]), lim)
				if n != 0 {
					t.Fatalf("byte by byte: accepted %d bytes", n)
				}
				if got := messagetest.Fault(t, err); got != nil {
					if got != c.want {
						t.Fatalf("byte by byte: error %v, want %v", got, c.want)
					}
					break
				}
			}
		})
	}
}
