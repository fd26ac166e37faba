package server_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/control/cert/certtest"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// TestPassthrough: connections for a host that does TLS itself reach its pod as they are; the
// others of the same port do not.
func TestPassthrough(t *testing.T) {
	s := startSite(t, &feedpb.Settings{AccessLogSample: 1})
	authority := certtest.NewAuthorityOf(certtest.ECDSA, "pods")
	chain, key := authority.Pair(certtest.ECDSA, "through.test")
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	pod, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pod.Close() })
	go func() {
		for {
			c, err := pod.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
				c.(*tls.Conn).CloseWrite()
			}()
		}
	}()
	s.Backend(t, 2, pod.Addr().String())
	s.config.Services = append(s.config.Services, &feedpb.Service{Id: 2, Name: "d/through:443"}, &feedpb.Service{Id: 3, Name: "d/nobody:443"})
	s.config.Hosts = append(s.config.Hosts,
		&feedpb.Host{Name: "through.test", Tls: &feedpb.TLS{PassthroughService: 2, Source: "d/through"}},
		&feedpb.Host{Name: "nobody.test", Tls: &feedpb.TLS{PassthroughService: 3, Source: "d/nobody"}})
	s.apply(s.config)

	conn, err := s.connect("through.test", func(c *tls.Config) { c.RootCAs, c.InsecureSkipVerify = nil, true })
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.ConnectionState().PeerCertificates[0].DNSNames[0]; got != "through.test" {
		t.Fatalf("the certificate is that for %s", got)
	}
	sent := bytes.Repeat([]byte("kerngate"), 1<<18)
	go func() {
		conn.Write(sent)
		conn.CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes came back of %d: %v", len(got), len(sent), err)
	}
	conn.NetConn().(*net.TCPConn).CloseWrite()
	waitFor(t, func() bool { return s.Stats.Passthrough.Ended[0].Load() == 1 && s.Stats.Passthrough.Open.Load() == 0 })
	waitFor(t, func() bool {
		log := s.Log.String()
		return strings.Contains(log, `"host":"through.test"`) && strings.Contains(log, `"proto":"TLS"`) && strings.Contains(log, `"service":"d/through:443"`)
	})

	if _, err := s.connect("nobody.test", nil); err == nil {
		t.Error("a service without pods took the connection")
	}
	other, err := s.connect("a.test", nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, _ := ask(t, other, get("a.test", "/")); r.StatusCode != 200 {
		t.Error(r.Status)
	}
	if r, _ := ask(t, other, get("through.test", "/")); r.StatusCode != 421 {
		t.Errorf("a request for the host over another's connection: %s, want 421", r.Status)
	}

	// A hello that comes in pieces, and the small answers of a tunnel, which must not wait.
	slow, err := net.Dial("tcp", s.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	talk := tls.Client(pieces{slow}, &tls.Config{ServerName: "through.test", InsecureSkipVerify: true})
	if err := talk.Handshake(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for i := range 20 {
		fmt.Fprintf(talk, "%04d", i)
		if _, err := io.ReadFull(talk, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
	}
	if d := time.Since(began); d > time.Second {
		t.Errorf("20 small messages took %v", d)
	}
}

type pieces struct{ net.Conn }

func (p pieces) Write(b []byte) (int, error) {
	for i := 0; i < len(b); i += 400 {
		if _, err := p.Conn.Write(b[i:min(len(b), i+400)]); err != nil {
			return i, err
		}
		time.Sleep(2 * time.Millisecond)
	}
	return len(b), nil
}
