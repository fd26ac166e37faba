// Command pod is the web server that runs in the pods of a lab. It tells who it is and what
// it was asked, and by query parameters misbehaves in the ways real applications do.
//
//	status=N          answer with this status
//	delay=D           wait before the head of the answer (Go duration)
//	size=N            a body of N bytes of a known pattern, with Content-Length
//	chunks=N          the same body in N chunks, flushed one by one; interval=D between them
//	trailers=1        with chunks: send the body's SHA-256 as the trailer X-Body-Sha256
//	header=K:V        add a header; may be repeated
//	early=1           answer without reading the request's body
//	read=D            wait D between reads of 64 KiB of the request's body
//	hints=1           send 103 Early Hints before the answer
//	raw=NAME          answer in a way that net/http would not (see raw.go)
//	fail=N            close the connection without an answer to the first N such requests
//
// A request with "Upgrade: websocket" gets a WebSocket that echoes every message. HTTP/2 is
// spoken with prior knowledge, or over TLS. With -tls the pod speaks HTTPS, with -proxy-header
// every connection must begin with a PROXY header.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kerngate/kerngate/test/lab/answer"
)

func main() {
	log.SetFlags(log.Lmicroseconds)
	name := flag.String("name", "", "the pod's name in answers")
	service := flag.String("service", "", "the service's name in answers")
	listen := flag.String("listen", ":8080", "address and port")
	idle := flag.Duration("idle", 2*time.Minute, "close keep-alive connections after this time without a request")
	pair := flag.String("tls", "", "speak TLS, with the certificate and key of these two PEM files: CHAIN,KEY")
	announced := flag.Bool("proxy-header", false, "connections must begin with a PROXY header")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "pod: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	server := &http.Server{
		Addr:        *listen,
		Handler:     &pod{name: *name, service: *service},
		IdleTimeout: *idle,
		Protocols:   new(http.Protocols),
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				connections.add()
			}
		},
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	if *announced {
		listener = announcedListener{listener}
	}
	if chain, key, ok := strings.Cut(*pair, ","); ok {
		log.Fatal(server.ServeTLS(listener, chain, key))
	}
	log.Fatal(server.Serve(listener))
}

type pod struct {
	name, service string
}

func (p *pod) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	switch {
	case r.URL.Path == "/connections":
		fmt.Fprintln(w, connections.get())
		return
	case strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		echoWebSocket(w, r)
		return
	case query.Has("raw"):
		answerRaw(w, query.Get("raw"))
		return
	case query.Has("fail") && failures.below(number(query, "fail")):
		panic(http.ErrAbortHandler) // closes the connection and logs nothing
	}

	var body received
	if !query.Has("early") {
		body.read(r.Body, duration(query, "read"))
	}
	w.Header().Set("X-Pod", p.name)
	for _, header := range query["header"] {
		key, value, _ := strings.Cut(header, ":")
		w.Header().Add(key, value)
	}
	if query.Has("hints") {
		w.Header().Set("Link", "</style.css>; rel=preload; as=style")
		w.WriteHeader(http.StatusEarlyHints)
	}
	pause(r, duration(query, "delay"))

	status := http.StatusOK
	if query.Has("status") {
		status = number(query, "status")
	}
	switch {
	case status == http.StatusNoContent || status == http.StatusNotModified:
		w.WriteHeader(status)
	case query.Has("chunks"):
		writeChunks(w, r, status, query)
	case query.Has("size"):
		size := number(query, "size")
		w.Header().Set("Content-Length", strconv.Itoa(size))
		w.WriteHeader(status)
		_, _ = io.CopyN(w, Pattern{}, int64(size))
	default:
		p.describe(w, r, status, &body)
	}
}

// describe answers with what the pod saw.
func (p *pod) describe(w http.ResponseWriter, r *http.Request, status int, body *received) {
	text, err := json.Marshal(answer.Answer{
		Pod: p.name, Service: p.service,
		Method: r.Method, Host: r.Host, URI: r.RequestURI, Path: r.URL.Path, Proto: r.Proto,
		Headers: r.Header, Remote: r.RemoteAddr, TransferEncoding: r.TransferEncoding,
		BodyBytes: body.bytes, BodySHA256: body.sum, Trailers: r.Trailer,
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

// writeChunks writes `size` bytes (default: 10 per chunk) in `chunks` pieces.
func writeChunks(w http.ResponseWriter, r *http.Request, status int, query url.Values) {
	chunks := max(1, number(query, "chunks"))
	size := chunks * 10
	if query.Has("size") {
		size = number(query, "size")
	}
	if query.Has("trailers") {
		w.Header().Set("Trailer", "X-Body-Sha256")
	}
	w.WriteHeader(status)
	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	for i := range chunks {
		from, to := size*i/chunks, size*(i+1)/chunks
		if _, err := io.CopyN(out, Pattern{}, int64(to-from)); err != nil {
			return // the client is gone
		}
		_ = http.NewResponseController(w).Flush()
		if i < chunks-1 {
			pause(r, duration(query, "interval"))
		}
	}
	if query.Has("trailers") {
		w.Header().Set("X-Body-Sha256", hex.EncodeToString(sum.Sum(nil)))
	}
}

// Pattern is an endless reader of the letter x.
type Pattern struct{}

func (Pattern) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// received is what came as a request's body.
type received struct {
	bytes int64
	sum   string
}

func (b *received) read(body io.Reader, wait time.Duration) {
	sum := sha256.New()
	for {
		n, err := io.CopyN(sum, body, 64<<10)
		b.bytes += n
		if err != nil {
			break // io.EOF, or the client broke off: what came is reported
		}
		time.Sleep(wait)
	}
	b.sum = hex.EncodeToString(sum.Sum(nil))
}

// pause waits, but not longer than the client does.
func pause(r *http.Request, d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	}
}

func number(query url.Values, key string) int {
	n, _ := strconv.Atoi(query.Get(key))
	return n
}

func duration(query url.Values, key string) time.Duration {
	d, _ := time.ParseDuration(query.Get(key))
	return d
}

// counter is a number that several connections count up.
type counter struct {
	mu sync.Mutex
	n  int
}

var (
	connections counter // ever accepted
	failures    counter // connections closed because of the parameter fail
)

func (c *counter) add() {
	c.mu.Lock()
	c.n++
	c.mu.Unlock()
}

func (c *counter) get() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// below counts up and reports whether the count was below the limit.
func (c *counter) below(limit int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n >= limit {
		return false
	}
	c.n++
	return true
}
