package names

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// dns is a DNS server on loopback that answers as it is told.
type dns struct {
	questions atomic.Int32 // for addresses of IPv4
	silent    atomic.Bool
	code      atomic.Int32 // a dnsmessage.RCode
	address   atomic.Pointer[netip.Addr]
}

func (d *dns) set(a string) {
	address := netip.MustParseAddr(a)
	d.address.Store(&address)
}

func (d *dns) answer(question []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		return nil, err
	}
	m.Additionals, m.Response, m.RCode = nil, true, dnsmessage.RCode(d.code.Load())
	if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
		d.questions.Add(1)
		if m.RCode == dnsmessage.RCodeSuccess {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1},
				Body:   &dnsmessage.AResource{A: d.address.Load().As4()},
			}}
		}
	}
	return m.Pack()
}

// serve begins to answer, and returns a cache that asks here, at the time of the clock.
func serve(t *testing.T) (*dns, *Cache, func(time.Duration)) {
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &dns{}
	d.set("192.0.2.1")
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, from, err := l.ReadFrom(buf)
			if err != nil {
				return
			}
			if d.silent.Load() {
				continue
			}
			if answer, err := d.answer(buf[:n]); err == nil {
				l.WriteTo(answer, from)
			}
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	var ahead atomic.Int64
	c := &Cache{
		Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "udp", l.LocalAddr().String())
		}},
		now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
	}
	return d, c, func(by time.Duration) { ahead.Add(int64(by)) }
}

// gets looks the name up and wants an address, "" for an error.
func gets(t *testing.T, c *Cache, want string) error {
	t.Helper()
	addresses, err := c.Lookup(t.Context(), "auth.test.")
	if got := strings.Trim(fmt.Sprint(addresses), "[]"); got != want || (err != nil) != (want == "") {
		t.Errorf("the name leads to %q (%v), want %q", got, err, want)
	}
	return err
}

func TestLookup(t *testing.T) {
	d, c, pass := serve(t)
	asked := func(want int32) {
		t.Helper()
		if got := d.questions.Swap(0); got != want {
			t.Errorf("%d questions, want %d", got, want)
		}
	}
	// Many at once are one question.
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { gets(t, c, "192.0.2.1") })
	}
	all.Wait()
	asked(1)
	d.set("192.0.2.2")
	pass(Fresh - time.Second)
	gets(t, c, "192.0.2.1")
	asked(0)
	pass(2 * time.Second)
	gets(t, c, "192.0.2.2")
	asked(1)

	// A server that has nothing to say changes nothing for a while, and is left alone
	// for a moment.
	d.code.Store(int32(dnsmessage.RCodeServerFailure))
	pass(Fresh)
	gets(t, c, "192.0.2.2")
	d.questions.Store(0)
	gets(t, c, "192.0.2.2")
	asked(0)
	if n := c.Stats.Stale.Load(); n != 2 {
		t.Errorf("%d stale answers are counted, want 2", n)
	}
	d.silent.Store(true)
	pass(Again)
	began := time.Now()
	gets(t, c, "192.0.2.2")
	if took := time.Since(began); took > Limit+time.Second {
		t.Errorf("a silent server holds things up for %v", took)
	}
	pass(Stale)
	gets(t, c, "")
	d.silent.Store(false)
	d.code.Store(0)
	gets(t, c, "") // not asked again yet
	pass(Again)
	gets(t, c, "192.0.2.2")

	// That a name is gone is an answer.
	d.code.Store(int32(dnsmessage.RCodeNameError))
	pass(Fresh)
	gets(t, c, "")
	d.questions.Store(0)
	gets(t, c, "")
	asked(0)
	d.code.Store(0)
	pass(Again)
	gets(t, c, "192.0.2.2")
	asked(1)
	if found, missing, failed := c.Stats.Found.Load(), c.Stats.Missing.Load(), c.Stats.Failed.Load(); found != 4 || missing != 1 || failed != 3 {
		t.Errorf("counted: %d found, %d missing, %d failed; want 4, 1, 3", found, missing, failed)
	}
}

// TestLookupGivenUp: who does not want to know any more does not wait, and those who come
// later get what the question has brought.
func TestLookupGivenUp(t *testing.T) {
	d, c, _ := serve(t)
	d.silent.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Lookup(ctx, "auth.test."); err != context.DeadlineExceeded {
		t.Errorf("the error is %v, want that of the context", err)
	}
	if err := gets(t, c, ""); err == context.DeadlineExceeded {
		t.Error("the error of one is that of another")
	}
}

func TestManyNames(t *testing.T) {
	_, c, _ := serve(t)
	for i := range maxNames + 10 {
		c.mu.Lock()
		c.name(fmt.Sprint(i))
		c.mu.Unlock()
	}
	if n := len(c.names); n > maxNames {
		t.Errorf("%d names are kept, want at most %d", n, maxNames)
	}
	gets(t, c, "192.0.2.1")
}

// TestDial: the first address that answers is it, and one that says nothing does not hold
// the others up.
func TestDial(t *testing.T) {
	d, c, _ := serve(t)
	d.set("127.0.0.1")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, host := range []string{"auth.test.", "127.0.0.1"} {
		conn, err := c.Dial(t.Context(), "tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	for _, others := range [][]string{{"127.9.9.9", "127.9.9.8"}, {"127.9.9.9"}, {}} {
		var addresses []netip.Addr
		for _, a := range append(others, "127.0.0.1") {
			addresses = append(addresses, netip.MustParseAddr(a))
		}
		conn, err := race(t.Context(), "tcp", addresses, port)
		if err != nil {
			t.Fatalf("%v: %v", addresses, err)
		}
		conn.Close()
	}
	if _, err := race(t.Context(), "tcp", []netip.Addr{netip.MustParseAddr("127.9.9.9")}, port); err == nil {
		t.Error("a connection where nobody listens")
	}

	// A listener whose queue is full says nothing.
	silent := full(t, "127.9.9.9:"+port)
	began := time.Now()
	conn, err := race(t.Context(), "tcp", []netip.Addr{silent, netip.MustParseAddr("127.0.0.1")}, port)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if took := time.Since(began); took < headStart || took > 4*time.Second {
		t.Errorf("a silent address holds things up for %v, want about %v", took, headStart)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := race(ctx, "tcp", []netip.Addr{silent}, port); err == nil {
		t.Error("a connection that nobody has answered")
	}
}
