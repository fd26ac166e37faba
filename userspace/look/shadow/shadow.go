// Package shadow replays requests that an ingress controller has answered before, against that
// one and against another, and compares the answers. In: a HAR file or an access log, and the
// addresses of two controllers. Out: what differs, request by request.
//
// Nothing is sent unless both addresses are named, and by default only what changes nothing: GET
// and HEAD, without Cookie and Authorization.
package shadow

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Request is one that is replayed.
type Request struct {
	Method string
	Host   string
	Target string // path and query, as it was sent
	Header http.Header
	Body   []byte
}

// String returns "GET host/path".
func (r Request) String() string { return r.Method + " " + r.Host + r.Target }

// Options of a run.
type Options struct {
	Old, New *url.URL // scheme, and the address to connect to; the Host is that of each request
	// Methods that are sent; none: GET and HEAD.
	Methods []string
	// Headers of responses that are compared.
	Headers []string
	// PerSecond bounds how many requests each of the two gets, AtOnce how many wait at a time.
	PerSecond float64
	AtOnce    int
	// Twice asks the old one two times, and leaves out what differs between its own answers.
	Twice bool
	// Credentials sends Cookie and Authorization, if the input has them.
	Credentials bool
	// Insecure takes any certificate.
	Insecure bool
	MaxBody  int64         // of a response, beyond which its rest is not compared
	Timeout  time.Duration // of one request
}

// The bounds of Options.
const (
	MaxPerSecond = 1000
	MaxAtOnce    = 64
)

// Check says what is wrong with the options.
func (o *Options) Check() error {
	for flag, u := range map[string]*url.URL{"old": o.Old, "new": o.New} {
		switch {
		case u == nil || u.Host == "":
			return fmt.Errorf("--%s must name where requests are sent to, such as https://192.0.2.10: nothing is sent without it", flag)
		case u.Scheme != "http" && u.Scheme != "https":
			return fmt.Errorf("--%s %s: want http:// or https://", flag, u)
		case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil:
			return fmt.Errorf("--%s %s: want scheme and address alone, as paths are those of the requests", flag, u)
		}
	}
	switch {
	case *o.Old == *o.New:
		return errors.New("--old and --new are the same")
	case o.PerSecond <= 0 || o.PerSecond > MaxPerSecond:
		return fmt.Errorf("--rate: want more than 0 and up to %d requests a second", MaxPerSecond)
	case o.AtOnce < 1 || o.AtOnce > MaxAtOnce:
		return fmt.Errorf("--parallel: want 1 to %d", MaxAtOnce)
	case o.Timeout <= 0 || o.MaxBody < 0:
		return errors.New("--request-timeout must be more than 0, and --compare-bytes not less")
	}
	return nil
}

// sends reports whether requests of a method are sent.
func (o *Options) sends(method string) bool {
	if len(o.Methods) == 0 {
		return method == http.MethodGet || method == http.MethodHead
	}
	return slices.ContainsFunc(o.Methods, func(m string) bool { return strings.EqualFold(m, method) })
}

// Difference is what two answers to a request do not have in common.
type Difference struct {
	Request string `json:"request"`
	What    string `json:"what"` // "status", "body", "error" or the name of a header
	Old     string `json:"old"`
	New     string `json:"new"`
}

// failed is the What of a request that one of the two, or both, did not answer.
const failed = "error"

// Report is what a run has shown.
type Report struct {
	Sent        int          `json:"sent"`      // requests that were sent to both
	Skipped     int          `json:"skipped"`   // by their method
	Differing   int          `json:"differing"` // of those sent; one without an answer counts
	Differences []Difference `json:"differences"`
}

// Run replays requests. It ends early if ctx does.
func Run(ctx context.Context, requests []Request, o Options) (Report, error) {
	if err := o.Check(); err != nil {
		return Report{}, err
	}
	report := Report{Differences: []Difference{}}
	var chosen []Request
	for _, r := range requests {
		if o.sends(r.Method) {
			chosen = append(chosen, r)
		} else {
			report.Skipped++
		}
	}
	from, to := newSide(o.Old, &o), newSide(o.New, &o)
	defer from.client.CloseIdleConnections()
	defer to.client.CloseIdleConnections()
	found := make([][]Difference, len(chosen))
	tick := time.NewTicker(time.Duration(float64(time.Second) / o.PerSecond))
	defer tick.Stop()
	slots := make(chan struct{}, o.AtOnce)
	var working sync.WaitGroup
	for i := range chosen {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		if ctx.Err() != nil {
			break
		}
		slots <- struct{}{}
		report.Sent++
		working.Go(func() {
			defer func() { <-slots }()
			found[i] = compare(ctx, chosen[i], from, to, &o)
		})
	}
	working.Wait()
	for _, f := range found {
		if len(f) > 0 {
			report.Differing++
			report.Differences = append(report.Differences, f...)
		}
	}
	return report, ctx.Err()
}

