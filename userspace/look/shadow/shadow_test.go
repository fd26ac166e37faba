package shadow

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// controller answers like one, and counts.
func controller(t *testing.T, answer func(w http.ResponseWriter, r *http.Request)) (*url.URL, *atomic.Int64) {
	t.Helper()
	asked := new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u, asked
}

func options(from, to *url.URL) Options {
	return Options{Old: from, New: to, Headers: []string{"Location", "Set-Cookie"}, PerSecond: 500, AtOnce: 4, MaxBody: 1 << 20, Timeout: 5 * time.Second}
}

// TestRun: both get the requests with their Host and target as they were sent, and what differs in
// status, chosen headers and body is told.
func TestRun(t *testing.T) {
	seen := make(chan string, 64)
	from, _ := controller(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Method + " " + r.Host + r.RequestURI + " " + r.Header.Get("X-A") + r.Header.Get("Cookie")
		if r.URL.Path == "/redirect" {
			http.Redirect(w, r, "/old", http.StatusFound)
			return
		}
		w.Header().Set("Set-Cookie", "a=1; Path=/")
		fmt.Fprint(w, "same")
	})
	to, _ := controller(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "/new", http.StatusFound)
		case "/gone":
			w.WriteHeader(http.StatusNotFound)
		case "/body":
			w.Header().Set("Set-Cookie", "a=2; Path=/")
			fmt.Fprint(w, "other")
		default:
			w.Header().Set("Set-Cookie", "a=2; Path=/")
			fmt.Fprint(w, "same")
		}
	})
	requests := []Request{
		{Method: "GET", Host: "shop.example.com", Target: "/same/%2e?a=b%20", Header: http.Header{"X-A": {"1"}, "Cookie": {"secret=1"}, "Connection": {"close"}}},
		{Method: "GET", Host: "shop.example.com", Target: "/redirect"}, {Method: "HEAD", Host: "shop.example.com", Target: "/gone"},
		{Method: "GET", Host: "shop.example.com", Target: "/body"}, {Method: "POST", Host: "shop.example.com", Target: "/same"},
		{Method: "GET", Host: "shop.example.com", Target: "//two//slashes"},
	}
	r, err := Run(t.Context(), requests, options(from, to))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range r.Differences {
		got = append(got, d.Request+" "+d.What)
	}
	want := []string{"GET shop.example.com/redirect Location", "GET shop.example.com/redirect body", "HEAD shop.example.com/gone status", "HEAD shop.example.com/gone Set-Cookie", "GET shop.example.com/body body"}
	if !slices.Equal(got, want) || r.Sent != 5 || r.Skipped != 1 || r.Differing != 3 {
		t.Errorf("%+v\n%q, want\n%q", r, got, want)
	}
	close(seen)
	var all []string
	for s := range seen {
		all = append(all, s)
	}
	for _, want := range []string{"GET shop.example.com/same/%2e?a=b%20 1", "GET shop.example.com//two//slashes "} {
		if !slices.Contains(all, want) {
			t.Errorf("%q is not among what was sent: %q", want, all)
		}
	}
}

// TestNothingUnasked: no request leaves without both targets, and none by a method that was not
// asked for.
func TestNothingUnasked(t *testing.T) {
	from, asked := controller(t, func(http.ResponseWriter, *http.Request) {})
	to, _ := controller(t, func(http.ResponseWriter, *http.Request) {})
	requests := []Request{{Method: "DELETE", Host: "a", Target: "/"}, {Method: "POST", Host: "a", Target: "/", Body: []byte("x")}}
	for what, change := range map[string]func(*Options){
		"no old": func(o *Options) { o.Old = nil }, "no new": func(o *Options) { o.New = &url.URL{} }, "the same": func(o *Options) { o.New = o.Old },
		"no rate": func(o *Options) { o.PerSecond = 0 }, "a flood": func(o *Options) { o.PerSecond = 1e6 }, "too many": func(o *Options) { o.AtOnce = 1000 },
		"a path": func(o *Options) { u := *to; u.Path = "/x"; o.New = &u }, "another scheme": func(o *Options) { u := *to; u.Scheme = "ftp"; o.New = &u },
	} {
		o := options(from, to)
		o.Methods = []string{"POST", "DELETE"}
		change(&o)
		if _, err := Run(t.Context(), requests, o); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	if r, err := Run(t.Context(), requests, options(from, to)); err != nil || r.Sent != 0 || r.Skipped != 2 || asked.Load() != 0 {
		t.Errorf("%+v %v, asked %d times", r, err, asked.Load())
	}
	o := options(from, to)
	o.Methods = []string{"post"}
	if r, err := Run(t.Context(), requests, o); err != nil || r.Sent != 1 || asked.Load() != 1 {
		t.Errorf("%+v %v, asked %d times", r, err, asked.Load())
	}
}

// TestRate: requests are sent no faster than asked for, and a run can be ended.
func TestRate(t *testing.T) {
	from, _ := controller(t, func(http.ResponseWriter, *http.Request) {})
	to, _ := controller(t, func(http.ResponseWriter, *http.Request) {})
	requests := make([]Request, 11)
	for i := range requests {
		requests[i] = Request{Method: "GET", Host: "a", Target: "/"}
	}
	o := options(from, to)
	o.PerSecond = 100
	began := time.Now()
	if r, err := Run(t.Context(), requests, o); err != nil || r.Sent != 11 || time.Since(began) < 100*time.Millisecond {
		t.Errorf("%+v %v after %v", r, err, time.Since(began))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := Run(ctx, requests, o); err == nil || r.Sent != 0 {
		t.Errorf("%+v %v", r, err)
	}
}

// TestTwice: what the old one answers otherwise each time is no difference.
func TestTwice(t *testing.T) {
	n := new(atomic.Int64)
	moving := func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, n.Add(1)) }
	from, _ := controller(t, moving)
	to, _ := controller(t, moving)
	o := options(from, to)
	requests := []Request{{Method: "GET", Host: "a", Target: "/"}}
	if r, err := Run(t.Context(), requests, o); err != nil || r.Differing != 1 {
		t.Errorf("%+v %v", r, err)
	}
	o.Twice = true
	if r, err := Run(t.Context(), requests, o); err != nil || r.Differing != 0 {
		t.Errorf("%+v %v", r, err)
	}
}

