// Package load sends a steady and bounded stream of HTTP/1.1 requests over keep-alive
// connections and accounts for every one of them. It repeats nothing: a connection that is
// closed under a request is a failed request, unless the server had announced the close.
package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Options describes the stream.
type Options struct {
	Dial        func(ctx context.Context) (net.Conn, error)
	Connections int
	Rate        float64       // requests per second, of all connections together; 0: as fast as answers come
	Limit       time.Duration // ends the stream at the latest; 0: one minute
	Requests    []Request     // sent in turn, each connection beginning elsewhere
	ReopenEvery int           // requests after which a connection is replaced; 0: never
}

// Request is one kind of request.
type Request struct {
	Method     string // "": GET
	Host, Path string
	Body       string
	Status     int // expected; 0: 200
	// Check may look closer at the answer; its error is the failure's reason.
	Check func(header http.Header, body []byte) error
}

// Run is a stream under way.
type Run struct {
	cancel  context.CancelFunc
	done    sync.WaitGroup
	started time.Time

	mu     sync.Mutex
	report Report
	times  []time.Duration
}

// Report is what a stream came to.
type Report struct {
	Requests    int            // with an outcome
	Failed      int            // of these
	Reasons     map[string]int // of failures
	First       []string       // the first failures, with their time since the start
	Answered    map[string]int // by header X-Pod
	Connections int            // opened
	Announced   int            // closed by the server after "Connection: close"
	Duration    time.Duration
	P50, P99    time.Duration // from sending to the answer's last byte
	Max         time.Duration
}

// Start begins a stream. Stop must be called.
func Start(o Options) *Run {
	if o.Limit == 0 {
		o.Limit = time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.Limit)
	r := &Run{cancel: cancel, started: time.Now()}
	r.report.Reasons = make(map[string]int)
	r.report.Answered = make(map[string]int)
	for i := range o.Connections {
		r.done.Add(1)
		go func() {
			defer r.done.Done()
			r.connection(ctx, o, i)
		}()
	}
	return r
}

// Stop lets every request under way finish and returns the account.
func (r *Run) Stop() Report {
	r.cancel()
	r.done.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	report := r.report
	report.Duration = time.Since(r.started)
	slices.Sort(r.times)
	if n := len(r.times); n > 0 {
		report.P50, report.P99, report.Max = r.times[n/2], r.times[n*99/100], r.times[n-1]
	}
	return report
}

// Requests returns how many requests have an outcome so far.
func (r *Run) Requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report.Requests
}

// Failed returns how many requests have failed so far.
func (r *Run) Failed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report.Failed
}

// connection sends requests one after the other, on one connection at a time.
func (r *Run) connection(ctx context.Context, o Options, index int) {
	var pace <-chan time.Time
	if o.Rate > 0 {
		interval := time.Duration(float64(time.Second) * float64(o.Connections) / o.Rate)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		pace = ticker.C
		// Spread the connections evenly over the interval.
		select {
		case <-time.After(interval * time.Duration(index) / time.Duration(o.Connections)):
		case <-ctx.Done():
			return
		}
	}
	var client *client
	defer func() {
		if client != nil {
			client.conn.Close()
		}
	}()
	for n := index; ctx.Err() == nil; n++ {
		if pace != nil {
			select {
			case <-pace:
			case <-ctx.Done():
				return
			}
		}
		if client != nil && o.ReopenEvery > 0 && client.sent >= o.ReopenEvery {
			client.conn.Close()
			client = nil
		}
		begin := time.Now()
		if client == nil {
			// Not with ctx: its end must not make this request fail.
			dialCtx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			conn, err := o.Dial(dialCtx)
			cancel()
			if err != nil {
				r.failed("connect: " + reason(err))
				pauseAfterFailure(ctx)
				continue
			}
			client = newClient(conn)
			r.opened()
		}
		response, err := client.do(o.Requests[n%len(o.Requests)])
		if err != nil {
			r.failed(err.Error())
			client.conn.Close()
			client = nil
			pauseAfterFailure(ctx)
			continue
		}
		r.succeeded(response, time.Since(begin))
		if response.Close {
			client.conn.Close()
			client = nil
		}
	}
}

