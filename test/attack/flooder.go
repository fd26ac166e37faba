//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// flooder is one attacker: a process on a host with several addresses.
type flooder struct {
	ctx           context.Context
	plain, secure netip.AddrPort
	sources       []netip.Addr
	parts         int // the attack is divided among so many

	hello   []byte   // a whole ClientHello
	packets [][]byte // Initial packets of QUIC

	running sync.WaitGroup
	mu      sync.Mutex
	counts  map[string]int64
}

func (f *flooder) count(name string, n int) {
	f.mu.Lock()
	f.counts[name] += int64(n)
	f.mu.Unlock()
}

// wait waits until everything that was started has ended.
func (f *flooder) wait() { f.running.Wait() }

// share is this attacker's part of a number.
func (f *flooder) share(n int) int { return max(1, n/f.parts) }

// dialRate bounds how many connections all attackers open per second.
const dialRate = 3000

// again is how long an attacker waits before it comes back after a connection has ended.
const again = 50 * time.Millisecond

// keep has n connections (of all attackers) open until the context ends: one that ends is opened
// again. use is what happens on each; the connection is closed when it returns, or with the context.
func (f *flooder) keep(n int, to func(i int) netip.AddrPort, use func(i int, c net.Conn)) {
	n = f.share(n)
	pace := f.pace(dialRate)
	for i := range n {
		f.running.Go(func() {
			for pace.next() {
				f.connect(i, to(i), use)
				f.sleep(again)
			}
		})
	}
	f.running.Wait()
}

func (f *flooder) connect(i int, to netip.AddrPort, use func(i int, c net.Conn)) {
	c, err := f.dial(i, to)
	if err != nil {
		return
	}
	stop := context.AfterFunc(f.ctx, func() { c.Close() })
	use(i, c)
	stop()
	c.Close()
}

// dial connects from one of the attacker's addresses.
func (f *flooder) dial(i int, to netip.AddrPort) (net.Conn, error) {
	dialer := net.Dialer{
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(f.sources[i%len(f.sources)], 0)),
		Timeout:   2 * time.Second,
		Control: func(_, _ string, raw syscall.RawConn) (err error) {
			return errors.Join(raw.Control(func(fd uintptr) {
				// Else ports run out: the port is chosen before the other end is known.
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
			}), err)
		},
	}
	c, err := dialer.DialContext(f.ctx, "tcp", to.String())
	if err != nil {
		switch {
		case f.ctx.Err() != nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			f.count("not accepted", 1)
		default:
			var number syscall.Errno
			if errors.As(err, &number) {
				f.count(unix.ErrnoName(number), 1)
			}
		}
		return nil, err
	}
	f.count("connections", 1)
	return c, nil
}

func (f *flooder) toPlain(int) netip.AddrPort  { return f.plain }
func (f *flooder) toSecure(int) netip.AddrPort { return f.secure }

func (f *flooder) toBoth(i int) netip.AddrPort {
	if i%2 == 0 {
		return f.plain
	}
	return f.secure
}

// sleep reports whether the attack goes on.
func (f *flooder) sleep(d time.Duration) bool {
	select {
	case <-f.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// drain reads until the connection ends.
func drain(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// pacer lets so many through per second, of all goroutines that ask it.
type pacer struct {
	f     *flooder
	every time.Duration
	mu    sync.Mutex
	due   time.Time
}

// pace makes a pacer for this attacker's part of a rate per second.
func (f *flooder) pace(rate int) *pacer {
	return &pacer{f: f, every: time.Second / time.Duration(f.share(rate)), due: time.Now()}
}

// next waits for one's turn. It reports false once the attack is over.
func (p *pacer) next() bool { return p.take(1) }

// take is next for n at once.
func (p *pacer) take(n int) bool {
	p.mu.Lock()
	now := time.Now()
	if p.due.Before(now.Add(-100 * time.Millisecond)) {
		p.due = now // what was missed is not made up for
	}
	wait := p.due.Sub(now)
	p.due = p.due.Add(time.Duration(n) * p.every)
	p.mu.Unlock()
	if wait > 0 {
		return p.f.sleep(wait)
	}
	return p.f.ctx.Err() == nil
}

// prepare makes what an attack sends.
func (f *flooder) prepare(a *attack) (err error) {
	if f.hello, err = clientHello(); err != nil || a.prepare == nil {
		return err
	}
	return a.prepare(f)
}

// clientHello returns the record that crypto/tls sends first.
func clientHello() ([]byte, error) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go func() {
		_ = tls.Client(ours, &tls.Config{ServerName: webHost, InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}).Handshake()
	}()
	buf := make([]byte, 16<<10)
	n, err := io.ReadAtLeast(theirs, buf, 200)
	if err != nil {
		return nil, err
	}
	size := 5 + int(buf[3])<<8 + int(buf[4])
	if n < size {
		if _, err := io.ReadFull(theirs, buf[n:size]); err != nil {
			return nil, err
		}
	}
	return buf[:size], nil
}
