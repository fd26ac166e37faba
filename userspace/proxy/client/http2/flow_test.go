package http2_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestFairness: small responses do not wait for a large one to end. They come in between,
// though the client's windows would let all of the large one through first.
func TestFairness(t *testing.T) {
	big := bigPod(t)
	small := says(t, "HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n"+strings.Repeat("s", 20000))
	p := one(t, rawPod(t, func(c net.Conn, in *bufio.Reader, head string) {
		to := small
		if strings.HasPrefix(head, "GET /big ") {
			to = big
		}
		up, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer up.Close()
		io.WriteString(up, head)
		if to == small {
			io.CopyN(c, up, int64(len("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n")+20000))
			return
		}
		io.Copy(c, up)
	}))
	c := connect(t, p, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	c.WriteWindowUpdate(0, 1<<30)
	c.request(1, true, "GET", "/big")
	got := 0
	for got < 1<<20 {
		f, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := f.(*http2.DataFrame); ok {
			got += len(d.Data())
		}
	}
	for id := uint32(3); id < 43; id += 2 {
		c.request(id, true, "GET", "/small")
	}
	for done := 0; done < 20; {
		f, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := f.(*http2.DataFrame); ok {
			if d.StreamID == 1 {
				if got += len(d.Data()); d.StreamEnded() || got > 60<<20 {
					t.Fatalf("%d small responses have come when %d bytes of the large one had", done, got)
				}
			} else if d.StreamEnded() {
				done++
			}
		}
	}
	t.Logf("20 small responses came within %d KiB of the large one", got>>10)
}

// TestUploadWindow: a pod that does not read a body holds up its stream and no other one,
// and no more is kept of it than the window that the client was given.
func TestUploadWindow(t *testing.T) {
	const size = 32 << 20 // more than the kernel's buffers hold
	var read atomic.Bool
	begin := make(chan struct{})
	p := one(t, rawPod(t, func(c net.Conn, in *bufio.Reader, head string) {
		if strings.HasPrefix(head, "GET") {
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
			return
		}
		<-begin
		read.Store(true)
		n, _ := io.CopyN(io.Discard, in, size)
		if n == size {
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	}))
	c := connect(t, p)
	c.request(1, false, "POST", "/", "content-length", fmt.Sprint(size))
	stream, conn, sent := 65536, 65535, 0 // the windows
	frames := make(chan http2.Frame)
	go func() {
		defer close(frames)
		for {
			f, err := c.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.WindowUpdateFrame:
				again := *f
				frames <- &again
			case *http2.HeadersFrame:
				again := *f
				frames <- &again
			}
		}
	}()
	block := make([]byte, 16384)
	answered := false
	send := func(patience time.Duration) {
		for sent < size {
			if n := min(stream, conn, len(block), size-sent); n > 0 {
				if err := c.WriteData(1, sent+n == size, block[:n]); err != nil {
					t.Fatal(err)
				}
				stream, conn, sent = stream-n, conn-n, sent+n
				continue
			}
			select {
			case f := <-frames:
				if w, ok := f.(*http2.WindowUpdateFrame); ok {
					if w.StreamID == 1 {
						stream += int(w.Increment)
					} else {
						conn += int(w.Increment)
					}
				}
			case <-time.After(patience):
				return
			}
		}
	}
	before := heap()
	send(300 * time.Millisecond)
	if read.Load() || sent == size {
		t.Fatalf("%d bytes went to a pod that reads nothing", sent)
	}
	if after := heap(); after > before+1<<20 {
		t.Errorf("heap grew from %d to %d KiB", before>>10, after>>10)
	}
	t.Logf("%d KiB were taken for a pod that reads nothing, most of them by the kernel", sent>>10)
	// Others are served meanwhile.
	c.request(3, true, "GET", "/")
	for !answered {
		switch f := (<-frames).(type) {
		case *http2.HeadersFrame:
			answered = f.StreamID == 3
		case nil:
			t.Fatal("the connection has ended")
		}
	}
	close(begin)
	send(10 * time.Second)
	for {
		f, ok := <-frames
		if !ok {
			t.Fatal("no answer to the upload")
		}
		if h, ok := f.(*http2.HeadersFrame); ok && h.StreamID == 1 {
			return
		}
	}
}

// TestConcurrentUploads: many bodies at a time, each as its own.
func TestConcurrentUploads(t *testing.T) {
	p := one(t, pod(t, echo))
	c := client(t)
	done := make(chan string)
	for i := range 30 {
		go func() {
			sent := bytes.Repeat([]byte{byte(i)}, 300_000+i)
			req, _ := http.NewRequest("PUT", "http://"+p.Address+"/", bytes.NewReader(sent))
			resp, err := c.Do(req)
			if err != nil {
				done <- err.Error()
				return
			}
			got, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(got, sent) {
				done <- "another body came back"
				return
			}
			done <- ""
		}()
	}
	for range 30 {
		if s := <-done; s != "" {
			t.Error(s)
		}
	}
}
