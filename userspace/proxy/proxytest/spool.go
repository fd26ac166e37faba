package proxytest

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/io/spool"
)

// Spool has the proxy keep large request bodies in files of a folder of the test, up to total
// bytes. When the test ends none may be left.
func (p *Proxy) Spool(t testing.TB, total int64) *spool.Dir {
	t.Helper()
	path := t.TempDir()
	d, err := spool.Open(path, total)
	if err != nil {
		t.Fatal(err)
	}
	p.OnLoop(func() { p.Worker.Spool = d })
	t.Cleanup(func() {
		p.NothingHeld(t)
		if entries, err := os.ReadDir(path); err != nil || len(entries) > 0 {
			t.Errorf("the folder for request bodies holds %v, %v", entries, err)
		}
		d.Close()
	})
	return d
}

// NothingHeld waits until no request body takes memory or room on the disk.
func (p *Proxy) NothingHeld(t testing.TB) {
	t.Helper()
	held := func() (memory, disk, files int64) {
		if d := p.Worker.Spool; d != nil {
			disk, files = d.Held(), d.Files()
		}
		return p.Metrics.BodyMemory.Load(), disk, files
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		memory, disk, files := held()
		if memory == 0 && disk == 0 && files == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%d bytes of memory, %d bytes on the disk and %d files are still held", memory, disk, files)
			return
		}
	}
}

// Body is a request body without a length, of bytes that the same seed gives again. Before each
// piece it calls Before with the bytes that are sent.
type Body struct {
	random *rand.ChaCha8
	left   int64
	sent   int64
	Before func(sent int64)
}

// NewBody returns a body of n bytes.
func NewBody(n int64) *Body {
	return &Body{random: rand.NewChaCha8([32]byte{byte(n)}), left: n}
}

func (b *Body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if b.Before != nil {
		b.Before(b.sent)
	}
	n := int(min(int64(len(p)), b.left))
	b.random.Read(p[:n])
	b.left -= int64(n)
	b.sent += int64(n)
	return n, nil
}

// SumOf is what SumPod answers to a body of n bytes that it gets whole, with its length.
func SumOf(n int64) string {
	sum := sha256.New()
	io.Copy(sum, NewBody(n))
	return fmt.Sprintf("length %d, %d bytes, sum %x", n, n, sum.Sum(nil))
}

// SumPod answers with the Content-Length and the checksum of the body that it gets. Like
// applications that know a body by its length it reads nothing where there is none.
func SumPod(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength < 0 {
		fmt.Fprintf(w, "0 bytes: %v", r.TransferEncoding)
		return
	}
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body)
	if err != nil {
		fmt.Fprintf(w, "%d bytes, %v", n, err)
		return
	}
	fmt.Fprintf(w, "length %s, %d bytes, sum %x", r.Header.Get("Content-Length"), n, sum.Sum(nil))
}
