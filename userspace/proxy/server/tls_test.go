package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/cert/certtest"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
	"github.com/kerngate/kerngate/userspace/proxy/server"
)

// site is what the TLS tests are about: hosts with certificates of their own, a wildcard, two
// that share one, some that ask for client certificates, and one without TLS.
type site struct {
	*proxytest.Proxy
	t       testing.TB
	clients *certtest.Authority
	roots   *x509.CertPool
	config  *feedpb.Config
	keys    [][]byte
}

// ticketKey is the one that all proxies of the tests share.
var ticketKey = bytes.Repeat([]byte{7}, 32)

func startSite(t testing.TB, settings *feedpb.Settings) *site {
	t.Helper()
	pod := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/echo" {
			http.NewResponseController(w).EnableFullDuplex()
			io.Copy(w, r.Body)
			return
		}
		if r.URL.Path == "/own-hsts" {
			w.Header().Set("Strict-Transport-Security", "max-age=1")
		}
		fmt.Fprintf(w, "host=%s proto=%s\n", r.Host, r.Header.Get("X-Forwarded-Proto"))
		for name, values := range r.Header {
			if strings.HasPrefix(strings.ReplaceAll(strings.ToLower(name), "_", "-"), "ssl-") {
				fmt.Fprintf(w, "%s=%s\n", strings.ToLower(name), strings.Join(values, "|"))
			}
		}
	}))
	t.Cleanup(pod.Close)
	address := pod.Listener.Addr().String()
	s := &site{t: t, clients: certtest.NewAuthority("clients"), roots: x509.NewCertPool()}
	s.Proxy = proxytest.Start(t, []proxytest.Service{{Name: "d/a:80", Path: "/", Backends: []string{address}}}, nil)
	if settings == nil {
		settings = &feedpb.Settings{}
	}
	settings.HttpsPorts = []uint32{uint32(netip.MustParseAddrPort(s.Address).Port())}

	servers := certtest.NewAuthorityOf(certtest.ECDSA, "servers")
	s.roots.AddCert(servers.Certificate)
	c := &feedpb.Config{
		Version: 2, Snapshot: true, Settings: settings,
		Services:           []*feedpb.Service{{Id: 1, Name: "d/a:80"}},
		DefaultCertificate: "d/default",
		TicketKeys:         &feedpb.TicketKeys{Keys: [][]byte{ticketKey}},
		Authorities: []*feedpb.Authority{
			{Id: "d/clients", Certificates: s.clients.PEM()},
			{Id: "d/others", Certificates: certtest.NewAuthority("others").PEM()},
		},
	}
	for id, names := range map[string][]string{
		"d/default": {"default.test"}, "d/ecdsa": {"a.test"}, "d/wild": {"*.wild.test"},
		"d/shared": {"b.test", "c.test", "optional.test", "mtls.test"}, "d/mtls": {"mtls.test", "mtls-too.test", "mtls-else.test"},
	} {
		chain, key := servers.Pair(certtest.ECDSA, names...)
		c.Certificates = append(c.Certificates, &feedpb.Certificate{Id: id, Chain: chain, Key: key, Ocsp: []byte("staple of " + id)})
		s.keys = append(s.keys, key)
	}
	chain, key := servers.Pair(certtest.RSA, "a.test")
	c.Certificates = append(c.Certificates, &feedpb.Certificate{Id: "d/rsa", Chain: chain, Key: key})
	s.keys = append(s.keys, key)
	for name, rule := range map[string]*feedpb.TLS{
		"a.test": {Certificates: []string{"d/ecdsa", "d/rsa"}}, "*.wild.test": {Certificates: []string{"d/wild"}},
		"b.test": {Certificates: []string{"d/shared"}}, "c.test": {Certificates: []string{"d/shared"}},
		"broken.test": {Certificates: []string{"d/missing"}}, "plain.test": nil, "": nil,
		"mtls.test":      {Certificates: []string{"d/mtls"}, Client: &feedpb.ClientAuth{Authority: "d/clients", Depth: 1, PassChain: true}},
		"mtls-too.test":  {Certificates: []string{"d/mtls"}, Client: &feedpb.ClientAuth{Authority: "d/clients", Depth: 1, PassChain: true}},
		"mtls-else.test": {Certificates: []string{"d/mtls"}, Client: &feedpb.ClientAuth{Authority: "d/others", Depth: 1}},
		"page.test":      {Client: &feedpb.ClientAuth{Authority: "d/clients", Depth: 1, ErrorPage: "https://help.test/certificates"}},
		"optional.test":  {Certificates: []string{"d/shared"}, Client: &feedpb.ClientAuth{Mode: feedpb.ClientAuth_OPTIONAL, Authority: "d/clients", Depth: 1}},
		"noca.test":      {Client: &feedpb.ClientAuth{Mode: feedpb.ClientAuth_OPTIONAL_NO_CA, Authority: "d/clients", Depth: 1}},
		"lost.test":      {Client: &feedpb.ClientAuth{Mode: feedpb.ClientAuth_OPTIONAL, Authority: "d/gone", Depth: 1}},
	} {
		c.Hosts = append(c.Hosts, &feedpb.Host{Name: name, Tls: rule,
			Routes: []*feedpb.Route{{Path: "/", Service: 1, Source: "d/i"}, {Path: "/secure", Service: 1, Source: "d/i", RedirectHttps: true}}})
	}
	s.config = c
	s.apply(c)
	return s
}

