// Package subrequest sends the requests that the proxy makes on behalf of those it serves:
// to a service that authenticates clients, one that gets a copy, one that writes error
// pages. They run on goroutines of their own with net/http, since none of them is what the
// proxy must be fastest at, and each is bounded in number, size and time.
package subrequest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/pod/names"
	"github.com/kerngate/kerngate/userspace/proxy/rules/limit"
)

// Request is what is sent.
type Request struct {
	// Address is the pod that is asked, host:port. "": the authority's host is looked up,
	// and a certificate of it has to be valid for that name; those of pods are not
	// verified, as they seldom carry their addresses.
	Address   string
	TLS       bool
	Authority string // host or host:port
	Host      string // Host field, "": the authority
	Method    string
	Target    string // path and query, begins with "/"
	Header    http.Header
	Body      []byte
	// By is who is behind it: nobody has more in flight than are left for others.
	By string
	// Guard says where a request without an Address must not go; nil: not to the node.
	Guard *names.Guard
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte // as much as was asked for
}

// Limits of all subrequests of this process.
const (
	maxHead  = 64 << 10 // bytes of an answer's head
	maxAlive = 1024     // at a time

	drainTime = 50 * time.Millisecond
)

// ErrTooMany says that there are too many subrequests at the same time.
var ErrTooMany = errors.New("too many subrequests at the same time")

// ErrTooLarge says that an answer's body is larger than was asked for.
var ErrTooLarge = errors.New("the answer's body is too large")

var alive = limit.Shares{Most: maxAlive}

var inside, outside = transport(true), transport(false)

// Names are those that requests without an Address are sent to.
var Names names.Cache

func transport(pods bool) *http.Transport {
	return &http.Transport{
		DialContext:            Names.Dial,
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: pods, MinVersion: tls.VersionTLS12},
		DisableCompression:     true,
		MaxIdleConns:           256,
		MaxIdleConnsPerHost:    64,
		MaxConnsPerHost:        256,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: maxHead,
		TLSHandshakeTimeout:    5 * time.Second,
	}
}

// Do sends the request and waits for the answer until the context ends. Of the answer's
// body at most so many bytes are taken: what is longer is ErrTooLarge, unless most is 0,
// where the body is of no interest.
func Do(ctx context.Context, r Request, most int) (*Answer, error) {
	if !alive.Take(r.By) {
		return nil, ErrTooMany
	}
	defer alive.Return(r.By)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if r.Address == "" {
		ctx = r.Guard.With(ctx)
	}
	out, via, err := r.compose(ctx)
	if err != nil {
		return nil, err
	}
	response, err := via.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	a := &Answer{Status: response.StatusCode, Header: response.Header}
	if most == 0 {
		// A short body is read, so that the connection can be used again, but waited for
		// no longer than a new connection would take.
		defer time.AfterFunc(drainTime, cancel).Stop()
		_, _ = io.CopyN(io.Discard, response.Body, 4<<10)
		return a, nil
	}
	a.Body, err = io.ReadAll(io.LimitReader(response.Body, int64(most)+1))
	if err == nil && len(a.Body) > most {
		err = ErrTooLarge
	}
	return a, err
}

func (r *Request) compose(ctx context.Context) (*http.Request, *http.Transport, error) {
	u := &url.URL{Scheme: "http", Host: r.Authority}
	if r.TLS {
		u.Scheme = "https"
	}
	via := outside
	if r.Address != "" {
		u.Host, via = r.Address, inside
	}
	target, err := url.ParseRequestURI(r.Target)
	if err != nil {
		return nil, nil, fmt.Errorf("target %q: %w", r.Target, err)
	}
	u.Path, u.RawPath, u.RawQuery = target.Path, target.RawPath, target.RawQuery
	out := (&http.Request{
		Method: r.Method, URL: u, Host: r.Host, Header: r.Header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if out.Host == "" {
		out.Host = r.Authority
	}
	if len(r.Body) > 0 {
		out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(r.Body)), int64(len(r.Body))
	}
	if out.Header.Get("User-Agent") == "" {
		out.Header["User-Agent"] = nil // not that of net/http
	}
	return out, via, nil
}
