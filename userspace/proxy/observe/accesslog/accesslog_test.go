package accesslog_test

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/observe/accesslog"
)

// ended makes an exchange as it is at its end.
func ended(t testing.TB, sample uint32, head string) *exchange.Exchange {
	t.Helper()
	snapshot, err := config.Empty().Apply(&feedpb.Config{Version: 1, Snapshot: true, Settings: &feedpb.Settings{AccessLogSample: sample}})
	if err != nil {
		t.Fatal(err)
	}
	loop, err := reactor.New(reactor.Stats{})
	if err != nil {
		t.Fatal(err)
	}
	w := &exchange.Worker{Loop: loop, Config: new(atomic.Pointer[config.Snapshot]), Rand: rand.NewChaCha8([32]byte{})}
	w.Config.Store(snapshot)
	r := new(http1.Request)
	if n, err := r.Parse([]byte(head), message.Limits{}); n == 0 || err != nil {
		t.Fatal(n, err)
	}
	x := new(exchange.Exchange)
	x.Init(w, nil, &r.Request, &exchange.Connection{
		Client: netip.MustParseAddrPort("192.0.2.1:1234"), Local: netip.MustParseAddrPort("192.0.2.2:80"),
	})
	x.Outcome.Status = 200
	return x
}

// TestOneLinePerRequest: whatever a client sends, a request is one line of valid JSON that
// says what was sent.
func TestOneLinePerRequest(t *testing.T) {
	var out bytes.Buffer
	l := accesslog.New(&out)
	b := l.Buffer()
	paths := []string{"/plain", `/quo"te\back`, "/%0a%0d", "/\xc3\xa4", "/\xff\xfe", "/" + strings.Repeat("x", 3000)}
	n := 0
	for _, p := range paths {
		head := "GET " + p + "?q=%22 HTTP/1.1\r\nHost: a.example\r\nX-Request-ID: id-1\r\n\r\n"
		if c := new(http1.Request); func() bool { _, err := c.Parse([]byte(head), message.Limits{}); return err != nil }() {
			continue // the parser's business
		}
		x := ended(t, 1, head)
		b.Log(x, x.Outcome.Start+1500_000, 42)
		n++
	}
	b.Flush()
	l.Close()
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if n < 3 || len(lines) != n {
		t.Fatalf("%d lines for %d requests", len(lines), n)
	}
	for _, line := range lines {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if m["client"] != "192.0.2.1:1234" || m["host"] != "a.example" || m["request_id"] != "id-1" ||
			m["duration_us"] != 1500.0 || m["bytes_out"] != 42.0 || m["reason"] != "forwarded" {
			t.Errorf("%v", m)
		}
	}
}

func TestSampling(t *testing.T) {
	for sample, want := range map[uint32]int{0: 0, 1: 100, 10: 10} {
		var out bytes.Buffer
		l := accesslog.New(&out)
		b := l.Buffer()
		x := ended(t, sample, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		for range 100 {
			b.Log(x, 0, 0)
		}
		b.Flush()
		l.Close()
		if n := bytes.Count(out.Bytes(), []byte("\n")); n != want {
			t.Errorf("sample %d: %d lines of 100 requests, want %d", sample, n, want)
		}
	}
}

// TestNeverBlocks: with a writer that hangs, lines are dropped and counted, and none is
// lost without being counted.
func TestNeverBlocks(t *testing.T) {
	r, w := io.Pipe()
	l := accesslog.New(w)
	b := l.Buffer()
	x := ended(t, 1, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	const requests = 50_000
	for range requests {
		b.Log(x, 0, 0)
	}
	if l.Dropped.Load() == 0 {
		t.Fatal("nothing was dropped though nobody reads")
	}
	read := make(chan int)
	go func() {
		out, _ := io.ReadAll(r)
		read <- bytes.Count(out, []byte("\n"))
	}()
	for b.Flush(); b.Held() > 0; b.Flush() {
	}
	l.Close()
	w.Close()
	if got := <-read + int(l.Dropped.Load()); got != requests {
		t.Errorf("%d lines written or counted as dropped, want %d", got, requests)
	}
}