func (s *site) apply(c *feedpb.Config) {
	s.t.Helper()
	next, err := config.Empty().Apply(c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Config.Store(next)
}

// connect does a handshake; change may alter the client's configuration.
func (s *site) connect(name string, change func(*tls.Config)) (*tls.Conn, error) {
	s.t.Helper()
	raw, err := net.Dial("tcp", s.Address)
	if err != nil {
		s.t.Fatal(err)
	}
	c := &tls.Config{ServerName: name, RootCAs: s.roots, InsecureSkipVerify: true}
	if change != nil {
		change(c)
	}
	conn := tls.Client(raw, c)
	s.t.Cleanup(func() { conn.Close() })
	raw.SetDeadline(time.Now().Add(10 * time.Second))
	return conn, conn.Handshake()
}

// ask sends a request over a connection and returns status, fields and body.
func ask(t testing.TB, conn net.Conn, request string) (*http.Response, string) {
	t.Helper()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, string(body)
}

func get(host, path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
}

// TestServerName: which certificate is shown for which name.
func TestServerName(t *testing.T) {
	s := startSite(t, nil)
	for name, want := range map[string]string{
		"a.test": "a.test", "A.TEST": "a.test", "x.wild.test": "*.wild.test", "x.y.wild.test": "default.test",
		"wild.test": "default.test", "b.test": "b.test", "plain.test": "default.test", "broken.test": "default.test",
		"unknown.test": "default.test", "": "default.test",
	} {
		conn, err := s.connect(name, nil)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if got := conn.ConnectionState().PeerCertificates[0].DNSNames[0]; got != want {
			t.Errorf("%q: got the certificate for %s, want that for %s", name, got, want)
		}
		if want == "default.test" && string(conn.OCSPResponse()) != "staple of d/default" {
			t.Errorf("%q: staple %q", name, conn.OCSPResponse())
		}
	}
}

// TestSelfSigned: without a default certificate there is one all the same.
func TestSelfSigned(t *testing.T) {
	s := startSite(t, nil)
	s.config.DefaultCertificate = ""
	s.apply(s.config)
	conn, err := s.connect("unknown.test", nil)
	if err != nil {
		t.Fatal(err)
	}
	if cn := conn.ConnectionState().PeerCertificates[0].Subject.CommonName; cn != "Kerngate default certificate" {
		t.Errorf("got %q", cn)
	}
}

// TestVersions: versions, suites, kinds of certificates and protocols that clients may have.
func TestVersions(t *testing.T) {
	s := startSite(t, nil)
	strict := startSite(t, &feedpb.Settings{TlsMinVersion: "1.3"})
	chosen := startSite(t, &feedpb.Settings{TlsSuites: []string{"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"}, DisableHttp2: true})
	versions := func(from, to uint16) func(*tls.Config) {
		return func(c *tls.Config) { c.MinVersion, c.MaxVersion = from, to }
	}
	suite := func(id uint16) func(*tls.Config) {
		return func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{id} }
	}
	for name, c := range map[string]struct {
		site    *site
		client  func(*tls.Config)
		version uint16 // 0: refused
		suite   uint16
		key     string
		alpn    string
		fault   string
	}{
		"1.3":            {s, nil, tls.VersionTLS13, 0, "ECDSA", "", ""},
		"1.2":            {s, versions(tls.VersionTLS12, tls.VersionTLS12), tls.VersionTLS12, 0, "ECDSA", "", ""},
		"1.1":            {s, versions(tls.VersionTLS10, tls.VersionTLS11), 0, 0, "", "", "version"},
		"1.2 not wanted": {strict, versions(tls.VersionTLS12, tls.VersionTLS12), 0, 0, "", "", "version"},
		"1.3 wanted":     {strict, nil, tls.VersionTLS13, 0, "ECDSA", "", ""},
		"RSA alone":      {s, suite(tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256), tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "RSA", "", ""},
		"ChaCha":         {s, suite(tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256), tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDSA", "", ""},
		"chosen suite":   {chosen, versions(tls.VersionTLS12, tls.VersionTLS12), tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDSA", "", ""},
		"other suite":    {chosen, suite(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), 0, 0, "", "", "suite"},
		"insecure suite": {s, suite(tls.TLS_RSA_WITH_AES_128_CBC_SHA), 0, 0, "", "", "suite"},
		"h2":             {s, func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }, tls.VersionTLS13, 0, "ECDSA", "h2", ""},
		"h2 disabled":    {chosen, func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }, tls.VersionTLS13, 0, "ECDSA", "http/1.1", ""},
		"http/1.1":       {s, func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }, tls.VersionTLS13, 0, "ECDSA", "http/1.1", ""},
		"other protocol": {s, func(c *tls.Config) { c.NextProtos = []string{"imap"} }, 0, 0, "", "", "protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			before := c.site.failed(c.fault)
			conn, err := c.site.connect("a.test", c.client)
			if c.version == 0 {
				if err == nil {
					t.Fatal("the handshake was done")
				}
				waitFor(t, func() bool { return c.site.failed(c.fault) == before+1 })
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			state := conn.ConnectionState()
			if state.Version != c.version || c.suite != 0 && state.CipherSuite != c.suite || state.NegotiatedProtocol != c.alpn {
				t.Errorf("%s %s %q", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite), state.NegotiatedProtocol)
			}
			if got := state.PeerCertificates[0].PublicKeyAlgorithm.String(); got != c.key {
				t.Errorf("the certificate is of %s, want %s", got, c.key)
			}
			if c.alpn != "h2" {
				if r, body := ask(t, conn, get("a.test", "/")); r.StatusCode != 200 || !strings.Contains(body, "proto=https") {
					t.Errorf("%s %q", r.Status, body)
				}
			}
		})
	}
}

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
		{"", "a.test", 421}, {"plain.test", "a.test", 421}, // a host that has TLS of its own
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

