package server_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestAcceptWithoutDescriptors: while there is no descriptor for a connection that waits, the
// worker does not spend its time on trying, and takes it once there is.
func TestAcceptWithoutDescriptors(t *testing.T) {
	p := proxytest.Start(t, []proxytest.Service{{Name: "d/a:80", Path: "/", Backends: []string{says(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")}}}, nil)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	restore := func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
			t.Error(err)
		}
	}
	defer restore()
	var c net.Conn
	p.OnLoop(func() { // so that the connection is queued when the limit holds
		c = p.Dial(t)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: was.Max}); err != nil {
			t.Error(err)
		}
	})
	for end := time.Now().Add(10 * time.Second); p.Stats.AcceptErrors.Load() < 3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d attempts to accept", p.Stats.AcceptErrors.Load())
		}
	}
	began, before := time.Now(), p.Stats.AcceptErrors.Load()
	time.Sleep(500 * time.Millisecond)
	if n, most := p.Stats.AcceptErrors.Load()-before, uint64(time.Since(began)/(100*time.Millisecond))+2; n > most {
		t.Errorf("%d attempts to accept in %v", n, time.Since(began))
	}
	restore()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	if r, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || r.StatusCode != 200 {
		t.Errorf("%v, %v", err, r)
	}
}
