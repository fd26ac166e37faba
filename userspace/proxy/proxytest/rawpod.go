package proxytest

import (
	"bufio"
	"net"
	"strings"
	"testing"
)

// RawPod listens on loopback until the test ends, serves each connection by f, and returns its
// address.
func RawPod(t testing.TB, f func(c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
	return l.Addr().String()
}

// ReadHead reads the head of an HTTP/1.1 message, with its empty line.
func ReadHead(in *bufio.Reader) (string, error) {
	var head strings.Builder
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		line, err := in.ReadString('\n')
		if err != nil {
			return "", err
		}
		head.WriteString(line)
	}
	return head.String(), nil
}
