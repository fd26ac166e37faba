package http1

import "strings"

// sample is the bytes of one connection. kind is "request", or the method of
// the request that a response answers.
type sample struct{ kind, input string }

// probe is the request that an attacker would smuggle.
const probe = "GET /smuggled HTTP/1.1\r\nHost: victim\r\n\r\n"

// corpus is everything that the differential tests compare: what the table
// tests accept, and combinations of what request smuggling is made of.
func corpus() (all []sample) {
	request := func(parts ...string) {
		all = append(all, sample{"request", strings.Join(parts, "")})
	}
	for _, c := range accepted {
		request(c.head, "hello")
		request(c.head, "5\r\nhello\r\n0\r\n\r\n", probe)
	}

	// Framing fields, alone and in pairs, with a body for each way to read them.
	framings := []string{
		"", "Content-Length: 5\r\n", "Content-Length: 0\r\n", "Content-Length: 005\r\n", "content-length:5\r\n", "Content-Length:\t5 \r\n",
		"Content-Length: +5\r\n", "Content-Length: -5\r\n", "Content-Length: 5,5\r\n", "Content-Length: 5, 6\r\n", "Content-Length: 0x5\r\n",
		"Content-Length: 5\r\n 5\r\n", "Content-Length : 5\r\n", "Content-Length\t: 5\r\n", " Content-Length: 5\r\n", "Content-Length: 5\n", "Content-Length: 5\r",
		"Content-Length: \x0b5\r\n", "Content-Length: 5\x00\r\n", "Content_Length: 5\r\n", "Content-Length: \"5\"\r\n", "Content-Length: 5;a\r\n",
		"Content-Length:\r\n", "Content-Length: 99999999999999999999\r\n", "X: a\rContent-Length: 5\r\n", "X: a\nContent-Length: 5\r\n",
		"Transfer-Encoding: chunked\r\n", "transfer-encoding:CHUNKED\r\n", "Transfer-Encoding:\tchunked\t\r\n", "Transfer-Encoding:\tchunked\r\n", "Transfer-Encoding: chunked \r\n", "Transfer-Encoding: chunked  \t\r\n", "Transfer-Encoding : chunked\r\n",
		"Transfer-Encoding: xchunked\r\n", "Transfer-Encoding: chunkedx\r\n", "Transfer-Encoding: identity\r\n", "Transfer-Encoding: identity, chunked\r\n",
		"Transfer-Encoding: chunked, identity\r\n", "Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: chunked, chunked\r\n", "Transfer-Encoding: ,chunked\r\n",
		"Transfer-Encoding: chunked;q=1\r\n", "Transfer-Encoding: \"chunked\"\r\n", "Transfer-Encoding: 'chunked'\r\n", "Transfer-Encoding: \x0bchunked\r\n",
		"Transfer-Encoding: \x0cchunked\r\n", "Transfer-Encoding: chunked\x00\r\n", "Transfer-Encoding:\r\n chunked\r\n", "Transfer-Encoding\r\n: chunked\r\n",
		"Transfer-Encoding: chunked\n", "Transfer-Encoding: chunked\r", "\x00Transfer-Encoding: chunked\r\n", "Transfer-Encoding\x00: chunked\r\n",
		"Transfer_Encoding: chunked\r\n", "Transfer-Encoding: chun\xff\r\n", "X: a\nTransfer-Encoding: chunked\r\n", "X: a\rTransfer-Encoding: chunked\r\n",
		"Foo: bar\r\n\rTransfer-Encoding: chunked\r\n", "TE: chunked\r\n", "Transfer-Encoding:\r\n", "Transfer-Encoding: chunked\r\r\n",
	}
	bodies := []string{"hello" + probe, "5\r\nhello\r\n0\r\n\r\n" + probe, "0\r\n\r\n" + probe}
	for i, first := range framings {
		for _, body := range bodies {
			request("POST /a HTTP/1.1\r\nHost: a\r\n", first, "\r\n", body)
			request("POST /a HTTP/1.0\r\nConnection: keep-alive\r\n", first, "\r\n", body)
			request("GET /a HTTP/1.1\r\n", first, "Host: a\r\nConnection: close\r\n\r\n", body)
			for _, status := range []string{"200 OK", "204 No Content", "304 Not Modified", "101 Switching Protocols"} {
				all = append(all, sample{"GET", "HTTP/1.1 " + status + "\r\n" + first + "\r\n" + body})
			}
			all = append(all, sample{"HEAD", "HTTP/1.1 200 OK\r\n" + first + "\r\n"})
		}
		for j, second := range framings {
			if (i+j)%3 == 0 { // enough of the many
				request("POST /a HTTP/1.1\r\nHost: a\r\n", first, second, "\r\n", bodies[j%len(bodies)])
			}
		}
	}

	// Chunked bodies.
	for _, body := range []string{
		"5\r\nhello\r\n0\r\n\r\n", "05\r\nhello\r\n00\r\n\r\n", "5;a\r\nhello\r\n0;b=c\r\n\r\n", "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n", "5;a=\"\\\"\"\r\nhello\r\n0\r\n\r\n",
		"5 \r\nhello\r\n0\r\n\r\n", "5 ;a\r\nhello\r\n0\r\n\r\n", "5; a\r\nhello\r\n0\r\n\r\n", "5;\r\nhello\r\n0\r\n\r\n", "5;a=\r\nhello\r\n0\r\n\r\n", "5\t\r\nhello\r\n0\r\n\r\n",
		"0x5\r\nhello\r\n0\r\n\r\n", "+5\r\nhello\r\n0\r\n\r\n", "-5\r\nhello\r\n0\r\n\r\n", "5_0\r\nhello\r\n0\r\n\r\n", " 5\r\nhello\r\n0\r\n\r\n",
		"5\nhello\r\n0\r\n\r\n", "5\r\nhello\n0\r\n\r\n", "5\r\nhello0\r\n\r\n", "5\r\nhello\r0\r\n\r\n", "5\rhello\r\n0\r\n\r\n", "5;\nhello\r\n0\r\n\r\n", "5;a\nhello\r\n0\r\n\r\n",
		"5;a\rhello\r\n0\r\n\r\n", "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n", "5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n", "5;\x00\r\nhello\r\n0\r\n\r\n", "5;a=\xff\r\nhello\r\n0\r\n\r\n",
		"5\r\nhello!\r\n0\r\n\r\n", "6\r\nhello\r\n0\r\n\r\n", "0\r\n\r\n", "0\n\n", "0\r\n\n", "0\r\n\r", "0\r\nX: y\r\n\r\n", "0\r\nX : y\r\n\r\n", "0\r\nX: y\n\r\n", "0\r\n X: y\r\n\r\n",
		"0\r\nContent-Length: 5\r\n\r\nhello", "0\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\nHost: b\r\n\r\n", "0\r\nX\r\n\r\n", "0\r\nX: y\r\n z\r\n\r\n",
		"10000000000000005\r\nhello\r\n0\r\n\r\n", "00000000000000005\r\nhello\r\n0\r\n\r\n", "ffffffffffffffff\r\nhello\r\n0\r\n\r\n", "g\r\nhello\r\n0\r\n\r\n", "\r\n0\r\n\r\n",
		"1\r\na\r\n1\r\nb\r\n0\r\n\r\n", "a\r\n0123456789\r\n0\r\n\r\n", "A\r\n0123456789\r\n0\r\n\r\n", "5\r\nhello\r\n", "5\r\nhel", "5\r", "5",
	} {
		request("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", body, probe)
		request("POST /a HTTP/1.1\r\nHost: a\r\nTrailer: X\r\nTransfer-Encoding: chunked\r\n\r\n", body, probe)
		all = append(all, sample{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body})
	}

	// Request lines.
	for _, line := range []string{
		"GET / HTTP/1.1\r\n", "GET  / HTTP/1.1\r\n", "GET /  HTTP/1.1\r\n", "GET / HTTP/1.1 \r\n", " GET / HTTP/1.1\r\n", "GET\t/ HTTP/1.1\r\n", "GET / HTTP/1.1\n", "GET /\r\n",
		"GET / HTTP/1.01\r\n", "GET / HTTP/01.1\r\n", "GET / HTTP/1.2\r\n", "GET / HTTP/2.0\r\n", "GET / http/1.1\r\n", "GET / HTTP/1.1a\r\n", "GET / HTTP/1\r\n", "GET / HTTP/-1.1\r\n",
		"GET /a b HTTP/1.1\r\n", "GET /a\x00b HTTP/1.1\r\n", "GET /a\xffb HTTP/1.1\r\n", "GET /a#b HTTP/1.1\r\n", "GET /a\\b HTTP/1.1\r\n", "GET /%zz HTTP/1.1\r\n", "GET /%00 HTTP/1.1\r\n",
		"GET /%2e%2e/ HTTP/1.1\r\n", "GET /../ HTTP/1.1\r\n", "GET //a HTTP/1.1\r\n", "GET ///a HTTP/1.1\r\n", "GET a HTTP/1.1\r\n", "GET * HTTP/1.1\r\n", "OPTIONS * HTTP/1.1\r\n",
		"GET http://b/ HTTP/1.1\r\n", "GET http://b HTTP/1.1\r\n", "GET http://b?x HTTP/1.1\r\n", "GET HTTP://B:80/ HTTP/1.1\r\n", "GET https://b/ HTTP/1.1\r\n", "GET http://u@b/ HTTP/1.1\r\n",
		"GET http:///a HTTP/1.1\r\n", "GET http://b:x/ HTTP/1.1\r\n", "GET http://[::1]:80/ HTTP/1.1\r\n", "GET http://[::1/ HTTP/1.1\r\n", "GET ftp://b/ HTTP/1.1\r\n", "GET //u@b:99999/ HTTP/1.1\r\n",
		"GET /?{\"a|b\"}^`<> HTTP/1.1\r\n", "GET /a|{}^`\"<> HTTP/1.1\r\n", "G<T / HTTP/1.1\r\n", "PROPFIND / HTTP/1.1\r\n", "get / HTTP/1.1\r\n", "CONNECT a:1 HTTP/1.1\r\n",
		"\r\nGET / HTTP/1.1\r\n", "\r\n\r\nGET / HTTP/1.1\r\n", "\nGET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n",
	} {
		request(line, "Host: a\r\n\r\n", probe)
		request(line, "Host: a\r\nContent-Length: 5\r\n\r\nhello", probe)
	}

	// Fields.
	for _, field := range []string{
		"Host: b\r\n", "Host:\r\n", "Host : a\r\n", "Host: a\r\n b\r\n", "host: b, c\r\n", "X-A: \xc3\xa4\r\n", "X-A: a\x01b\r\n", "X-A: a\x7fb\r\n", "X-A:\r\n", "X-A:   \r\n", "X-A: a\tb\r\n",
		": a\r\n", "X\r\n", "X A: b\r\n", "X(A): b\r\n", "X-\xff: b\r\n", "X@: b\r\n", "X!#$%&'*+-.^_`|~: b\r\n", "Connection: close\r\n", "Connection: keep-alive\r\n", "Connection: close, keep-alive\r\n",
		"Connection: keep-alive\r\nConnection: close\r\n", "Connection: Host\r\n", "Connection: upgrade\r\nUpgrade: h2c\r\n", "Upgrade: websocket\r\n", "Connection: Content-Length\r\n",
		"Proxy-Connection: keep-alive\r\n", "Keep-Alive: timeout=5\r\n", "Expect: 100-continue\r\n", "Expect: x\r\n", "X: a\r\n\tb\r\n", "X: a\r\r\n", "X: \"a\r\n\"\r\n",
	} {
		request("GET /a HTTP/1.1\r\nHost: a\r\n", field, "\r\n", probe)
		request("GET /a HTTP/1.0\r\n", field, "\r\n", probe)
		request("POST /a HTTP/1.1\r\nHost: a\r\n", field, "Content-Length: 5\r\n\r\nhello", probe)
		all = append(all, sample{"GET", "HTTP/1.1 200 OK\r\n" + field + "Content-Length: 5\r\n\r\nhello"})
		all = append(all, sample{"GET", "HTTP/1.0 200 OK\r\n" + field + "\r\nhello"})
	}

	// Status lines.
	for _, line := range []string{
		"HTTP/1.1 200 OK\r\n", "HTTP/1.1 200\r\n", "HTTP/1.1 200 \r\n", "HTTP/1.1  200 OK\r\n", "HTTP/1.1 200 OK\n", "HTTP/1.1 20 OK\r\n", "HTTP/1.1 2000 OK\r\n", "HTTP/1.1 099 OK\r\n",
		"HTTP/1.1 999 x\r\n", "HTTP/1.2 200 OK\r\n", "HTTP/2.0 200 OK\r\n", "http/1.1 200 OK\r\n", "HTTP/1.1 200 a\tb\r\n", "HTTP/1.1 200 \xff\r\n", "HTTP/1.1 200 a\x00\r\n", "\r\nHTTP/1.1 200 OK\r\n",
		"HTTP/1.1 205 Reset Content\r\n", "HTTP/1.1 304 Not Modified\r\n", "HTTP/1.1 204 No Content\r\n", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\n",
	} {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			all = append(all, sample{method, line + "Content-Length: 0\r\n\r\n"})
		}
		all = append(all, sample{"GET", line + "Content-Length: 5\r\n\r\nhello"})
		all = append(all, sample{"GET", line + "\r\nhello"})
	}
	return all
}
