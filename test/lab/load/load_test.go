package load_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab/load"
)

func start(server *httptest.Server, o load.Options) *load.Run {
	o.Dial = func(ctx context.Context) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "tcp", server.Listener.Addr().String())
	}
	return load.Start(o)
}

func waitRequests(t *testing.T, run *load.Run, n int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); run.Requests() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("only %d requests", run.Requests())
		}
	}
}

// Every second request on a connection is broken off without an answer: exactly these fail,
// and none is repeated.
func TestEveryFailureIsCounted(t *testing.T) {
	var asked, broken atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1)%10 == 0 {
			broken.Add(1)
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("X-Pod", "a")
	}))
	defer server.Close()
	run := start(server, load.Options{Connections: 3, Requests: []load.Request{{Host: "example.com", Path: "/"}}})
	waitRequests(t, run, 200)
	report := run.Stop()
	if int64(report.Requests) != asked.Load() || int64(report.Failed) != broken.Load() || broken.Load() == 0 {
		t.Errorf("server: %d asked, %d broken; report: %s", asked.Load(), broken.Load(), report)
	}
	if report.Answered["a"] != report.Requests-report.Failed {
		t.Errorf("answered: %v", report.Answered)
	}
	for why := range report.Reasons {
		if !strings.HasPrefix(why, "no answer on a") {
			t.Errorf("reason %q", why)
		}
	}
}

func TestWrongAnswersAreFailures(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/missing" {
			http.Error(w, "no-route", http.StatusNotFound)
		}
	}))
	defer server.Close()
	run := start(server, load.Options{Connections: 2, Requests: []load.Request{
		{Host: "example.com", Path: "/missing"},
		{Host: "example.com", Path: "/missing", Status: http.StatusNotFound},
		{Host: "example.com", Path: "/", Check: func(http.Header, []byte) error { return fmt.Errorf("not what it was") }},
	}})
	waitRequests(t, run, 60)
	report := run.Stop()
	if report.Reasons["status 404: no-route"] == 0 || report.Reasons["wrong answer: not what it was"] == 0 ||
		report.Failed == report.Requests || report.Connections < report.Failed {
		t.Errorf("report: %s", report)
	}
}

// A close that the server announces is no failure: the next request goes on a new connection.
func TestAnnouncedCloseIsNoFailure(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
	}))
	defer server.Close()
	run := start(server, load.Options{Connections: 2, Rate: 500, Requests: []load.Request{{Host: "example.com", Path: "/"}}})
	waitRequests(t, run, 20)
	report := run.Stop()
	if report.Failed != 0 || report.Announced != report.Requests || report.Connections != report.Requests {
		t.Errorf("report: %s", report)
	}
}
