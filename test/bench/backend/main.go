//go:build linux

// Command backend answers every HTTP/1.1 request with a fixed response as cheaply as one
// thread can, so that the benchmark measures the proxy and not this. It understands just what
// proxies send to it: requests without bodies. The path's first element is the size of the
// body in bytes: /128, /16384/x.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

func main() {
	port := flag.Int("port", 8080, "port to listen on, IPv4")
	flag.Parse()
	runtime.LockOSThread()
	log.Fatal(serve(*port))
}

type connection struct {
	in  []byte // received, no whole head yet
	out []byte // not yet sent
}

// serve ends only with an error.
func serve(port int) error {
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.Bind(listener, &unix.SockaddrInet4{Port: port}); err != nil {
		return fmt.Errorf("bind port %d: %w", port, err)
	}
	if err := unix.Listen(listener, 4096); err != nil {
		return err
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	watch := func(fd int, events uint32) error {
		return unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
	}
	if err := watch(listener, unix.EPOLLIN); err != nil {
		return err
	}
	connections := make(map[int]*connection)
	events := make([]unix.EpollEvent, 512)
	buffer := make([]byte, 64<<10)
	for {
		n, err := unix.EpollWait(epoll, events, -1)
		if err == unix.EINTR {
			continue
		} else if err != nil {
			return err
		}
		for _, event := range events[:n] {
			fd := int(event.Fd)
			if fd == listener {
				for {
					client, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
					if err != nil {
						break // EAGAIN, or the client is gone already
					}
					_ = unix.SetsockoptInt(client, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
					connections[client] = &connection{}
					if err := watch(client, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLET|unix.EPOLLRDHUP); err != nil {
						return err
					}
				}
				continue
			}
			if c := connections[fd]; c != nil && !c.serve(fd, buffer) {
				delete(connections, fd)
				unix.Close(fd)
			}
		}
	}
}

// serve reads and answers until the socket would block. It reports whether the connection
// goes on.
func (c *connection) serve(fd int, buffer []byte) bool {
	for {
		n, err := unix.Read(fd, buffer)
		if err == unix.EAGAIN {
			break
		}
		if err != nil || n == 0 {
			return false
		}
		if len(c.in) == 0 {
			rest := c.answer(buffer[:n])
			c.in = append(c.in, rest...)
		} else {
			c.in = append(c.in, buffer[:n]...)
			rest := c.answer(c.in)
			c.in = append(c.in[:0], rest...)
		}
		if n < len(buffer) {
			break // what comes later makes a new event
		}
	}
	for len(c.out) > 0 {
		n, err := unix.Write(fd, c.out)
		if err == unix.EAGAIN {
			return true
		}
		if err != nil {
			return false
		}
		c.out = c.out[n:]
	}
	c.out = c.out[:0]
	return true
}

var responses = make(map[string][]byte)

// answer queues a response for each whole request and returns what is left.
func (c *connection) answer(in []byte) []byte {
	for {
		end := bytes.Index(in, []byte("\r\n\r\n"))
		if end < 0 {
			return in
		}
		_, path, _ := bytes.Cut(in[:end], []byte(" /"))
		size, _, _ := bytes.Cut(path, []byte(" "))
		size, _, _ = bytes.Cut(size, []byte("/"))
		response, known := responses[string(size)]
		if !known {
			response = newResponse(string(size))
			responses[string(size)] = response
		}
		if len(c.out) == 0 {
			c.out = response // not copied: it is only ever cut from the front
		} else {
			c.out = append(bytes.Clone(c.out), response...)
		}
		in = in[end+4:]
	}
}

func newResponse(size string) []byte {
	n, err := strconv.Atoi(size)
	if err != nil || n < 0 || n > 64<<20 {
		return []byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
	}
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"+
		"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n", n)
	return append([]byte(head), bytes.Repeat([]byte{'x'}, n)...)
}