// TestRedirect: clear-text requests of routes that want it are sent to https, and where a
// client must show a certificate they get nowhere.
func TestRedirect(t *testing.T) {
	s := startSite(t, &feedpb.Settings{RedirectPort: 8443, Hsts: "max-age=31536000"})
	s.config.Settings.HttpsPorts = nil
	s.apply(s.config)
	for _, c := range []struct {
		request  string
		status   int
		location string
	}{
		{get("a.test", "/secure/x?q=1&r=%0d"), 308, "https://a.test:8443/secure/x?q=1&r=%0d"},
		{get("A.test:80", "/secure?"), 308, "https://a.test:8443/secure?"},
		{"GET /secure HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-Proto: https\r\n\r\n", 308, "https://a.test:8443/secure"},
		{"POST http://a.test/secure HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi", 308, "https://a.test:8443/secure"},
		{"GET /secure HTTP/1.0\r\n\r\n", 308, "https://127.0.0.1:8443/secure"},
		{get("a.test", "/open"), 200, ""},
		{get("mtls.test", "/"), 400, ""}, {get("mtls.test", "/secure"), 308, "https://mtls.test:8443/secure"},
		{get("optional.test", "/"), 200, ""},
	} {
		r, body := ask(t, s.Dial(t), c.request)
		if r.StatusCode != c.status || r.Header.Get("Location") != c.location {
			t.Errorf("%q: %s to %q, want %d to %q (%s)", c.request, r.Status, r.Header.Get("Location"), c.status, c.location, body)
		}
		if got := r.Header.Get("Strict-Transport-Security"); got != "" {
			t.Errorf("%q: HSTS %q in clear text (RFC 6797 section 7.2)", c.request, got)
		}
	}
	if n := s.Metrics.Ended[0].Load(); n == 0 {
		t.Error("nothing was forwarded")
	}
}