// pauseAfterFailure keeps a broken server from being flooded with attempts, and the account
// from being flooded with failures.
func pauseAfterFailure(ctx context.Context) {
	select {
	case <-time.After(10 * time.Millisecond):
	case <-ctx.Done():
	}
}

type client struct {
	conn net.Conn
	in   *bufio.Reader
	sent int
}

func newClient(conn net.Conn) *client { return &client{conn: conn, in: bufio.NewReader(conn)} }

// do sends a request and reads its answer. The error's text is a failure's reason.
func (c *client) do(request Request) (*http.Response, error) {
	method := request.Method
	if method == "" {
		method = http.MethodGet
	}
	_ = c.conn.SetDeadline(time.Now().Add(15 * time.Second))
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: kerngate-load\r\n", method, request.Path, request.Host)
	if request.Body != "" {
		head += fmt.Sprintf("Content-Length: %d\r\n", len(request.Body))
	}
	reused := c.sent > 0
	c.sent++
	if _, err := io.WriteString(c.conn, head+"\r\n"+request.Body); err != nil {
		return nil, fmt.Errorf("write%s: %s", onReused(reused), reason(err))
	}
	if _, err := c.in.Peek(1); err != nil {
		return nil, fmt.Errorf("no answer%s: %s", onReused(reused), reason(err))
	}
	response, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		return nil, fmt.Errorf("answer's head: %s", reason(err))
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("answer's body: %s", reason(err))
	}
	expected := request.Status
	if expected == 0 {
		expected = http.StatusOK
	}
	if response.StatusCode != expected {
		return nil, fmt.Errorf("status %d: %s", response.StatusCode, firstLine(body))
	}
	if request.Check != nil {
		if err := request.Check(response.Header, body); err != nil {
			return nil, fmt.Errorf("wrong answer: %w", err)
		}
	}
	return response, nil
}

func onReused(reused bool) string {
	if reused {
		return " on a kept connection"
	}
	return " on a new connection"
}

func firstLine(body []byte) string {
	line, _, _ := strings.Cut(string(body[:min(len(body), 80)]), "\n")
	return line
}

// reason makes errors of the same kind equal: it leaves addresses and ports out.
func reason(err error) string {
	var errno syscall.Errno
	var timeout net.Error
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "closed in the middle"
	case errors.Is(err, io.EOF):
		return "closed"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "time-out"
	case errors.As(err, &errno):
		return errno.Error()
	}
	return err.Error()
}

func (r *Run) opened() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Connections++
}

func (r *Run) succeeded(response *http.Response, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Requests++
	r.report.Answered[response.Header.Get("X-Pod")]++
	r.times = append(r.times, took)
	if response.Close {
		r.report.Announced++
	}
}

func (r *Run) failed(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Requests++
	r.report.Failed++
	r.report.Reasons[why]++
	if len(r.report.First) < 5 {
		r.report.First = append(r.report.First, fmt.Sprintf("%s: %s", time.Since(r.started).Round(time.Millisecond), why))
	}
}

// String is the account in a few lines.
func (r Report) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%d requests in %.1f s (%.0f/s), %d failed, %d connections (%d closes announced), p50 %s, p99 %s, max %s",
		r.Requests, r.Duration.Seconds(), float64(r.Requests)/r.Duration.Seconds(), r.Failed, r.Connections, r.Announced,
		r.P50.Round(10*time.Microsecond), r.P99.Round(10*time.Microsecond), r.Max.Round(10*time.Microsecond))
	for _, why := range slices.Sorted(maps.Keys(r.Reasons)) {
		fmt.Fprintf(&text, "\n  %d x %s", r.Reasons[why], why)
	}
	for _, first := range r.First {
		fmt.Fprintf(&text, "\n  at %s", first)
	}
	return text.String()
}
