//go:build linux

package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// slowHeads begins request heads, and goes on with them now and then.
func (f *flooder) slowHeads() {
	f.keep(6000, f.toPlain, func(i int, c net.Conn) {
		go drain(c)
		if _, err := fmt.Fprintf(c, "GET /128 HTTP/1.1\r\nHost: %s\r\n", webHost); err != nil {
			return
		}
		for line := 0; f.sleep(3 * time.Second); line++ {
			if _, err := fmt.Fprintf(c, "X-%d: a\r\n", line); err != nil {
				return
			}
			f.count("lines", 1)
		}
	})
}

// slowBodies begins request bodies, and goes on with them now and then.
func (f *flooder) slowBodies() {
	f.keep(3000, f.toPlain, func(i int, c net.Conn) {
		go drain(c)
		if _, err := fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 100000\r\n\r\n", bodyHost); err != nil {
			return
		}
		for f.sleep(time.Second) {
			if _, err := io.WriteString(c, "x"); err != nil {
				return
			}
			f.count("bytes", 1)
		}
	})
}

// slowReaders asks for much, and takes it slowly.
func (f *flooder) slowReaders() {
	f.keep(600, f.toPlain, func(i int, c net.Conn) {
		if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			return
		}
		if _, err := fmt.Fprintf(c, "GET /2097152 HTTP/1.1\r\nHost: %s\r\n\r\n", webHost); err != nil {
			return
		}
		buf := make([]byte, 200)
		for f.sleep(time.Second) {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			f.count("bytes", n)
		}
	})
}

// idle opens connections and says nothing.
func (f *flooder) idle() {
	f.keep(6000, f.toBoth, func(i int, c net.Conn) { drain(c) })
}

// hellos begins TLS handshakes that never end.
func (f *flooder) hellos() {
	f.keep(6000, f.toSecure, func(i int, c net.Conn) {
		hello := f.hello
		if i%2 == 0 {
			hello = hello[:6+i%100]
		} else {
			f.count("hellos", 1)
		}
		if _, err := c.Write(hello); err == nil {
			drain(c)
		}
	})
}

// largeHeads sends request heads that are too large, on a connection each.
func (f *flooder) largeHeads() {
	pace := f.pace(600)
	head := fmt.Sprintf("GET /128 HTTP/1.1\r\nHost: %s\r\nX-Large: %s\r\n\r\n", webHost, strings.Repeat("a", 70_000))
	f.workers(60, func(i int) {
		for pace.next() {
			f.connect(i, f.plain, func(_ int, c net.Conn) {
				if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
					return
				}
				n, err := io.WriteString(c, head)
				if f.count("bytes", n); err == nil {
					f.count("heads", 1)
				}
				drain(c)
			})
		}
	})
}

// workers runs so many (of all attackers) side by side.
func (f *flooder) workers(n int, work func(i int)) {
	for i := range f.share(n) {
		f.running.Go(func() { work(i) })
	}
	f.running.Wait()
}

// costlyPath is an expression near the proxy's bound, which is tried on every byte of a path.
const costlyPath = "/(.{0,400}x){2}end"

// expression asks for a path that an expression has to be tried on.
func (f *flooder) expression() {
	request := fmt.Sprintf("GET /%s HTTP/1.1\r\nHost: %s\r\n\r\n", strings.Repeat("a", 300), expressionHost)
	f.requests(60, 300, func() string { return request })
}

// passwords asks with passwords that are wrong, each another.
func (f *flooder) passwords() {
	f.requests(90, 150, func() string {
		word := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "ann:%d", time.Now().UnixNano()))
		return fmt.Sprintf("GET /128 HTTP/1.1\r\nHost: %s\r\nAuthorization: Basic %s\r\n\r\n", passwordHost, word)
	})
}

// requests sends requests at a rate on kept connections.
func (f *flooder) requests(connections, rate int, request func() string) {
	pace := f.pace(rate)
	f.keep(connections, f.toPlain, func(i int, c net.Conn) {
		r := bufio.NewReader(c)
		for pace.next() {
			if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
				return
			}
			if _, err := io.WriteString(c, request()); err != nil {
				return
			}
			f.count("requests", 1)
			response, err := http.ReadResponse(r, nil)
			if err != nil {
				return
			}
			f.count(fmt.Sprintf("status %d", response.StatusCode), 1)
			if _, err := io.Copy(io.Discard, response.Body); err != nil || response.Close {
				return
			}
		}
	})
}
