//go:build linux && applications

package applications

import (
	"hash"
	"io"
	"net/http"
)

// countedBody counts and sums what is read of a request's body.
type countedBody struct {
	io.ReadCloser
	bytes int64
	sum   hash.Hash
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.bytes += int64(n)
	b.sum.Write(p[:n])
	return n, err
}

// statusWriter remembers the status of a response.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
