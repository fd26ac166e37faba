package http1

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/proxy/message"
)

const (
	curlHead = "GET /intro HTTP/1.1\r\n" +
		"Host: host.example.com\r\n" +
		"User-Agent: curl/8.5.0\r\n" +
		"Accept: */*\r\n" +
		"Accept-Encoding: gzip\r\n\r\n"

	browserHead = "GET /articles/2026/11/some-title?utm_source=feed&page=2 HTTP/1.1\r\n" +
		"Host: www.example.com\r\n" +
		"Connection: keep-alive\r\n" +
		"Cache-Control: max-age=0\r\n" +
		"Upgrade-Insecure-Requests: 1\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n" +
		"Referer: https://www.example.com/articles/2026/11/\r\n" +
		"Accept-Encoding: gzip, deflate, br\r\n" +
		"Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n" +
		"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=1\r\n\r\n"

	responseHead = "HTTP/1.1 200 OK\r\n" +
		"Server: nginx/1.22.1\r\n" +
		"Date: Sun, 22 Nov 2026 10:00:00 GMT\r\n" +
		"Content-Type: text/html; charset=utf-8\r\n" +
		"Content-Length: 128\r\n" +
		"Connection: keep-alive\r\n" +
		"ETag: \"64b0c5a1-80\"\r\n\r\n"
)

func BenchmarkRequest(b *testing.B) {
	for _, c := range []struct{ name, head string }{{"curl", curlHead}, {"browser", browserHead}} {
		buf := []byte(c.head)
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			var r Request
			for b.Loop() {
				if n, err := r.Parse(buf, message.DefaultLimits); n != len(buf) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
		b.Run(c.name+"/net-http", func(b *testing.B) {
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			source := bytes.NewReader(buf)
			reader := bufio.NewReaderSize(source, 4096)
			for b.Loop() {
				source.Reset(buf)
				reader.Reset(source)
				if _, err := http.ReadRequest(reader); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkResponse(b *testing.B) {
	buf := []byte(responseHead)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	var r Response
	for b.Loop() {
		if n, err := r.Parse(buf, message.DefaultLimits, message.MethodGet); n != len(buf) || err != nil {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkAppendEndToEnd(b *testing.B) {
	var r Request
	if _, err := r.Parse([]byte(browserHead), message.DefaultLimits); err != nil {
		b.Fatal(err)
	}
	skip := message.Fields(message.FieldHost, message.FieldXForwardedFor, message.FieldXForwardedProto, message.FieldXForwardedHost)
	dst := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendRequestLine(dst[:0], r.Method, r.Path, r.Query)
		dst = AppendEndToEnd(dst, r.Fields, skip)
	}
}

func BenchmarkChunked(b *testing.B) {
	for _, c := range []struct {
		name string
		size int
	}{{"16", 16}, {"4096", 4096}} {
		body := []byte(strings.Repeat(string(AppendChunkHeader(nil, c.size))+strings.Repeat("x", c.size)+ChunkEnd, 16) + LastChunk)
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			var d Chunked
			for b.Loop() {
				d.Reset()
				for n := 0; !d.Done(); {
					_, used, _, err := d.Decode(body[n:])
					if err != nil {
						b.Fatal(err)
					}
					n += used
				}
			}
		})
	}
}
