package upstream_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// wire is a pod's end of a connection, to do things to it that no server does.
type wire struct {
	*http2.Framer
	conn net.Conn
	buf  bytes.Buffer
	enc  *hpack.Encoder
	n    int64  // of the connection, from 1
	last uint32 // stream that has begun
}

// headers writes a head of name, value pairs.
func (w *wire) headers(id uint32, end bool, fields ...string) error {
	w.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		w.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return w.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: w.buf.Bytes(), EndStream: end, EndHeaders: true})
}

// request reads frames up to the next request's head and returns its stream.
func (w *wire) request() (uint32, error) {
	for {
		f, err := w.ReadFrame()
		if err != nil {
			return 0, err
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			w.last = f.StreamID
			return f.StreamID, nil
		case *http2.GoAwayFrame:
			return 0, fmt.Errorf("GOAWAY %v", f.ErrCode)
		case *http2.RSTStreamFrame:
			if f.StreamID > w.last {
				return 0, fmt.Errorf("RST_STREAM of stream %d, which has not begun", f.StreamID)
			}
		}
	}
}

// wirePod runs a script on each connection behind the exchange of SETTINGS.
func wirePod(t testing.TB, settings []http2.Setting, script func(w *wire)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var n atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(20 * time.Second))
				w := &wire{conn: c, Framer: http2.NewFramer(c, c), n: n.Add(1)}
				w.AllowIllegalWrites = true
				w.enc = hpack.NewEncoder(&w.buf)
				preface := make([]byte, len(http2.ClientPreface))
				if _, err := io.ReadFull(c, preface); err != nil {
					return
				}
				w.WriteSettings(settings...)
				script(w)
			}()
		}
	}()
	return l.Addr().String()
}

// drain reads until the connection ends, and returns the last GOAWAY's code.
func (w *wire) drain() (code http2.ErrCode, said bool) {
	for {
		f, err := w.ReadFrame()
		if err != nil {
			return code, said
		}
		if f, ok := f.(*http2.GoAwayFrame); ok {
			code, said = f.ErrCode, true
		}
	}
}

// outcome sends a request and returns what the client got: the body, or an error.
func outcome(t *testing.T, p *proxytest.Proxy, method string) (status int, body string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	q, _ := http.NewRequestWithContext(ctx, method, "http://"+p.Address+"/x", nil)
	r, err := client(t).Do(q)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, string(b), err
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// load is what the proxy, generation 1 of at most 256 backends, counts of its first pod.
func load(p *proxytest.Proxy) *abi.BackendLoad { return &p.View.Loads[256+1] }

// inFlight returns how many requests the pod is counted to have, failures how many it failed.
func inFlight(p *proxytest.Proxy) uint32 { return atomic.LoadUint32(&load(p).InFlight) }
func failures(p *proxytest.Proxy) uint64 { return atomic.LoadUint64(&load(p).Failures) }