// side is one of the two controllers.
type side struct {
	to     *url.URL
	client *http.Client
}

func newSide(to *url.URL, o *Options) *side {
	address := to.Host
	if to.Port() == "" {
		address = net.JoinHostPort(to.Hostname(), map[string]string{"http": "80", "https": "443"}[to.Scheme])
	}
	dialer := net.Dialer{Timeout: o.Timeout}
	return &side{to, &http.Client{
		Timeout:       o.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, address) // whatever the Host is
			},
			TLSClientConfig:     &tls.Config{InsecureSkipVerify: o.Insecure},
			MaxIdleConnsPerHost: o.AtOnce,
			DisableCompression:  true,
			ForceAttemptHTTP2:   true,
		},
	}}
}

// answer is what is compared.
type answer struct {
	err    error
	status int
	header http.Header
	body   string // its length and hash
}

// notSent are headers that belong to a connection, or that say who the client is.
var notSent = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Connection": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	"Content-Length": true, "Host": true, "Expect": true, "Proxy-Authorization": true,
}

func (s *side) ask(ctx context.Context, r Request, o *Options) (a answer) {
	path, query, _ := strings.Cut(r.Target, "?")
	u := &url.URL{Scheme: s.to.Scheme, Host: r.Host, Opaque: path, RawQuery: query, ForceQuery: query == "" && strings.HasSuffix(r.Target, "?")}
	if strings.HasPrefix(path, "//") { // Opaque would be taken for a host
		unescaped, err := url.PathUnescape(path)
		if err != nil {
			return answer{err: err}
		}
		u.Opaque, u.Path, u.RawPath = "", unescaped, path
	}
	request := (&http.Request{Method: r.Method, Host: r.Host, Header: http.Header{}, Body: http.NoBody, URL: u}).WithContext(ctx)
	for name, values := range r.Header {
		name = http.CanonicalHeaderKey(name)
		if notSent[name] || !o.Credentials && (name == "Cookie" || name == "Authorization") || strings.HasPrefix(name, ":") {
			continue
		}
		request.Header[name] = values
	}
	if len(r.Body) > 0 {
		request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(r.Body)), int64(len(r.Body))
	}
	response, err := s.client.Do(request)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	hash := sha256.New()
	n, err := io.Copy(hash, io.LimitReader(response.Body, o.MaxBody))
	return answer{err: err, status: response.StatusCode, header: response.Header, body: fmt.Sprintf("%d bytes %s", n, hex.EncodeToString(hash.Sum(nil)[:8]))}
}

// compare asks both.
func compare(ctx context.Context, r Request, from, to *side, o *Options) []Difference {
	old := from.ask(ctx, r, o)
	found := differences(r, old, to.ask(ctx, r, o), o)
	if len(found) == 0 || !o.Twice {
		return found
	}
	own := differences(r, old, from.ask(ctx, r, o), o)
	return slices.DeleteFunc(found, func(d Difference) bool {
		return d.What != failed && slices.ContainsFunc(own, func(o Difference) bool { return o.What == d.What })
	})
}

// differences compares two answers. Of Set-Cookie, only the names count: values are made anew for
// each client.
func differences(r Request, a, b answer, o *Options) (out []Difference) {
	add := func(what, old, now string) {
		if old != now {
			out = append(out, Difference{r.String(), what, old, now})
		}
	}
	if a.err != nil || b.err != nil { // also where both fail: nothing was compared
		return []Difference{{r.String(), failed, text(a), text(b)}}
	}
	add("status", fmt.Sprint(a.status), fmt.Sprint(b.status))
	for _, name := range o.Headers {
		old, now := a.header.Values(name), b.header.Values(name)
		if strings.EqualFold(name, "Set-Cookie") {
			old, now = cookieNames(old), cookieNames(now)
		}
		add(name, strings.Join(old, ", "), strings.Join(now, ", "))
	}
	if a.status == b.status {
		add("body", a.body, b.body)
	}
	return out
}

func text(a answer) string {
	if a.err != nil {
		return a.err.Error()
	}
	return fmt.Sprintf("status %d", a.status)
}

func cookieNames(values []string) (names []string) {
	for _, v := range values {
		name, _, _ := strings.Cut(v, "=")
		names = append(names, strings.TrimSpace(name))
	}
	slices.Sort(names)
	return names
}