// TestHSTS: answers over TLS have the field once.
func TestHSTS(t *testing.T) {
	s := startSite(t, &feedpb.Settings{Hsts: "max-age=31536000; includeSubDomains"})
	for request, want := range map[string]string{
		get("a.test", "/"):           "max-age=31536000; includeSubDomains",
		get("a.test", "/own-hsts"):   "max-age=1",
		get("b.test", "/"):           "max-age=31536000; includeSubDomains", // 421
		"GET / HTTP/1.1\r\nHost\r\n": "max-age=31536000; includeSubDomains", // 400
	} {
		conn, err := s.connect("a.test", nil)
		if err != nil {
			t.Fatal(err)
		}
		r, _ := ask(t, conn, request+"\r\n")
		if got := r.Header.Values("Strict-Transport-Security"); len(got) != 1 || got[0] != want {
			t.Errorf("%q: %q, want %q", request, got, want)
		}
	}
}

func (s *site) failed(reason string) uint64 { return failedHandshakes(s.Stats, reason) }

// TestBadHandshakes: what does not become TLS is closed in time, and counted.
func TestBadHandshakes(t *testing.T) {
	s := startSite(t, &feedpb.Settings{HeadTimeoutMs: 300})
	for reason, send := range map[string]string{
		"not_tls": "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"timeout": "\x16\x03\x01\x00\x50",
		"invalid": "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
	} {
		before := s.failed(reason)
		conn := s.Dial(t)
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(conn, send)
		io.Copy(io.Discard, conn)
		waitFor(t, func() bool { return s.failed(reason) == before+1 })
	}
	silent := s.failed("timeout")
	io.Copy(io.Discard, s.Dial(t))
	waitFor(t, func() bool { return s.failed("timeout") == silent+1 })

	gone := s.Dial(t)
	io.WriteString(gone, "\x16\x03\x01\x00\x50")
	gone.Close()
	waitFor(t, func() bool { return s.failed("closed") == 1 })

	conn, err := s.connect("a.test", func(c *tls.Config) { c.InsecureSkipVerify, c.RootCAs = false, x509.NewCertPool() })
	if err == nil {
		t.Fatalf("trusted %v", conn.ConnectionState().PeerCertificates[0].Subject)
	}
	waitFor(t, func() bool { return s.failed("alert") == 1 })
	if n := s.Stats.Handshakes.Open.Load(); n != 0 {
		t.Errorf("%d handshakes are still open", n)
	}
}

// TestBodies moves large bodies both ways at once, with a client that reads slowly.
func TestBodies(t *testing.T) {
	s := startSite(t, nil)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		tr := &http.Transport{
			DisableCompression: true,
			DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
				return s.connect("a.test", func(c *tls.Config) { c.MaxVersion = version })
			},
		}
		defer tr.CloseIdleConnections()
		client := &http.Client{Transport: tr}
		for _, size := range []int{0, 1, 100, 16 << 10, 16<<10 + 1, 100_000, 3 << 20} {
			sent := bytes.Repeat([]byte("kerngate"), size/8+1)[:size]
			resp, err := client.Post("https://a.test/echo", "", bytes.NewReader(sent))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(slowly{resp.Body})
			resp.Body.Close()
			if err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("%s: %d bytes came back of %d: %v", tls.VersionName(version), len(got), size, err)
			}
		}
	}
}

type slowly struct{ io.Reader }

func (s slowly) Read(p []byte) (int, error) {
	if len(p) > 10_000 {
		time.Sleep(100 * time.Microsecond)
	}
	return s.Reader.Read(p)
}

// TestNoKeyShows: no key is in errors, logs or dumps of the configuration.
func TestNoKeyShows(t *testing.T) {
	s := startSite(t, nil)
	dump := fmt.Sprintf("%v %+v", s.Config.Load(), s.Stats)
	for i, c := range s.config.Certificates {
		broken := &feedpb.Config{Certificates: []*feedpb.Certificate{
			{Id: "d/broken", Chain: s.config.Certificates[(i+1)%len(s.config.Certificates)].Chain, Key: c.Key}}}
		_, err := config.Empty().Apply(broken)
		if err == nil {
			t.Fatal("a key of another certificate was taken")
		}
		if !strings.Contains(err.Error(), "d/broken") {
			t.Errorf("the error does not name the Secret: %v", err)
		}
		dump += err.Error() + "\n"
	}
	dump += s.Log.String()
	for _, key := range s.keys {
		if leak := certtest.Leaks(dump, key); leak != "" {
			t.Errorf("a key shows: %s", leak)
		}
	}
}

// failedHandshakes returns a count by its reason.
func failedHandshakes(s *server.Stats, reason string) uint64 {
	if reason == "" {
		return 0
	}
	return s.Handshakes.Failed[slices.Index(server.HandshakeFaults[:], reason)].Load()
}

func waitFor(t testing.TB, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen within 5 s")
		}
	}
}
