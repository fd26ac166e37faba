package http2_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

const large = 20_000_000 // bytes of a body

// spooling starts a proxy that keeps bodies above testBound bytes in files.
func spooling(t *testing.T, policy *feedpb.Policy) *proxytest.Proxy {
	t.Helper()
	return proxytest.Start(t, []proxytest.Service{{
		Name: "default/a:80", Path: "/", Backends: []string{pod(t, proxytest.SumPod)}, Policy: policy,
	}}, &feedpb.Settings{RequestBufferBytes: proto.Uint64(testBound)})
}

// uploadTo sends a body without a length, and returns the answer.
func uploadTo(t testing.TB, c *http.Client, url string, b io.Reader) (int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "POST", url, struct{ io.Reader }{b})
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, string(text)
}

// TestSpools: bodies of unknown length that are too large for memory reach the pod whole, with
// their length, several at once by one connection. Meanwhile the proxy's memory is bounded.
func TestSpools(t *testing.T) {
	p := spooling(t, nil)
	d := p.Spool(t, 128<<20)
	c := client(t)
	const streams = 3
	var most, files atomic.Int64
	var wg sync.WaitGroup
	for i := range streams {
		wg.Go(func() {
			size := int64(large + i)
			b := proxytest.NewBody(size)
			b.Before = func(int64) {
				most.Store(max(most.Load(), p.Metrics.BodyMemory.Load()))
				files.Store(max(files.Load(), d.Files()))
			}
			if status, got := uploadTo(t, c, "http://"+p.Address, b); status != 200 || got != proxytest.SumOf(size) {
				t.Errorf("%d %q", status, got)
			}
		})
	}
	wg.Wait()
	// Each has what is gathered before, and a piece on its way to the file or from it.
	if n := most.Load(); n < testBound || n > streams*(testBound+2*256<<10+80<<10) {
		t.Errorf("the bodies took %d bytes of memory", n)
	}
	if files.Load() == 0 {
		t.Error("there was no file")
	}
	p.NothingHeld(t)
	if n := p.Metrics.Gathered[exchange.GatheredSpooled].Load(); n != streams {
		t.Errorf("%d bodies were spooled", n)
	}
}

// TestPagesWhileGathering: the service for error pages answers in place of 411, 413 and 507
// while the body is still coming.
func TestPagesWhileGathering(t *testing.T) {
	pages := pod(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "page for %s", r.Header.Get("X-Code"))
	})
	for _, status := range []uint32{411, 413, 507} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			policy := &feedpb.Policy{ErrorPages: &feedpb.ErrorPages{Status: []uint32{status}, Service: 60}}
			if status == 413 {
				policy.MaxBodyBytes = proto.Uint64(50_000)
			}
			p := spooling(t, policy)
			if status == 507 {
				p.Spool(t, 64<<20).SetWrite(func(int, [][]byte, int64) (int, error) { return 0, unix.ENOSPC })
			}
			p.Backend(t, 60, pages)
			if got, text := uploadTo(t, client(t), "http://"+p.Address, proxytest.NewBody(2_000_000)); got != http.StatusTeapot || text != fmt.Sprintf("page for %d", status) {
				t.Errorf("%d %q", got, text)
			}
			p.NothingHeld(t)
		})
	}
}

// TestDrainWhileGathering: a proxy that is replaced waits for bodies that it gathers, in memory
// and in files.
func TestDrainWhileGathering(t *testing.T) {
	p := spooling(t, nil)
	d := p.Spool(t, 64<<20)
	c := client(t)
	type result struct {
		size int64
		got  string
	}
	results, goOn := make(chan result, 2), make(chan bool)
	for _, size := range []int64{80_000, large} {
		go func() {
			b := proxytest.NewBody(size)
			waited := false
			b.Before = func(sent int64) {
				if !waited && sent >= size/2 {
					<-goOn
					waited = true
				}
			}
			_, got := uploadTo(t, c, "http://"+p.Address, b)
			results <- result{size, got}
		}()
	}
	for deadline := time.Now().Add(20 * time.Second); d.Files() != 1 || p.Metrics.BodyMemory.Load() < 30_000; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d files, %d bytes of memory", d.Files(), p.Metrics.BodyMemory.Load())
		}
	}
	p.OnLoop(func() {
		p.Server.Drain()
		p.Server.StopListening()
		p.Server.CloseIdle()
	})
	close(goOn)
	for range 2 {
		if r := <-results; r.got != proxytest.SumOf(r.size) {
			t.Errorf("%d bytes: %q", r.size, r.got)
		}
	}
}

// TestStreamsBesideSlowDisk: while the disk does not answer for one stream, the others of its
// connection go on; one that is reset meanwhile leaves nothing behind.
func TestStreamsBesideSlowDisk(t *testing.T) {
	p := spooling(t, nil)
	d := p.Spool(t, 64<<20)
	stuck, goOn := make(chan bool, 1), make(chan bool)
	d.SetWrite(func(fd int, pieces [][]byte, offset int64) (int, error) {
		stuck <- true
		<-goOn
		return unix.Pwritev(fd, pieces, offset)
	})
	c := connect(t, p)
	c.request(1, false, "POST", "/")
	for sent := 0; sent < 65_000; sent += 13_000 { // a stream's first window
		c.WriteData(1, false, make([]byte, 13_000))
	}
	// The window that is given back lets the rest pass.
	for sent := 65_000; sent < 130_000; {
		f, err := c.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if w, ok := f.(*http2.WindowUpdateFrame); ok && w.StreamID == 1 {
			for range w.Increment / 13_000 {
				c.WriteData(1, false, make([]byte, 13_000))
				sent += 13_000
			}
		}
	}
	<-stuck
	c.request(3, false, "POST", "/")
	c.WriteData(3, true, []byte("x"))
	if a := c.take(3)[3]; string(a.body) != "length 1, 1 bytes, sum 2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" {
		t.Errorf("%+v", a)
	}
	c.WriteRSTStream(1, http2.ErrCodeCancel)
	c.request(5, true, "GET", "/")
	c.take(5)
	close(goOn)
	p.NothingHeld(t)
}
