package http1

import (
	"bytes"
	"fmt"
	"io"
	"net/http/httputil"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/message/messagetest"
)

// fuzzSteps are the sizes of the pieces in which every input is also read.
var fuzzSteps = []int{1, 3, 17}

// checkStream reads input whole and in pieces, compares the results, and
// compares them with those of net/http.
func checkStream(t *testing.T, kind string, input []byte) stream {
	input = bytes.Clone(input) // without spare capacity behind it
	own := ownStream(kind, input, len(input))
	for _, step := range fuzzSteps {
		if pieces := ownStream(kind, input, step); fmt.Sprintf("%+v", own) != fmt.Sprintf("%+v", pieces) {
			// A fault in a line that is not complete is found later in pieces.
			if own.fault != "" && pieces.fault == "" && fmt.Sprintf("%+v", own.messages) == fmt.Sprintf("%+v", pieces.messages) {
				continue
			}
			t.Fatalf("whole:\n%+v\nin steps of %d:\n%+v", own, step, pieces)
		}
	}
	d := difference(own, goStream(kind, input), sameAsGo)
	if d != "" && excused(goExceptions, d, own, sample{kind, string(input)}) == nil {
		t.Fatalf("net/http differs: %s\nwe:   %+v\nthey: %+v", d, own, goStream(kind, input))
	}
	return own
}

// FuzzRequest: whatever is accepted is the same in all pieces and for net/http,
// and written anew and read again it is the same request.
func FuzzRequest(f *testing.F) {
	for _, s := range corpus() {
		if s.kind == "request" && len(s.input) < 300 {
			f.Add([]byte(s.input))
		}
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		checkStream(t, "request", input)
		var r Request
		n, err := r.Parse(input, message.Limits{})
		if err != nil || n == 0 {
			if n != 0 {
				t.Fatalf("n=%d with error %v", n, err)
			}
			return
		}
		if n > len(input) || !bytes.HasSuffix(input[:n], []byte("\r\n\r\n")) && len(r.Fields) > 0 {
			t.Fatalf("head of %d bytes does not end with an empty line", n)
		}
		head := writeRequest(&r)
		var again Request
		if n, err := again.Parse(head, message.Limits{Head: 2*len(input) + 100, RequestLine: 2*len(input) + 100}); n != len(head) || err != nil {
			t.Fatalf("written anew %q: n=%d, error %v", head, n, err)
		}
		if a, b := essence(&r), essence(&again); a != b {
			t.Fatalf("written anew %q:\n%s\n%s", head, a, b)
		}
	})
}

// writeRequest writes a head as a proxy does.
func writeRequest(r *Request) []byte {
	head := AppendRequestLine(nil, r.Method, r.Path, r.Query)
	head = AppendField(head, "Host", r.Authority)
	head = AppendEndToEnd(head, r.Fields, message.Fields(message.FieldHost))
	switch {
	case r.Chunked:
		head = AppendFieldString(head, "Transfer-Encoding", "chunked")
	case r.ContentLength >= 0:
		head = AppendFieldUint(head, "Content-Length", uint64(r.ContentLength))
	}
	return append(head, "\r\n"...)
}

// essence describes what must survive being forwarded.
func essence(r *Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %q %q/%t %q %q %d %d %t %t\n", r.Method, r.Path, r.Query, r.Query != nil, r.Authority, r.Host, r.Port,
		r.ContentLength, r.Chunked, r.PathNeedsNormalise)
	b.Write(AppendEndToEnd(nil, r.Fields, message.Fields(message.FieldHost)))
	return b.String()
}

// FuzzResponse is FuzzRequest for responses.
func FuzzResponse(f *testing.F) {
	kinds := []string{"GET", "HEAD", "POST"}
	for _, s := range corpus() {
		if s.kind != "request" && len(s.input) < 300 {
			f.Add(s.kind == "HEAD", []byte(s.input))
		}
	}
	f.Fuzz(func(t *testing.T, head bool, input []byte) {
		kind := kinds[0]
		if head {
			kind = kinds[1]
		}
		checkStream(t, kind, input)
		var r Response
		n, err := r.Parse(input, message.Limits{}, message.MethodOf([]byte(kind)))
		if err != nil || n == 0 {
			return
		}
		written := AppendStatusLine(nil, r.Status)
		written = AppendEndToEnd(written, r.Fields, 0)
		switch {
		case r.Chunked:
			written = AppendFieldString(written, "Transfer-Encoding", "chunked")
		case r.ContentLength >= 0:
			written = AppendFieldUint(written, "Content-Length", uint64(r.ContentLength))
		}
		written = append(written, "\r\n"...)
		var again Response
		if n, err := again.Parse(written, message.Limits{Head: 2*len(input) + 100, RequestLine: 2*len(input) + 100}, message.MethodOf([]byte(kind))); n != len(written) || err != nil {
			t.Fatalf("written anew %q: n=%d, error %v", written, n, err)
		}
		if r.Status != again.Status || r.Body != again.Body || r.ContentLength != again.ContentLength ||
			!bytes.Equal(AppendEndToEnd(nil, r.Fields, 0), AppendEndToEnd(nil, again.Fields, 0)) {
			t.Fatalf("written anew %q:\n%s\n%s", written, messagetest.ShowResponse(&r.Response), messagetest.ShowResponse(&again.Response))
		}
	})
}

// FuzzChunked: a body is the same in all pieces and for net/http, and written
// anew and read again it is the same body.
func FuzzChunked(f *testing.F) {
	for _, s := range corpus() {
		if _, body, ok := strings.Cut(s.input, "chunked\r\n\r\n"); ok && len(body) < 200 {
			f.Add([]byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		type result struct {
			data, trailers string
			n              int
			done           bool
			err            error
		}
		var c Chunked
		read := func(input string, step int) (r result) {
			c.Reset()
			r.data, r.n, r.done, r.err = decode(&c, input, step)
			if r.err != nil {
				r.n = 0 // how far it came before depends on the pieces
				for range 2 {
					if data, n, done, err := c.Decode([]byte(input)); err != r.err || n != 0 || done || len(data) > 0 || c.Done() {
						t.Fatalf("after %v came %q, %d bytes used, done %t, %v", r.err, data, n, done, err)
					}
				}
			}
			r.trailers = string(AppendLastChunk(nil, c.Trailers()))
			return r
		}
		whole := read(string(input), len(input)+1)
		for _, step := range fuzzSteps {
			if pieces := read(string(input), step); pieces != whole {
				t.Fatalf("whole: %+v\nin steps of %d: %+v", whole, step, pieces)
			}
		}
		if whole.err != nil || !whole.done {
			return
		}
		// net/http's reader stops before the trailers.
		theirs, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(input)))
		if err != nil || string(theirs) != whole.data {
			t.Fatalf("net/http reads %q, error %v; we read %q", theirs, err, whole.data)
		}
		var anew []byte
		for rest := whole.data; rest != ""; {
			n := min(len(rest), 19)
			anew = AppendChunkHeader(anew, n)
			anew = append(append(anew, rest[:n]...), ChunkEnd...)
			rest = rest[n:]
		}
		anew = AppendLastChunk(anew, c.Trailers())
		if again := read(string(anew), len(anew)); again.err != nil || !again.done || again.data != whole.data || again.trailers != whole.trailers {
			t.Fatalf("written anew: %+v\nwas: %+v", again, whole)
		}
	})
}
