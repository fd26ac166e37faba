package server_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkHandshakeFlood measures how long requests of open connections take while clients
// say hello as fast as they can, and compute nothing themselves.
func BenchmarkHandshakeFlood(b *testing.B) {
	for _, kind := range []struct {
		name  string
		suite uint16
	}{
		{"ECDSA", tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		{"RSA", tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
	} {
		for _, budget := range []time.Duration{time.Hour, 4 * time.Millisecond, time.Millisecond, 250 * time.Microsecond} {
			name := kind.name + "/budget=" + budget.String()
			if budget == time.Hour {
				name = kind.name + "/no-budget"
			}
			b.Run(name, func(b *testing.B) { benchmarkFlood(b, kind.suite, budget) })
		}
		b.Run(kind.name+"/no-flood", func(b *testing.B) { benchmarkFlood(b, 0, time.Millisecond) })
	}
}

func benchmarkFlood(b *testing.B, suite uint16, budget time.Duration) {
	s := startSite(b, nil)
	s.Loop.Submit(func() { s.Server.SetHandshakeBudget(budget) })
	latencies := make([][]time.Duration, 16)
	begin := make(chan struct{})
	var open sync.WaitGroup
	for i := range latencies {
		conn, err := s.connect("a.test", nil)
		if err != nil {
			b.Fatal(err)
		}
		conn.SetDeadline(time.Time{})
		open.Go(func() {
			<-begin
			latencies[i] = requests(b, conn, b.N/len(latencies)+1)
		})
	}
	var hellos atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	if suite != 0 {
		hello := helloFor(b, s, suite)
		for range 200 {
			wg.Go(func() { flood(s.Address, hello, &hellos, stop) })
		}
	}
	b.ResetTimer()
	close(begin)
	open.Wait()
	b.StopTimer()
	elapsed := b.Elapsed()
	close(stop)
	wg.Wait()
	all := slices.Concat(latencies...)
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-us")
	b.ReportMetric(float64(hellos.Load())/elapsed.Seconds(), "hellos/s")
	b.ReportMetric(0, "ns/op")
}

// requests asks n times, with a pause that leaves the machine idle without a flood.
func requests(b *testing.B, conn net.Conn, n int) (took []time.Duration) {
	r := bufio.NewReader(conn)
	for range n {
		time.Sleep(5 * time.Millisecond)
		began := time.Now()
		io.WriteString(conn, get("a.test", "/"))
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			b.Error(err)
			return took
		}
		io.Copy(io.Discard, resp.Body)
		took = append(took, time.Since(began))
	}
	return took
}

// helloFor records a ClientHello of TLS 1.2 with one suite, which decides the certificate.
func helloFor(b *testing.B, s *site, suite uint16) []byte {
	client, server := net.Pipe()
	go tls.Client(client, &tls.Config{ServerName: "a.test", MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}, InsecureSkipVerify: true}).Handshake()
	buf := make([]byte, 16<<10)
	n, err := server.Read(buf)
	if err != nil {
		b.Fatal(err)
	}
	server.Close()
	return buf[:n]
}

// flood says hello, again and again, and goes away when the answer begins.
func flood(address string, hello []byte, count *atomic.Int64, stop chan struct{}) {
	one := make([]byte, 1)
	for {
		select {
		case <-stop:
			return
		default:
		}
		c, err := net.Dial("tcp", address)
		if err != nil {
			continue
		}
		c.SetDeadline(time.Now().Add(5 * time.Second))
		c.Write(hello)
		if _, err := c.Read(one); err == nil {
			count.Add(1)
		}
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

// BenchmarkIdle measures what connections take that wait for their next request, after one.
func BenchmarkIdle(b *testing.B) {
	for _, encrypted := range []bool{false, true} {
		name := "clear"
		if encrypted {
			name = "tls"
		}
		b.Run(name, func(b *testing.B) { benchmarkIdle(b, encrypted) })
	}
}

func benchmarkIdle(b *testing.B, encrypted bool) {
	const connections = 9_000 // both ends are ours, and 20,000 descriptors allowed
	s := startSite(b, nil)
	if !encrypted {
		s.config.Settings.HttpsPorts = nil
		s.apply(s.config)
	}
	one, before := idle(b, s, encrypted), heap()
	_ = one
	open := make([]int, 0, connections)
	for range connections {
		open = append(open, idle(b, s, encrypted))
	}
	after := heap()
	b.ReportMetric(float64(after-before)/connections, "B/connection")
	b.ReportMetric(0, "ns/op")
	for _, fd := range append(open, one) {
		unix.Close(fd)
	}
	for range b.N { // measured once; the time means nothing
	}
}

// idle opens a connection, has one request answered and keeps nothing of it but the socket.
func idle(b *testing.B, s *site, encrypted bool) int {
	raw, err := net.Dial("tcp", s.Address)
	if err != nil {
		b.Fatal(err)
	}
	conn := raw
	if encrypted {
		conn = tls.Client(raw, &tls.Config{ServerName: "a.test", InsecureSkipVerify: true})
	}
	fmt.Fprint(conn, get("a.test", "/"))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		b.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	file, err := raw.(*net.TCPConn).File()
	if err != nil {
		b.Fatal(err)
	}
	raw.Close()
	fd, err := unix.Dup(int(file.Fd()))
	if err != nil {
		b.Fatal(err)
	}
	file.Close()
	return fd
}

// heap returns what is in use, stacks included, after the garbage is gone.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
