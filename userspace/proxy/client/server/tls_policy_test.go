package server_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/control/cert/certtest"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// TestResumption: a session is resumed by another worker, or by another process with the
// same keys, and not under another policy.
func TestResumption(t *testing.T) {
	one, two := startSite(t, nil), startSite(t, nil)
	stranger := startSite(t, nil)
	stranger.config.TicketKeys = &feedpb.TicketKeys{Keys: [][]byte{bytes.Repeat([]byte{8}, 32)}}
	stranger.apply(stranger.config)
	rotated := startSite(t, nil)
	rotated.config.TicketKeys = &feedpb.TicketKeys{Keys: [][]byte{bytes.Repeat([]byte{9}, 32), ticketKey}}
	rotated.apply(rotated.config)
	withCertificate := one.certificate("me", one.clients)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, c := range map[string]struct {
			from, to   string
			at         *site
			resumed    bool
			sent, want string // verdicts
		}{
			"itself":              {"a.test", "a.test", one, true, "", ""},
			"another proxy":       {"a.test", "a.test", two, true, "", ""},
			"rotated keys":        {"a.test", "a.test", rotated, true, "", ""},
			"other keys":          {"a.test", "a.test", stranger, false, "", ""},
			"with certificate":    {"mtls.test", "mtls.test", two, true, "SUCCESS", "SUCCESS"},
			"same policy":         {"mtls.test", "mtls-too.test", two, true, "SUCCESS", "SUCCESS"},
			"into a policy":       {"a.test", "optional.test", two, false, "", "SUCCESS"},
			"out of a policy":     {"mtls.test", "a.test", two, false, "SUCCESS", ""},
			"into another policy": {"mtls.test", "optional.test", two, false, "SUCCESS", "SUCCESS"},
		} {
			t.Run(tls.VersionName(version)+" "+name, func(t *testing.T) {
				cache := &oneSession{}
				change := func(c *tls.Config) {
					c.MaxVersion, c.ClientSessionCache, c.Certificates = version, cache, []tls.Certificate{withCertificate}
				}
				first, err := one.connect(c.from, change)
				if err != nil {
					t.Fatal(err)
				}
				if _, body := ask(t, first, get(c.from, "/")); !strings.Contains(body, "ssl-client-verify="+c.sent) && c.sent != "" {
					t.Errorf("first: %q", body)
				}
				second, err := c.at.connect(c.to, change)
				if err != nil {
					t.Fatal(err)
				}
				if got := second.ConnectionState().DidResume; got != c.resumed {
					t.Errorf("resumed %t, want %t", got, c.resumed)
				}
				r, body := ask(t, second, get(c.to, "/"))
				if r.StatusCode != 200 || strings.Contains(body, "ssl-client-verify="+c.want) != (c.want != "") {
					t.Errorf("%s %q, want %q", r.Status, body, c.want)
				}
			})
		}
	}
}

// oneSession is a client that offers its last session whatever the host.
type oneSession struct{ last *tls.ClientSessionState }

func (o *oneSession) Get(string) (*tls.ClientSessionState, bool) { return o.last, o.last != nil }
func (o *oneSession) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		o.last = s
	}
}

// TestRevokedWhileResuming: a ticket does not outlive what its certificate was worth.
func TestRevokedWhileResuming(t *testing.T) {
	s := startSite(t, nil)
	mine := s.certificate("me", s.clients)
	leaf, _ := x509.ParseCertificate(mine.Certificate[0])
	cache := &oneSession{}
	change := func(c *tls.Config) { c.ClientSessionCache, c.Certificates = cache, []tls.Certificate{mine} }
	conn, err := s.connect("mtls.test", change)
	if err != nil {
		t.Fatal(err)
	}
	if r, _ := ask(t, conn, get("mtls.test", "/")); r.StatusCode != 200 {
		t.Fatal(r.Status)
	}
	s.config.Authorities[0] = &feedpb.Authority{Id: "d/clients", Certificates: s.clients.PEM(), Revoked: s.clients.Revocation(leaf.SerialNumber)}
	s.apply(s.config)
	if r, _ := ask(t, conn, get("mtls.test", "/")); r.StatusCode != 421 {
		t.Errorf("the open connection got %s, want 421: the policy has changed", r.Status)
	}
	again, err := s.connect("mtls.test", change)
	if err != nil {
		t.Fatal(err)
	}
	if r, body := ask(t, again, get("mtls.test", "/")); r.StatusCode != 400 {
		t.Errorf("the revoked client got %s %q", r.Status, body)
	}
}