func TestRead(t *testing.T) {
	har := `{"log":{"entries":[{"request":{"method":"GET","url":"https://shop.example.com/a?b=c","headers":[{"name":"Accept","value":"*/*"},{"name":":method","value":"GET"}]}},
		{"request":{"method":"POST","url":"https://shop.example.com/p","postData":{"text":"x=1"}}},{"request":{"method":"GET","url":"data:x"}}]}}`
	combined := `192.0.2.1 - - [10/Oct/2026:13:55:36 +0000] "GET /a?b HTTP/1.1" 200 2326 "-" "curl"
192.0.2.1 - - [10/Oct/2026:13:55:36 +0000] "-" 400 0 "-" "-"
192.0.2.1 - ann [10/Oct/2026:13:55:37 +0000] "HEAD /x HTTP/2.0" 200 0 "-" "a \"GET /evil HTTP/1.1\"" 1 0.1 [default-web-80] [] 10.0.0.1:80 0 0.1 200 abc`
	own := `{"time":"x","method":"GET","host":"b.example.com","path":"/p","status":200}` + "\n" + `{"broken"`
	for _, c := range []struct {
		what, text, host string
		want             []string
		skipped          int
		err              string
	}{
		{"HAR", har, "", []string{"GET shop.example.com/a?b=c", "POST shop.example.com/p"}, 1, ""},
		{"combined", combined, "a.example.com", []string{"GET a.example.com/a?b", "HEAD a.example.com/x"}, 1, ""},
		{"without a host", combined, "", nil, 0, "--host"},
		{"JSON lines", own, "", []string{"GET b.example.com/p"}, 1, ""},
		{"nothing", "hello\n", "a", nil, 1, "no request"},
		{"a line in a target", `x "GET /a` + "\x01" + `b HTTP/1.1"`, "a", nil, 1, "no request"},
	} {
		requests, skipped, err := Read(strings.NewReader(c.text), c.host)
		var got []string
		for _, r := range requests {
			got = append(got, r.String())
		}
		if !slices.Equal(got, c.want) || skipped != c.skipped || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %d, %v", c.what, got, skipped, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(`x "GET /a HTTP/1.1"`)
	f.Add(`{"log":{"entries":[{"request":{"method":"GET","url":"http://a/\r\nb"}}]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		requests, _, _ := Read(strings.NewReader(text), "a.example.com")
		for _, r := range requests {
			if strings.ContainsAny(r.Method+r.Host+r.Target, "\r\n \x00") {
				t.Errorf("%q", r)
			}
		}
	})
}

// TestNobodyAnswers: where neither of the two can be reached nothing was compared, and that is
// no agreement.
func TestNobodyAnswers(t *testing.T) {
	var closed [2]*url.URL
	for i := range closed {
		server := httptest.NewServer(http.NotFoundHandler())
		closed[i], _ = url.Parse(server.URL)
		server.Close()
	}
	for _, twice := range []bool{false, true} {
		report, err := Run(t.Context(), []Request{{Method: "GET", Host: "a.example.com", Target: "/"}},
			Options{Old: closed[0], New: closed[1], PerSecond: 100, AtOnce: 1, Timeout: time.Second, Twice: twice})
		if err != nil || report.Sent != 1 || report.Differing != 1 || report.Differences[0].What != "error" {
			t.Errorf("twice %v: %+v, %v", twice, report, err)
		}
	}
}
