package tlsconn_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/io/tlsconn"
)

// selfSigned makes a certificate for "localhost".
func selfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// task is code of a test that runs on a coroutine.
type task struct {
	t   testing.TB
	run func(co *reactor.Coroutine)
}

func (k *task) Run(co *reactor.Coroutine)        { k.run(co) }
func (k *task) Crashed(reason any, stack []byte) { k.t.Errorf("panic: %v\n%s", reason, stack) }

// startLoop runs a loop until the test ends.
func startLoop(t testing.TB) *reactor.Loop {
	t.Helper()
	loop, err := reactor.New(reactor.Stats{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- loop.Run() }()
	t.Cleanup(func() {
		loop.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return loop
}

// pair makes a connected pair of TCP sockets: one for the loop, one for the test. The
// loop's has a small send buffer, so that large writes meet a full socket.
func pair(t testing.TB) (int, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 8<<10)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: l.Addr().(*net.TCPAddr).Port}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	c := <-accepted
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return fd, c
}

// echo is a server's side that sends back what it reads until the client has ended its side.
func echo(t testing.TB, loop *reactor.Loop, fd int, config *tls.Config) <-chan error {
	result := make(chan error, 1)
	loop.Submit(func() {
		c := new(reactor.Conn)
		if err := loop.Add(c, fd, nil); err != nil {
			result <- err
			return
		}
		loop.Go(&task{t, func(co *reactor.Coroutine) {
			c.Own(co)
			result <- serveEcho(co, c, config)
			c.Close()
		}})
	})
	return result
}

func serveEcho(co *reactor.Coroutine, c *reactor.Conn, config *tls.Config) error {
	if _, err := tlsconn.Server(co, c, config, co.Loop().Now()+int64(10*time.Second)); err != nil {
		return err
	}
	buf := make([]byte, 40<<10)
	var out reactor.Output
	out.Open(c)
	defer out.Release()
	for {
		n, err := c.TryRead(buf)
		switch {
		case err == io.EOF:
			return nil
		case err == reactor.ErrWouldBlock:
			c.Want(reactor.Readable)
			co.Park()
			continue
		case err != nil:
			return err
		}
		out.Send(buf[:n])
		for err := out.Flush(); err != nil; err = out.Flush() {
			if err != reactor.ErrWouldBlock {
				return err
			}
			c.Want(reactor.Writable)
			co.Park()
			if co.Dying() || c.IsBroken() {
				return io.ErrClosedPipe
			}
		}
	}
}

// TestEcho moves bytes of many sizes through a session, both versions, with the reader
// slower than the writer.
func TestEcho(t *testing.T) {
	cert := selfSigned(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			loop := startLoop(t)
			fd, raw := pair(t)
			result := echo(t, loop, fd, &tls.Config{
				Certificates: []tls.Certificate{cert}, MaxVersion: version, DynamicRecordSizingDisabled: true,
			})
			client := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
			want := make([]byte, 3<<20)
			source := mrand.NewChaCha8([32]byte{7})
			source.Read(want)
			go func() {
				for rest := want; len(rest) > 0; {
					n := min(len(rest), 1+int(source.Uint64()%70_000))
					if _, err := client.Write(rest[:n]); err != nil {
						t.Error(err)
						return
					}
					rest = rest[n:]
				}
				client.CloseWrite()
			}()
			got, err := io.ReadAll(client)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("%d bytes came back of %d, or others", len(got), len(want))
			}
			if err := <-result; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestTruncated tells a stream that was cut off from one that was ended.
func TestTruncated(t *testing.T) {
	loop := startLoop(t)
	fd, raw := pair(t)
	result := echo(t, loop, fd, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}})
	client := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	if _, err := client.Write([]byte("half a mess")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(client, make([]byte, 11)); err != nil {
		t.Fatal(err)
	}
	raw.(*net.TCPConn).CloseWrite() // a FIN, and no close_notify
	if err := <-result; err != io.ErrUnexpectedEOF {
		t.Errorf("got %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

// TestSlowHello sends a handshake byte by byte.
func TestSlowHello(t *testing.T) {
	loop := startLoop(t)
	fd, raw := pair(t)
	result := echo(t, loop, fd, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}})
	client := tls.Client(byteByByte{raw}, &tls.Config{InsecureSkipVerify: true})
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(client, got); err != nil || string(got) != "hello" {
		t.Fatalf("got %q, %v", got, err)
	}
	client.Close()
	if err := <-result; err != nil {
		t.Error(err)
	}
}

type byteByByte struct{ net.Conn }

func (b byteByByte) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := b.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}
