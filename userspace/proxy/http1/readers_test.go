package http1

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// reading is what a reader makes of one message, for comparison.
type reading struct {
	method, target string
	host           string // as it would be forwarded; not known from llhttp
	status, minor  int
	keepAlive      bool
	upgrade        bool
	fields         []string // "lower-case name: value" in order, Host and framing included
	trailers       []string
	body           string
}

// stream is what a reader makes of all bytes of a connection.
type stream struct {
	messages []reading
	// fault is why the reader gave up, "" if it could go on: it wants more bytes
	// or has read everything.
	fault string
	// closed is set if the last message ended the connection.
	closed bool
}

// ownStream reads with this package. kind is "request", or the method of the
// request that a response answers. Every head and body is read in pieces of step
// bytes.
func ownStream(kind string, input []byte, step int) (s stream) {
	var q Request
	var p Response
	for len(input) > 0 {
		n, err := 0, error(nil)
		for size := 0; size < len(input) && n == 0 && err == nil; {
			size = min(size+step, len(input))
			if kind == "request" {
				n, err = q.Parse(input[:size], message.Limits{})
			} else {
				n, err = p.Parse(input[:size], message.Limits{}, message.MethodOf([]byte(kind)))
			}
		}
		if err != nil {
			s.fault = reasonOf(err)
			return s
		}
		if n == 0 {
			return s
		}
		m, body, h := reading{}, message.BodyNone, &q.Head
		if kind == "request" {
			m.method, m.target, m.host = string(q.Method), string(q.Target), string(q.Authority)
			switch {
			case q.Chunked:
				body = message.BodyChunked
			case q.ContentLength > 0:
				body = message.BodyLength
			}
		} else {
			h, body, m.status = &p.Head, p.Body, p.Status
		}
		m.minor, m.keepAlive, m.upgrade = h.Minor, h.KeepAlive, h.Upgrade != nil
		m.fields = fieldLines(h.Fields)
		input = input[n:]

		switch body {
		case message.BodyLength:
			if h.ContentLength > int64(len(input)) {
				return s
			}
			m.body, input = string(input[:h.ContentLength]), input[h.ContentLength:]
		case message.BodyUntilClose:
			m.body, input = string(input), nil
		case message.BodyChunked:
			var c Chunked
			data, used, done, err := decode(&c, string(input), step)
			if err != nil {
				s.fault = reasonOf(err)
				return s
			}
			if !done {
				return s
			}
			m.body, input = data, input[used:]
			m.trailers = fieldLines(c.Trailers())
		}
		s.messages = append(s.messages, m)
		if !m.keepAlive || m.upgrade {
			s.closed = true
			return s
		}
	}
	return s
}

func reasonOf(err error) string {
	var e *message.Error
	if !errors.As(err, &e) || e == nil || e == errMore {
		panic(fmt.Sprintf("not a reported *Error: %v", err))
	}
	return e.Reason
}

func fieldLines(fields []message.Field) (lines []string) {
	for i := range fields {
		lines = append(lines, strings.ToLower(string(fields[i].Name))+": "+string(fields[i].Value))
	}
	return lines
}

// goStream reads with net/http.
func goStream(kind string, input []byte) (s stream) {
	r := bufio.NewReader(bytes.NewReader(input))
	for {
		if _, err := r.Peek(1); err != nil {
			return s
		}
		var m reading
		var body io.ReadCloser
		var header, trailer *http.Header
		if kind == "request" {
			q, err := http.ReadRequest(r)
			if err != nil {
				return s.failed(err)
			}
			m = reading{method: q.Method, target: q.RequestURI, host: q.Host, minor: q.ProtoMinor, keepAlive: !q.Close}
			body, header, trailer = q.Body, &q.Header, &q.Trailer
		} else {
			p, err := http.ReadResponse(r, &http.Request{Method: kind})
			if err != nil {
				return s.failed(err)
			}
			m = reading{status: p.StatusCode, minor: p.ProtoMinor, keepAlive: !p.Close}
			body, header, trailer = p.Body, &p.Header, &p.Trailer
		}
		data, err := io.ReadAll(body)
		if err != nil {
			return s.failed(err)
		}
		m.body, m.fields, m.trailers = string(data), headerLines(*header), headerLines(*trailer)
		s.messages = append(s.messages, m)
	}
}

func (s stream) failed(err error) stream {
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		s.fault = err.Error()
	}
	return s
}

func headerLines(h http.Header) (lines []string) {
	for name, values := range h {
		for _, value := range values {
			lines = append(lines, strings.ToLower(name)+": "+value)
		}
	}
	return lines
}

// nodeReader is a Node process that reads with llhttp.
type nodeReader struct {
	in  io.Writer
	out *bufio.Reader
}

// startNode starts Node for the duration of the test. Without Node the test is
// skipped, or fails with KERNGATE_TEST_NO_SKIP=1.
func startNode(t testing.TB) *nodeReader {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("KERNGATE_TEST_NO_SKIP") == "1" {
			t.Fatal("node is needed to compare with llhttp: install nodejs")
		}
		t.Skip("node is needed to compare with llhttp: install nodejs")
	}
	cmd := exec.Command(path, "testdata/llhttp.js")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // which ends it
		if err := cmd.Wait(); err != nil {
			t.Errorf("node: %v", err)
		}
	})
	return &nodeReader{in: in, out: bufio.NewReader(out)}
}

