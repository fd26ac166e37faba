//go:build linux

package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// The hosts of a secureSite: webHost has certificates with both kinds of key, wildHosts a
// wildcard, plainHost none.
const (
	wildHosts = "*.wild.test"
	plainHost = "plain.test"
)

// secureSite is a site with certificates.
type secureSite struct {
	*site
	authority        *lab.Authority
	ecdsa, rsa, wild *lab.Certificate
	fallback         *lab.Certificate // the default certificate
}

// newSecureSite starts a site with two pods and two workers.
func newSecureSite(t *testing.T, args ...string) *secureSite {
	t.Helper()
	s := &secureSite{site: prepareSite(t, 1, []app{{"web", 2}})}
	var err error
	s.authority, err = lab.NewAuthority("kerngate test")
	must(t, err)
	s.ecdsa = s.issue(lab.Request{Names: []string{webHost}})
	s.rsa = s.issue(lab.Request{Names: []string{webHost}, Kind: lab.RSA})
	s.wild = s.issue(lab.Request{Names: []string{wildHosts}})
	s.fallback = s.issue(lab.Request{Names: []string{"default.test"}})
	must(t, s.Manifests.Write("secrets.yaml", lab.TLSSecret("ecdsa", s.ecdsa), lab.TLSSecret("rsa", s.rsa),
		lab.TLSSecret("wild", s.wild), lab.TLSSecret("fallback", s.fallback)))
	must(t, s.Manifests.Write("ingress.yaml",
		lab.WithTLS(lab.WithTLS(lab.Ingress("secure", lab.Path{Host: webHost, Service: "web"}), "ecdsa", webHost), "rsa", webHost),
		lab.WithTLS(lab.Ingress("wild", lab.Path{Host: wildHosts, Service: "web"}), "wild", wildHosts),
		lab.Ingress("plain", lab.Path{Host: plainHost, Service: "web"})))
	s.Args = append(s.Args, "--default-certificate=default/fallback", "--proxy-workers=2")
	s.Args = append(s.Args, args...)
	s.start()
	return s
}

func (s *site) issueFrom(a *lab.Authority, r lab.Request) *lab.Certificate {
	s.t.Helper()
	c, err := a.Issue(r)
	must(s.t, err)
	return c
}

func (s *secureSite) issue(r lab.Request) *lab.Certificate { return s.issueFrom(s.authority, r) }

// config trusts the site's authority.
func (s *secureSite) config(name string) *tls.Config {
	return &tls.Config{ServerName: name, RootCAs: s.authority.Pool()}
}

// dialHTTPS opens a raw connection to port 443 of the IPv4 address.
func (s *site) dialHTTPS() net.Conn {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := s.lab.Client.Dial(ctx, "tcp", netip.AddrPortFrom(s.lab.VIP4, 443).String())
	must(s.t, err)
	s.t.Cleanup(func() { conn.Close() })
	must(s.t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn
}

// secure does a handshake; the error is that of the handshake.
func (s *site) secure(config *tls.Config) (*tls.Conn, error) {
	s.t.Helper()
	c := tls.Client(s.dialHTTPS(), config)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return c, c.HandshakeContext(ctx)
}

// mustSecure is secure for handshakes that have to succeed.
func (s *site) mustSecure(config *tls.Config) *secureWire {
	s.t.Helper()
	c, err := s.secure(config)
	if err != nil {
		s.t.Fatalf("handshake for %q: %v", config.ServerName, err)
	}
	return &secureWire{wire: wire{Conn: c, t: s.t, in: bufio.NewReader(c)}, state: c.ConnectionState()}
}

// secureWire is a wire over TLS.
type secureWire struct {
	wire
	state tls.ConnectionState
}

// ask sends a GET for a host and path, and returns the answer.
func (w *wire) ask(host, path string, fields ...string) *reply {
	w.t.Helper()
	text := "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n"
	for _, field := range fields {
		text += field + "\r\n"
	}
	w.send(text + "\r\n")
	return w.receive("GET")
}

// shows reports whether the connection's certificate is c.
func (w *secureWire) shows(c *lab.Certificate) bool {
	return w.state.PeerCertificates[0].Equal(c.TLS.Leaf)
}

// file writes what a command of the client's needs, and returns its path.
func (s *site) file(name string, content []byte) string {
	s.t.Helper()
	path := filepath.Join(s.lab.Dir, name)
	must(s.t, os.WriteFile(path, content, 0o644))
	return path
}

// waitProblem waits until kerngatectl tells of a problem with all of these words.
func (s *site) waitProblem(words ...string) {
	s.t.Helper()
	must(s.t, lab.Until(10*time.Second, fmt.Sprintf("problem with %q", words), func() error {
		out, err := s.Ctl("problems")
		for _, word := range words {
			if err == nil && !strings.Contains(out, word) {
				err = errors.New(out)
			}
		}
		return err
	}))
}

// httpsClient is an HTTP client that speaks TLS to the ingress address, over HTTP/2 if it
// may.
func (s *secureSite) httpsClient(http2 bool) *http.Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return s.lab.Client.Dial(ctx, network, netip.AddrPortFrom(s.lab.VIP4, 443).String())
		},
		TLSClientConfig: &tls.Config{RootCAs: s.authority.Pool()}, DisableCompression: true,
		Protocols: new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(!http2)
	transport.Protocols.SetHTTP2(http2)
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}
