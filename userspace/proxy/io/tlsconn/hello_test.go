package tlsconn

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// recorded returns the ClientHello that crypto/tls sends.
func recorded(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	r := &recorder{}
	tls.Client(r, config).Handshake()
	if len(r.sent) == 0 {
		t.Fatal("no ClientHello was sent")
	}
	return r.sent
}

// recorder takes what a client says first.
type recorder struct {
	net.Conn
	sent []byte
}

func (r *recorder) Write(p []byte) (int, error) {
	r.sent = append(r.sent, p...)
	return len(p), nil
}
func (r *recorder) Read([]byte) (int, error)         { return 0, io.EOF }
func (r *recorder) Close() error                     { return nil }
func (r *recorder) SetDeadline(time.Time) error      { return nil }
func (r *recorder) SetReadDeadline(time.Time) error  { return nil }
func (r *recorder) SetWriteDeadline(time.Time) error { return nil }

// askServer returns the name that crypto/tls finds in a ClientHello.
func askServer(b []byte) (name string, found bool) {
	stop := errors.New("stop")
	c := tls.Server(&player{rest: b}, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		name, found = hello.ServerName, true
		return nil, stop
	}})
	c.Handshake()
	return name, found
}

type player struct {
	recorder
	rest []byte
}

func (p *player) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// split cuts the message of one record into records of n bytes.
func split(record []byte, n int) (out []byte) {
	for body := record[5:]; len(body) > 0; {
		m := min(n, len(body))
		out = append(out, record[0], record[1], record[2], byte(m>>8), byte(m))
		out = append(out, body[:m]...)
		body = body[m:]
	}
	return out
}

func TestHelloName(t *testing.T) {
	for name, want := range map[string]string{
		"": "", "a.test": "a.test", "WWW.Example.COM": "www.example.com", "xn--bcher-kva.test": "xn--bcher-kva.test",
		"192.0.2.1": "", strings.Repeat("a.", 120) + "test": strings.Repeat("a.", 120) + "test",
	} {
		hello := recorded(t, &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		for _, b := range [][]byte{hello, split(hello, 1), split(hello, 100), append(hello, 1, 2, 3)} {
			if got, state := ServerName(b); got != want || state != HelloWhole {
				t.Errorf("%q: got %q, state %d", name, got, state)
			}
		}
		for n := range hello {
			if got, state := ServerName(hello[:n]); got != "" || state != HelloPartial {
				t.Fatalf("%q cut at %d: got %q, state %d", name, n, got, state)
			}
		}
	}
	// Go's client sends no dot at the end; browsers do.
	dotted := bytes.Replace(recorded(t, &tls.Config{ServerName: "a.testX"}), []byte("a.testX"), []byte("a.test."), 1)
	if got, state := ServerName(dotted); got != "a.test" || state != HelloWhole {
		t.Errorf("with a dot at the end: got %q, state %d", got, state)
	}
	for name, b := range map[string]string{
		"HTTP": "GET / HTTP/1.1\r\n", "SSLv2": "\x80\x2e\x01\x00\x02", "alert": "\x15\x03\x01\x00\x02\x02\x28",
		"empty record": "\x16\x03\x01\x00\x00", "large record": "\x16\x03\x01\x40\x01", "ServerHello": "\x16\x03\x01\x00\x04\x02\x00\x00\x00",
		"large hello": "\x16\x03\x01\x00\x04\x01\x00\x40\x01",
	} {
		if _, state := ServerName([]byte(b)); state != HelloInvalid {
			t.Errorf("%s: state %d", name, state)
		}
	}
}

// FuzzHello holds the name that is found against crypto/tls: where both understand the
// ClientHello they must agree, since one picks the pod and the other the certificate.
func FuzzHello(f *testing.F) {
	for _, name := range []string{"", "a.test", "*.test"} {
		hello := recorded(f, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		f.Add(hello)
		f.Add(split(hello, 50))
		f.Add(hello[:len(hello)/2])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		name, state := ServerName(b)
		if state != HelloWhole {
			if name != "" {
				t.Fatalf("a name, %q, of a hello in state %d", name, state)
			}
			return
		}
		if theirs, found := askServer(b); found && !strings.EqualFold(theirs, name) {
			t.Fatalf("found %q, crypto/tls %q", name, theirs)
		}
	})
}