// llhttpVersion returns the major version of Node's parser.
func llhttpVersion(t testing.TB) int {
	t.Helper()
	out, err := exec.Command("node", "-p", "process.versions.llhttp").Output()
	major, _, _ := strings.Cut(string(out), ".")
	n, err2 := strconv.Atoi(major)
	if err := errors.Join(err, err2); err != nil {
		t.Fatalf("node -p process.versions.llhttp: %q, %v", out, err)
	}
	return n
}

func (n *nodeReader) stream(t testing.TB, kind string, input []byte) (s stream) {
	t.Helper()
	if _, err := fmt.Fprintf(n.in, "%s %s\n", kind, base64.StdEncoding.EncodeToString(input)); err != nil {
		t.Fatalf("node: %v", err)
	}
	line, err := n.out.ReadBytes('\n')
	if err != nil {
		t.Fatalf("node: %v", err)
	}
	var answer struct {
		Messages []struct {
			Method, Target, Body string
			Status, Minor        int
			KeepAlive, Upgrade   bool
			Fields, Trailers     []string
		}
		Error string
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		t.Fatalf("node: %v in %q", err, line)
	}
	for _, a := range answer.Messages {
		s.messages = append(s.messages, reading{
			method: a.Method, target: a.Target, status: a.Status, minor: a.Minor, keepAlive: a.KeepAlive, upgrade: a.Upgrade,
			fields: pairs(a.Fields), trailers: pairs(a.Trailers), body: latin1(a.Body),
		})
	}
	// finish() reports an unfinished message as an error.
	if answer.Error != "HPE_INVALID_EOF_STATE" {
		s.fault = answer.Error
	}
	return s
}

func pairs(flat []string) (lines []string) {
	for i := 0; i+1 < len(flat); i += 2 {
		lines = append(lines, strings.ToLower(latin1(flat[i]))+": "+latin1(flat[i+1]))
	}
	return lines
}

// latin1 turns characters below U+0100 back into the bytes they stand for.
func latin1(s string) string {
	b := make([]byte, 0, len(s))
	for _, c := range s {
		b = append(b, byte(c))
	}
	return string(b)
}

// difference compares what we have read with what another reader has, and says
// in which respect they differ first; "" if in none. Only what we accept counts:
// behind a message that we refuse, or after which we close, nothing is read.
func difference(own, other stream, sameFields func(own, other reading) string) string {
	for i, m := range own.messages {
		if i >= len(other.messages) {
			if other.fault != "" {
				return "refused: " + other.fault
			}
			return "fewer messages"
		}
		o := other.messages[i]
		switch {
		case m.method != o.method || m.target != o.target:
			return fmt.Sprintf("request line: %s %s, %s %s", m.method, m.target, o.method, o.target)
		case m.status != o.status || m.minor != o.minor:
			return fmt.Sprintf("status or version: %d 1.%d, %d 1.%d", m.status, m.minor, o.status, o.minor)
		case m.body != o.body:
			return fmt.Sprintf("body: %q, %q", m.body, o.body)
		}
		if d := sameFields(m, o); d != "" {
			return d
		}
		if m.keepAlive != o.keepAlive {
			return fmt.Sprintf("keep-alive: %t, %t", m.keepAlive, o.keepAlive)
		}
	}
	if own.fault == "" && !own.closed && len(other.messages) > len(own.messages) {
		return "more messages"
	}
	return ""
}

// sameAsGo compares fields with those of net/http, which takes Host, framing,
// Connection: close and announced trailers out of them and sorts by name.
func sameAsGo(own, other reading) string {
	if own.host != other.host {
		return fmt.Sprintf("host: %q, %q", own.host, other.host)
	}
	drop := func(lines []string) (kept []string) {
		for _, line := range lines {
			switch name, _, _ := strings.Cut(line, ":"); name {
			case "host", "transfer-encoding", "content-length", "trailer", "connection", "pragma", "cache-control":
			default:
				kept = append(kept, line)
			}
		}
		sort.Strings(kept)
		return kept
	}
	if a, b := fmt.Sprintf("%q", drop(own.fields)), fmt.Sprintf("%q", drop(other.fields)); a != b {
		return fmt.Sprintf("fields: %s, %s", a, b)
	}
	return trailersWithin(own, other)
}

func sameAsNode(own, other reading) string {
	if a, b := fmt.Sprintf("%q", own.fields), fmt.Sprintf("%q", other.fields); a != b {
		return fmt.Sprintf("fields: %s, %s", a, b)
	}
	return trailersWithin(own, other)
}

// trailersWithin checks that all of our trailers are there: we leave out some.
func trailersWithin(own, other reading) string {
	theirs := make(map[string]bool)
	for _, line := range other.trailers {
		theirs[line] = true
	}
	for _, line := range own.trailers {
		if !theirs[line] {
			return fmt.Sprintf("trailers: %q, %q", own.trailers, other.trailers)
		}
	}
	return ""
}
