package cluster

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// answers gives each request the next answer: a status, or no answer at all (0).
type answers struct {
	next []int
	sent int
}

func (a *answers) RoundTrip(*http.Request) (*http.Response, error) {
	status := a.next[min(a.sent, len(a.next)-1)]
	a.sent++
	if status == 0 {
		return nil, syscall.ECONNREFUSED
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Body: io.NopCloser(strings.NewReader("{}"))}, nil
}

// TestOutage: lists and watches wait for the API server; what it says when it is well, and every
// other request, is passed on at once.
func TestOutage(t *testing.T) {
	const list = "http://api/apis/networking.k8s.io/v1/ingresses?limit=500&resourceVersion=0"
	for _, c := range []struct {
		name, method, url string
		next              []int
		status, sent      int
	}{
		{"a list", "GET", list, []int{0, 0, 503, 429, 200}, 200, 5},
		{"a watch", "GET", "http://api/api/v1/services?allowWatchBookmarks=true&watch=true", []int{0, 500, 200}, 200, 3},
		{"it does not know its rules yet", "GET", list, []int{0, 403, 401, 200}, 200, 4},
		{"one resource fails", "GET", list, []int{500, 200}, 500, 1},
		{"forbidden", "GET", list, []int{403, 200}, 403, 1},
		{"too old a version", "GET", list, []int{410, 200}, 410, 1},
		{"one object", "GET", "http://api/api/v1/namespaces/a/secrets/b", []int{0}, 0, 1},
		{"a write", "PUT", list, []int{503}, 503, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			connection := &Connection{URL: "api", wait: time.Millisecond, log: zerolog.New(&log)}
			server := &answers{next: c.next}
			r, err := http.NewRequestWithContext(t.Context(), c.method, c.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := connection.patient(server).RoundTrip(r)
			if c.status == 0 {
				if !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("%v, want the error at once", err)
				}
			} else if err != nil || response.StatusCode != c.status {
				t.Errorf("%v, %v; want %d", response, err, c.status)
			}
			if server.sent != c.sent {
				t.Errorf("%d requests, want %d", server.sent, c.sent)
			}
			if said := strings.Count(log.String(), "does not answer") + strings.Count(log.String(), "answers again"); c.sent > 1 && said != 2 {
				t.Errorf("log %s: want one line for the outage and one for its end", &log)
			}
		})
	}
}

// TestOutageEnds: who waits for the API server may give up.
func TestOutageEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	connection := &Connection{wait: time.Hour, log: zerolog.Nop()}
	r, err := http.NewRequestWithContext(ctx, "GET", "http://api/api/v1/services?watch=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := connection.patient(&answers{next: []int{0}}).RoundTrip(r); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
}

// TestPause: the waits of many agents are spread, and none is longer than promised.
func TestPause(t *testing.T) {
	var first, last int
	for range 1000 {
		switch d := new(Connection).pause(); {
		case d < askFirst || d >= askMost:
			t.Fatalf("a wait of %v", d)
		case d < askFirst+(askMost-askFirst)/4:
			first++
		case d >= askMost-(askMost-askFirst)/4:
			last++
		}
	}
	if first < 100 || last < 100 {
		t.Errorf("of 1000 waits %d are in the first quarter and %d in the last", first, last)
	}
}
