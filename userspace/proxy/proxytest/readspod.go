package proxytest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
)

// ReadsPod is a pod that speaks HTTP/2 and reads as many bytes of a request's body as "read" in
// the query says, and then no more for as long as the test lasts; without that it reads all and
// answers how many they were. Like gRPC's servers it lets no body that is not read stop others.
func ReadsPod(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{
		Protocols: &protocols,
		HTTP2:     &http.HTTP2Config{MaxReceiveBufferPerConnection: 1 << 30, MaxReceiveBufferPerStream: 64 << 10, MaxConcurrentStreams: 1000},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var n int64
			if _, err := fmt.Sscan(r.URL.Query().Get("read"), &n); err == nil {
				io.CopyN(io.Discard, r.Body, n)
				select {
				case <-over:
				case <-r.Context().Done():
				}
				return
			}
			n, _ = io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n)
		}),
	}
	go s.Serve(l)
	t.Cleanup(func() {
		close(over)
		s.Close()
	})
	return l.Addr().String()
}