// certificate makes a client's.
func (s *site) certificate(name string, a *certtest.Authority) tls.Certificate {
	s.t.Helper()
	chain, key := a.Make(certtest.ECDSA, func(c *x509.Certificate) {
		c.Subject.CommonName = name
		c.Subject.Organization = []string{"Test, \"Inc\"\r\nX-Forged: yes"}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		s.t.Fatal(err)
	}
	return pair
}

// TestClientCertificates: who is let in where, and what the pod is told.
func TestClientCertificates(t *testing.T) {
	s := startSite(t, nil)
	good := s.certificate("good", s.clients)
	foreign := s.certificate("foreign", certtest.NewAuthority("strangers"))
	for _, c := range []struct {
		host    string
		show    *tls.Certificate
		status  int
		verdict string
	}{
		{"mtls.test", nil, 400, ""},
		{"mtls.test", &good, 200, "SUCCESS"},
		{"mtls.test", &foreign, 400, ""},
		{"mtls-else.test", &good, 400, ""},
		{"page.test", nil, 302, ""},
		{"page.test", &foreign, 302, ""},
		{"page.test", &good, 200, "SUCCESS"},
		{"optional.test", nil, 200, "NONE"},
		{"optional.test", &good, 200, "SUCCESS"},
		{"optional.test", &foreign, 400, ""},
		{"noca.test", nil, 200, "NONE"},
		{"noca.test", &foreign, 200, "FAILED:unable to get local issuer certificate"},
		{"lost.test", nil, 400, ""},
		{"lost.test", &good, 400, ""},
		{"a.test", &good, 200, ""}, // not asked
	} {
		conn, err := s.connect(c.host, func(config *tls.Config) {
			if c.show != nil {
				// Whatever the server says that it would take.
				config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.show, nil }
			}
		})
		if err != nil {
			t.Errorf("%s: %v", c.host, err)
			continue
		}
		r, body := ask(t, conn, "GET / HTTP/1.1\r\nHost: "+c.host+"\r\nssl-client-verify: SUCCESS\r\nSSL_Client_Verify: SUCCESS\r\n"+
			"Ssl-Client_Subject-Dn: CN=root\r\nssl_client_cert: x\r\nssl-client-issuer-dn: CN=root\r\n\r\n")
		if r.StatusCode != c.status {
			t.Errorf("%s: %s %q, want %d", c.host, r.Status, body, c.status)
			continue
		}
		if c.status == 302 && r.Header.Get("Location") != "https://help.test/certificates" {
			t.Errorf("%s: sent to %q", c.host, r.Header.Get("Location"))
		}
		if c.status != 200 {
			continue
		}
		want := map[string]string{}
		if c.verdict != "" {
			want["ssl-client-verify"] = c.verdict
		}
		if c.verdict != "" && c.show != nil {
			leaf, _ := x509.ParseCertificate(c.show.Certificate[0])
			want["ssl-client-subject-dn"] = `CN=` + leaf.Subject.CommonName + `,O=Test\, \"Inc\"\0D\0AX-Forged: yes`
			want["ssl-client-issuer-dn"] = "CN=" + leaf.Issuer.CommonName
		}
		for _, line := range strings.Split(body, "\n") {
			name, value, _ := strings.Cut(line, "=")
			if !strings.HasPrefix(name, "ssl") {
				continue
			}
			if name == "ssl-client-cert" && c.host == "mtls.test" {
				text, err := url.PathUnescape(value)
				if err != nil || !strings.HasPrefix(text, "-----BEGIN CERTIFICATE-----\n") || !strings.HasSuffix(text, "-----END CERTIFICATE-----\n") {
					t.Errorf("%s: certificate %q", c.host, value)
				}
				continue
			}
			if want[name] != value {
				t.Errorf("%s: the pod got %s, want %q", c.host, line, want[name])
			}
			delete(want, name)
		}
		if len(want) > 0 {
			t.Errorf("%s: the pod did not get %q", c.host, want)
		}
	}
}

