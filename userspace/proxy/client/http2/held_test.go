package http2_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// uploader is a client that keeps to its windows and knows what they are.
type uploader struct {
	*raw
	conn    int
	windows map[uint32]int
	resets  map[uint32]http2.ErrCode
	status  map[uint32]string
}

func newUploader(t testing.TB, p *proxytest.Proxy) *uploader {
	return &uploader{connect(t, p), 65535, map[uint32]int{}, map[uint32]http2.ErrCode{}, map[uint32]string{}}
}

func (u *uploader) post(id uint32, path string, more ...string) {
	u.t.Helper()
	u.windows[id] = 64 << 10
	u.SetDeadline(time.Now().Add(20 * time.Second))
	if err := u.request(id, false, "POST", path, more...); err != nil {
		u.t.Fatal(err)
	}
}

// read takes in one frame, which comes within patience.
func (u *uploader) read(patience time.Duration) error {
	u.SetReadDeadline(time.Now().Add(patience))
	f, err := u.ReadFrame()
	if err != nil {
		return err
	}
	switch f := f.(type) {
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			u.conn += int(f.Increment)
		} else {
			u.windows[f.StreamID] += int(f.Increment)
		}
	case *http2.RSTStreamFrame:
		u.resets[f.StreamID] = f.ErrCode
	case *http2.HeadersFrame:
		list, err := u.dec.DecodeFull(f.HeaderBlockFragment())
		if err != nil {
			return err
		}
		u.status[f.StreamID] = list[0].Value
	case *http2.GoAwayFrame:
		return fmt.Errorf("GOAWAY %v %s", f.ErrCode, f.DebugData())
	}
	return nil
}

// send sends n bytes, as windows let it. It returns how many it could not send because no window
// was opened for as long as patience, or because the stream was reset.
func (u *uploader) send(id uint32, n int, end bool, patience time.Duration) (left int) {
	u.t.Helper()
	block := make([]byte, 16384)
	for n > 0 {
		if m := min(u.conn, u.windows[id], len(block), n); m > 0 {
			if err := u.WriteData(id, end && m == n, block[:m]); err != nil {
				u.t.Fatal(err)
			}
			u.conn, u.windows[id], n = u.conn-m, u.windows[id]-m, n-m
			continue
		}
		if _, reset := u.resets[id]; reset || u.read(patience) != nil {
			return n
		}
	}
	return 0
}

// await reads until the stream is answered, and returns the status.
func (u *uploader) await(id uint32) string {
	u.t.Helper()
	for u.status[id] == "" {
		if err := u.read(20 * time.Second); err != nil {
			u.t.Fatalf("stream %d is not answered: %v", id, err)
		}
	}
	return u.status[id]
}

func h2Service(pods ...string) []proxytest.Service {
	return []proxytest.Service{{
		Name: "default/a:80", Path: "/", Backends: pods, Upstream: &feedpb.Upstream{Protocol: feedpb.Upstream_HTTP2},
	}}
}

// TestStalledUploads: pods that do not read the bodies of some requests stop no other request of
// the connection, whether they have never read or have read for long, so that the windows of
// these streams have grown.
func TestStalledUploads(t *testing.T) {
	for _, c := range []struct {
		name           string
		streams, first int
	}{
		{"from the beginning", 120, 0},
		{"after a while", 20, 4 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := proxytest.Start(t, h2Service(proxytest.ReadsPod(t)), nil)
			u := newUploader(t, p)
			id := uint32(1)
			for range c.streams {
				u.post(id, fmt.Sprintf("/?read=%d", c.first))
				// What the pod reads, and then as much as anybody takes.
				if left := u.send(id, c.first, false, 10*time.Second); left > 0 {
					t.Fatalf("stream %d: %d bytes could not be sent for a pod that reads them", id, left)
				}
				if c.first == 0 {
					u.send(id, 128<<10, false, 10*time.Second) // half of it is the pod's window
				} else {
					u.send(id, 4<<20, false, 100*time.Millisecond)
				}
				if u.conn < 16<<10 && u.read(10*time.Second) != nil {
					t.Fatalf("the connection's window is shut after stream %d", id)
				}
				id += 2
			}
			u.post(id, "/")
			if left := u.send(id, 300_000, true, 10*time.Second); left > 0 {
				t.Fatalf("%d bytes of a body could not be sent while other streams are stalled", left)
			}
			if got := u.await(id); got != "200" {
				t.Errorf("status %s", got)
			}
			held := p.Metrics.BodiesHeld.Bytes()
			if most := int64(c.streams)*(64<<10) + 2<<20; held == 0 || held > most {
				t.Errorf("%d bytes are held, want at most %d", held, most)
			}
			u.Close()
			calm(t, p)
			for end := time.Now().Add(10 * time.Second); p.Metrics.BodiesHeld.Bytes() != 0; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%d bytes are held for nobody", p.Metrics.BodiesHeld.Bytes())
				}
			}
		})
	}
}

// TestBodiesHeld: what is held of all bodies is bounded. A connection that holds the most of it
// loses streams; others go on.
func TestBodiesHeld(t *testing.T) {
	const bound = 1 << 20
	p := proxytest.Start(t, h2Service(proxytest.ReadsPod(t)), &feedpb.Settings{RequestBufferTotal: bound})
	honest := newUploader(t, p)
	honest.post(1, "/?read=0") // stalled, too, but small
	honest.send(1, 96<<10, false, 10*time.Second)
	for range 6 {
		u := newUploader(t, p)
		for i := range uint32(120) {
			u.post(2*i+1, "/?read=0")
			if u.send(2*i+1, 128<<10, false, 300*time.Millisecond) > 0 && u.conn == 0 || len(u.resets) > 3 {
				break // no more is taken
			}
		}
		for id, code := range u.resets {
			if code != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("stream %d was reset by %v", id, code)
			}
		}
	}
	// Nobody has had more than the bound and what all of them may add until it is noticed.
	if held := p.Metrics.BodiesHeld.Bytes(); held < bound || held > 2*bound+7*(1<<20) {
		t.Errorf("%d KiB are held, with a bound of %d", held>>10, bound>>10)
	}
	if p.Metrics.Ended[exchange.BuffersFull].Load() == 0 {
		t.Error("no stream was given up for want of memory")
	}
	for id := uint32(3); id < 20; id += 2 {
		honest.post(id, "/")
		if left := honest.send(id, 200_000, true, 10*time.Second); left > 0 {
			t.Fatalf("stream %d: %d bytes could not be sent by one who holds little; resets: %v", id, left, honest.resets)
		}
		if got := honest.await(id); got != "200" {
			t.Errorf("status %s", got)
		}
	}
}
