//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// opening bounds how many connections are opened at a time.
const opening = 32

// idle opens connections, makes one request on each, and leaves them open until it is told
// to end or its time is over.
func idle(o options) (any, error) {
	conns := make([]net.Conn, o.connections)
	var errs [opening]error
	var workers sync.WaitGroup
	for w := range opening {
		workers.Go(func() {
			for i := w; i < len(conns) && errs[w] == nil; i += opening {
				conns[i], errs[w] = open(o)
			}
		})
	}
	workers.Wait()
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	if err := os.WriteFile(o.ready, nil, 0o644); err != nil {
		return nil, err
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, os.Interrupt)
	select {
	case <-end:
	case <-time.After(o.duration):
	}
	// A connection that was closed meanwhile was not measured.
	closed := 0
	for _, c := range conns {
		_ = c.SetReadDeadline(time.Now().Add(time.Microsecond))
		var one [1]byte
		var timeout net.Error
		if _, err := c.Read(one[:]); err != nil && (!errors.As(err, &timeout) || !timeout.Timeout()) {
			closed++
		}
	}
	if closed > 0 {
		return nil, fmt.Errorf("%d of %d idle connections were closed by the proxy", closed, len(conns))
	}
	return map[string]int{"connections": len(conns)}, nil
}

// open makes a connection with one request behind it. It returns the raw connection.
func open(o options) (net.Conn, error) {
	raw, err := net.DialTimeout("tcp", o.address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	_ = raw.(*net.TCPConn).SetLinger(0)
	_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
	switch o.protocol {
	case "http":
		err = request1(raw, o.host)
	case "https":
		err = request1(tls.Client(raw, o.config("http/1.1")), o.host)
	case "h2":
		err = request2(tls.Client(raw, o.config("h2")), o.host)
	default:
		err = fmt.Errorf("-protocol %q: want http, https or h2", o.protocol)
	}
	if err != nil {
		raw.Close()
		return nil, err
	}
	return raw, nil
}

func request1(c net.Conn, host string) error {
	if _, err := fmt.Fprintf(c, "GET /128 HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
		return err
	}
	response, err := http.ReadResponse(bufio.NewReaderSize(c, 512), nil)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// request2 speaks as much HTTP/2 as one request takes.
func request2(c net.Conn, host string) error {
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return err
	}
	f := http2.NewFramer(c, c)
	if err := f.WriteSettings(); err != nil {
		return err
	}
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", host}, {":path", "/128"}} {
		if err := encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			return err
		}
	}
	err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	for err == nil {
		var frame http2.Frame
		if frame, err = f.ReadFrame(); err != nil {
			break
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				err = f.WriteSettingsAck()
			}
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			err = fmt.Errorf("the proxy refused: %v", frame)
		case *http2.DataFrame:
			if frame.StreamEnded() {
				return nil
			}
		}
	}
	return err
}
