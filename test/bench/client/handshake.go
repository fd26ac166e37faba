//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// handshakeResult is what the benchmark reads.
type handshakeResult struct {
	Handshakes int
	Seconds    float64
	P50, P99   time.Duration // of TCP connect and handshake
}

// handshakes makes one connection after the other, on several at a time, until the time is
// over: handshake, then a proper end of both sides, so that the server has done its part too.
func handshakes(o options) (*handshakeResult, error) {
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	var workers sync.WaitGroup
	begin := time.Now()
	for range o.connections {
		workers.Go(func() {
			config := o.config("http/1.1")
			if o.resume {
				config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			}
			var took []time.Duration
			var err error
			for n := 0; err == nil && time.Since(begin) < o.duration; n++ {
				var d time.Duration
				// The first brings the ticket for the second.
				if d, err = handshake(o.address, config, o.resume && n > 0); err == nil && (n > 0 || !o.resume) {
					took = append(took, d)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			failed = errors.Join(failed, err)
		})
	}
	workers.Wait()
	if failed != nil {
		return nil, failed
	}
	if len(all) == 0 {
		return nil, errors.New("no handshake was made in time")
	}
	slices.Sort(all)
	return &handshakeResult{
		Handshakes: len(all), Seconds: time.Since(begin).Seconds(),
		P50: all[len(all)/2], P99: all[len(all)*99/100],
	}, nil
}

func handshake(address string, config *tls.Config, wantResumed bool) (time.Duration, error) {
	begin := time.Now()
	raw, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return 0, err
	}
	defer raw.Close()
	// Closing leaves no port behind in TIME_WAIT: there are 28,000, and more connections.
	_ = raw.(*net.TCPConn).SetLinger(0)
	_ = raw.SetDeadline(begin.Add(10 * time.Second))
	c := tls.Client(raw, config)
	if err := c.HandshakeContext(context.Background()); err != nil {
		return 0, fmt.Errorf("handshake: %w", err)
	}
	took := time.Since(begin)
	if c.ConnectionState().DidResume != wantResumed {
		return 0, fmt.Errorf("resumed: %t, want %t", !wantResumed, wantResumed)
	}
	if err := c.CloseWrite(); err != nil {
		return 0, err
	}
	// Brings the session ticket, which comes after the handshake, and the server's end, which
	// some servers make a reset.
	_, _ = io.Copy(io.Discard, c)
	return took, nil
}