// TestMisdirected: which hosts a connection may carry requests for.
func TestMisdirected(t *testing.T) {
	s := startSite(t, nil)
	good := s.certificate("good", s.clients)
	for _, c := range []struct {
		name, host string
		status     int
	}{
		{"a.test", "a.test", 200}, {"a.test", "A.Test:443", 200},
		{"a.test", "b.test", 421},                                    // another certificate
		{"b.test", "c.test", 200},                                    // both are in one certificate
		{"b.test", "mtls.test", 421},                                 // the certificate covers it, and the client was not asked
		{"b.test", "optional.test", 421},                             // the same
		{"optional.test", "b.test", 421},                             // nor the other way round
		{"mtls.test", "mtls-too.test", 200},                          // same certificate, same policy
		{"mtls.test", "mtls-else.test", 421},                         // same certificate, another authority
		{"x.wild.test", "y.wild.test", 200},                          // one wildcard
		{"x.wild.test", "x.y.wild.test", 421},                        // which is for one label
		{"plain.test", "unknown.test", 200}, {"", "plain.test", 200}, // default certificate, no TLS of their own
		{"unknown.test", "", 200},
		{"plain.test", "a.test", 421},                                           // a host that has TLS of its own
		{"", "a.test", 200}, {"", "mtls.test", 421}, {"", "optional.test", 421}, // no name: any host that asks for no certificate
		{"a.test", "plain.test", 421},
		{"broken.test", "broken.test", 200}, // default certificate in place of a missing one
	} {
		conn, err := s.connect(c.name, func(config *tls.Config) { config.Certificates = []tls.Certificate{good} })
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if r, body := ask(t, conn, get(c.host, "/")); r.StatusCode != c.status {
			t.Errorf("%q over a connection for %q: %s %q, want %d", c.host, c.name, r.Status, body, c.status)
		}
	}
}

// TestCoverageChanges: a connection that is older than a host's policy does not get past it.
func TestCoverageChanges(t *testing.T) {
	s := startSite(t, nil)
	conn, err := s.connect("unknown.test", nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, _ := ask(t, conn, get("plain.test", "/")); r.StatusCode != 200 {
		t.Fatal(r.Status)
	}
	for _, h := range s.config.Hosts {
		if h.Name == "plain.test" {
			h.Tls = &feedpb.TLS{Client: &feedpb.ClientAuth{Authority: "d/clients"}}
		}
	}
	s.apply(s.config)
	if r, _ := ask(t, conn, get("plain.test", "/")); r.StatusCode != 421 {
		t.Errorf("got %s, want 421", r.Status)
	}
}

// TestHostSuites: a host's own suites hold for it and for no other, for sessions that are
// resumed as well.
func TestHostSuites(t *testing.T) {
	s := startSite(t, nil)
	only := func(id uint16, cache tls.ClientSessionCache) func(*tls.Config) {
		return func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites, c.ClientSessionCache = tls.VersionTLS12, []uint16{id}, cache
		}
	}
	const allowed, other = tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
	for _, c := range []struct {
		name  string
		suite uint16
		done  bool
	}{{"few.test", allowed, true}, {"few.test", other, false}, {"a.test", allowed, true}, {"a.test", other, true}, {"unknown.test", other, true}} {
		conn, err := s.connect(c.name, only(c.suite, nil))
		if (err == nil) != c.done {
			t.Errorf("%s with %s: %v", c.name, tls.CipherSuiteName(c.suite), err)
			continue
		}
		if err == nil {
			if r, _ := ask(t, conn, get(c.name, "/")); r.StatusCode != 200 {
				t.Errorf("%s: %s", c.name, r.Status)
			}
		}
	}
	cache := &oneSession{}
	conn, err := s.connect("a.test", only(other, cache))
	if err != nil {
		t.Fatal(err)
	}
	ask(t, conn, get("a.test", "/"))
	if _, err := s.connect("few.test", only(other, cache)); err == nil {
		t.Error("a session of another host brings a suite that this one does not have")
	}
	if conn, err = s.connect("few.test", nil); err != nil || conn.ConnectionState().Version != tls.VersionTLS13 {
		t.Errorf("TLS 1.3 is not left as it is: %v", err)
	}
}
