package server_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/control/cert/certtest"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
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
		"few.test":       {Suites: []string{"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"}},
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
		"http/1.0":       {s, func(c *tls.Config) { c.NextProtos = []string{"http/1.0"} }, tls.VersionTLS13, 0, "ECDSA", "http/1.0", ""},
		"http/0.9":       {s, func(c *tls.Config) { c.NextProtos = []string{"http/0.9", "http/1.0"} }, tls.VersionTLS13, 0, "ECDSA", "http/1.0", ""},
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
