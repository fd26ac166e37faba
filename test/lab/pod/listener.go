package main

import (
	"fmt"
	"net"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/io/proxyproto"
)

// announcedListener reads a PROXY header from each connection, which is then the client's
// that the header names. It waits for one connection at a time: it is for tests.
type announcedListener struct{ net.Listener }

func (l announcedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		h, err := readHeader(c)
		if err != nil {
			fmt.Printf("connection of %s: %v\n", c.RemoteAddr(), err)
			c.Close()
			continue
		}
		return announced{c, h}, nil
	}
}

// readHeader reads byte by byte, so that nothing behind the header is lost.
func readHeader(c net.Conn) (proxyproto.Header, error) {
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
	defer c.SetReadDeadline(time.Time{})
	var got []byte
	for {
		h, n, err := proxyproto.Parse(got)
		if err != nil || n > 0 {
			return h, err
		}
		var one [1]byte
		if _, err := c.Read(one[:]); err != nil {
			return h, err
		}
		got = append(got, one[0])
	}
}

type announced struct {
	net.Conn
	header proxyproto.Header
}

func (c announced) RemoteAddr() net.Addr {
	if !c.header.Named() {
		return c.Conn.RemoteAddr()
	}
	return net.TCPAddrFromAddrPort(c.header.Source)
}
