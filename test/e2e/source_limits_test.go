//go:build linux

package e2e

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestSourceLimits: one source floods, with datagrams and then with connections. It gets what
// its limits allow, another client on the same wire is answered all along, and the flood's
// source is served again when it stops.
func TestSourceLimits(t *testing.T) {
	s := balancedSite(t, "--source-packets-per-second", "1000", "--source-connections-per-second", "20", "--source-connections-burst", "40")
	vip := netip.AddrPortFrom(s.lab.VIP4, 80)

	stop := make(chan struct{})
	var asked, failed atomic.Int64
	var client sync.WaitGroup
	client.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			asked.Add(1)
			if r, err := s.do("GET", "http://"+webHost+"/", nil); err != nil || r.Status != 200 {
				failed.Add(1)
			}
		}
	})

	const datagrams = 20_000
	must(t, s.lab.Client.Do(func() error {
		conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(balancerAddress)}, net.UDPAddrFromAddrPort(vip))
		if err != nil {
			return err
		}
		defer conn.Close()
		for range datagrams {
			_, _ = conn.Write(make([]byte, 64)) // refused: nobody listens
		}
		return nil
	}))
	if n := s.counted("kg_ingress/rate_packets"); n < datagrams/2 {
		t.Errorf("of %d datagrams as fast as can be %d were dropped", datagrams, n)
	}

	dial := func(timeout time.Duration) error {
		return s.lab.Client.Do(func() error {
			dialer := net.Dialer{Timeout: timeout, LocalAddr: &net.TCPAddr{IP: net.ParseIP(balancerAddress)}}
			conn, err := dialer.Dial("tcp", vip.String())
			if err != nil {
				return err
			}
			return conn.Close()
		})
	}
	time.Sleep(1100 * time.Millisecond) // what the datagrams used up
	var refused atomic.Int64
	var flood sync.WaitGroup
	for range 10 {
		flood.Go(func() {
			for range 15 {
				if dial(100*time.Millisecond) != nil {
					refused.Add(1)
				}
			}
		})
	}
	flood.Wait()
	if n, dropped := refused.Load(), s.counted("kg_ingress/rate_connections"); n < 20 || n > 110 || dropped == 0 {
		t.Errorf("of 150 connections %d did not come about (%d SYNs dropped), want about 80", n, dropped)
	}
	close(stop)
	client.Wait()
	if failed.Load() > 0 || asked.Load() < 20 {
		t.Errorf("the other client: %d of %d requests failed", failed.Load(), asked.Load())
	}
	if err := dial(10 * time.Second); err != nil {
		t.Errorf("after the flood: %v", err)
	}
}
