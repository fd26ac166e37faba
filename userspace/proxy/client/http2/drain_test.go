package http2_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestDrainInTwoSteps: requests that cross the first GOAWAY are answered, later ones are not.
func TestDrainInTwoSteps(t *testing.T) {
	release := make(chan struct{})
	p := one(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		<-release
		io.WriteString(w, r.URL.Path)
	}))
	c := connect(t, p)
	c.request(1, true, "GET", "/1")
	time.Sleep(50 * time.Millisecond)
	p.Loop.Submit(p.Server.Drain)
	if g := c.goAway(); g.ErrCode != http2.ErrCodeNo || g.LastStreamID != 1<<31-1 {
		t.Fatalf("first step: %v", g)
	}
	c.request(3, true, "GET", "/3") // sent before the client knew
	ping, err := c.ReadFrame()
	if f, ok := ping.(*http2.PingFrame); err != nil || !ok || f.IsAck() {
		t.Fatalf("%v %v, want a PING", ping, err)
	}
	c.WritePing(true, ping.(*http2.PingFrame).Data)
	if g := c.goAway(); g.ErrCode != http2.ErrCodeNo || g.LastStreamID != 3 {
		t.Fatalf("second step: %v", g)
	}
	c.request(5, true, "GET", "/5")
	if a := c.take(5)[5]; !a.wasReset || a.reset != http2.ErrCodeRefusedStream {
		t.Errorf("a request after the second step: %+v", a)
	}
	close(release)
	got := c.take(1, 3)
	if string(got[1].body) != "/1" || string(got[3].body) != "/3" {
		t.Errorf("%+v %+v", got[1], got[3])
	}
	if f, err := c.ReadFrame(); err != io.EOF {
		t.Errorf("after the last answer: %v %v, want the end", f, err)
	}
	calm(t, p)
}

// TestDrainWithoutPing: a client that does not answer the PING is told all the same.
func TestDrainWithoutPing(t *testing.T) {
	p := one(t, says(t, "HTTP/1.1 204 No Content\r\n\r\n"))
	c := connect(t, p)
	c.get(1, "/")
	p.Loop.Submit(p.Server.Drain)
	c.goAway()
	if g := c.goAway(); g.LastStreamID != 1 {
		t.Errorf("%v", g)
	}
	if _, err := c.ReadFrame(); err != io.EOF {
		t.Errorf("%v, want the end", err)
	}
	calm(t, p)
}

// TestDrainLosesNothing: a client in full swing notices nothing but new connections.
func TestDrainLosesNothing(t *testing.T) {
	backend := pod(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	old, next := one(t, backend), one(t, backend)
	var to atomic.Pointer[string]
	to.Store(&old.Address)
	c := client(t)
	c.Transport.(*http.Transport).DialContext = dialTo(&to)
	var wg sync.WaitGroup
	var done atomic.Int64
	stop := make(chan struct{})
	for range 20 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := c.Get("http://a.test/")
				if err != nil {
					t.Error(err)
					return
				}
				if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "ok" {
					t.Errorf("%q %v", b, err)
				}
				resp.Body.Close()
				done.Add(1)
			}
		})
	}
	for done.Load() < 500 {
		time.Sleep(time.Millisecond)
	}
	to.Store(&next.Address)
	old.Loop.Submit(old.Server.Drain)
	calm(t, old)
	before := done.Load()
	for done.Load() < before+500 {
		time.Sleep(time.Millisecond)
	}
	close(stop)
	wg.Wait()
}

// TestCloseIdle: an idle connection is told, one with a request under way is left alone.
func TestCloseIdle(t *testing.T) {
	release := make(chan struct{})
	p := one(t, rawPod(t, func(c net.Conn, in *bufio.Reader, head string) {
		<-release
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}))
	busy, idle := connect(t, p), connect(t, p)
	busy.request(1, true, "GET", "/")
	busy.WritePing(false, [8]byte{1})
	idle.WritePing(false, [8]byte{1})
	for _, c := range []*raw{busy, idle} {
		for {
			f, err := c.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := f.(*http2.PingFrame); ok {
				break
			}
		}
	}
	if open, active := p.Stats.Open.Load(), p.Stats.Active.Load(); open != 2 || active != 1 {
		t.Errorf("%d open, %d active", open, active)
	}
	p.Loop.Submit(p.Server.CloseIdle)
	if g := idle.goAway(); g.ErrCode != http2.ErrCodeNo {
		t.Errorf("%v", g)
	}
	if _, err := idle.ReadFrame(); err != io.EOF {
		t.Errorf("%v, want the end", err)
	}
	close(release)
	if a := busy.take(1)[1]; string(a.body) != "ok" {
		t.Errorf("%+v", a)
	}
	p.Loop.Submit(p.Server.CloseAll)
	calm(t, p)
}

// TestClientGone: exchanges end when their client's connection does.
func TestClientGone(t *testing.T) {
	gone := make(chan error, 2)
	p := unbuffered(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		if err == nil { // there was none
			<-r.Context().Done()
			err = r.Context().Err()
		}
		gone <- err
	}))
	c := connect(t, p)
	c.request(1, true, "GET", "/")
	c.request(3, false, "POST", "/")
	c.WriteData(3, false, []byte("x"))
	time.Sleep(100 * time.Millisecond)
	c.Close()
	for range 2 {
		select {
		case <-gone:
		case <-time.After(5 * time.Second):
			t.Fatal("the pod still works for a client that has gone")
		}
	}
	calm(t, p)
}

// TestReset: one request is taken back, the others go on.
func TestReset(t *testing.T) {
	gone := make(chan struct{})
	p := one(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
			close(gone)
			return
		}
		fmt.Fprint(w, "ok")
	}))
	c := connect(t, p)
	c.request(1, true, "GET", "/hang")
	c.get(3, "/")
	c.WriteRSTStream(1, http2.ErrCodeCancel)
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Fatal("the pod was not told")
	}
	if a := c.get(5, "/"); string(a.body) != "ok" {
		t.Errorf("%+v", a)
	}
}
