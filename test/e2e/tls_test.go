//go:build linux

package e2e

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// A client of any sane kind gets a connection, of the best kind that both can; one that can
// only do what is broken gets none.
func TestTLSScan(t *testing.T) {
	s := newSecureSite(t)
	ca := s.file("ca.pem", s.authority.PEM)
	scan := func(args ...string) (string, error) {
		return s.lab.Client.Run(lab.Command{Path: "openssl", Args: append([]string{"s_client", "-connect", s.lab.VIP4.String() + ":443",
			"-servername", webHost, "-CAfile", ca, "-verify_return_error", "-verify_hostname", webHost}, args...)})
	}
	for _, c := range []struct {
		name string
		args []string
		want []string // in openssl's report
	}{
		{"TLS 1.3", []string{"-tls1_3"}, []string{"TLSv1.3", "Verification: OK", "Verify return code: 0"}},
		{"TLS 1.3 with ChaCha20", []string{"-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"}, []string{"TLS_CHACHA20_POLY1305_SHA256"}},
		{"TLS 1.3 with AES-256", []string{"-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"}, []string{"TLS_AES_256_GCM_SHA384"}},
		{"TLS 1.2", []string{"-tls1_2"}, []string{"TLSv1.2", "Verification: OK", "ECDHE-ECDSA-"}},
		{"TLS 1.2 for RSA", []string{"-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"}, []string{"ECDHE-RSA-AES128-GCM-SHA256", "Server public key is 2048 bit"}},
		{"TLS 1.2 with ChaCha20", []string{"-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"}, []string{"ECDHE-ECDSA-CHACHA20-POLY1305"}},
		{"X25519", []string{"-groups", "X25519"}, []string{"X25519"}},
		{"P-256", []string{"-groups", "P-256"}, []string{"prime256v1"}},
		{"ALPN h2 first", []string{"-alpn", "h2,http/1.1"}, []string{"ALPN protocol: h2"}},
		{"ALPN of HTTP/1.1", []string{"-alpn", "http/1.1"}, []string{"ALPN protocol: http/1.1"}},
	} {
		out, err := scan(c.args...)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: openssl does not tell of %q:\n%.3000s", c.name, want, out)
			}
		}
	}
	for name, args := range map[string][]string{
		"TLS 1.1":             {"-tls1_1", "-cipher", "ALL:@SECLEVEL=0"},
		"TLS 1.0":             {"-tls1", "-cipher", "ALL:@SECLEVEL=0"},
		"RSA key exchange":    {"-tls1_2", "-cipher", "AES128-GCM-SHA256:AES128-SHA:AES256-SHA"},
		"CBC":                 {"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256"},
		"no common ALPN":      {"-alpn", "spdy/3"},
		"a wrong server name": {"-servername", "nobody.test"},
	} {
		if out, err := scan(args...); err == nil {
			t.Errorf("%s: openssl got a connection:\n%.2000s", name, out)
		}
	}

	// Go's client, over versions and suites.
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := s.config(webHost)
		config.MinVersion, config.MaxVersion = version, version
		w := s.mustSecure(config)
		if r := w.ask(webHost, "/go"); w.state.Version != version || r.Pod.Path != "/go" || r.Pod.Headers.Get("X-Forwarded-Proto") != "https" ||
			r.Pod.Headers.Get("X-Forwarded-Port") != "443" {
			t.Errorf("version %x: %d %s", version, r.Status, r.Body)
		}
	}
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if !slices.Contains(suite.SupportedVersions, tls.VersionTLS12) {
			continue
		}
		config := s.config(webHost)
		config.MaxVersion, config.CipherSuites = tls.VersionTLS12, []uint16{suite.ID}
		if _, err := s.secure(config); (err == nil) == suite.Insecure {
			t.Errorf("%s, insecure: %t: %v", suite.Name, suite.Insecure, err)
		}
	}
}

// Which certificate a client gets is a matter of the name that it asks for.
func TestCertificateByName(t *testing.T) {
	s := newSecureSite(t)
	for name, want := range map[string]*lab.Certificate{
		webHost: s.ecdsa, strings.ToUpper(webHost): s.ecdsa, "a.wild.test": s.wild, "b.wild.test": s.wild,
		"a.b.wild.test": s.fallback, "wild.test": s.fallback, plainHost: s.fallback, "unknown.test": s.fallback, "": s.fallback,
	} {
		w := s.mustSecure(&tls.Config{ServerName: name, InsecureSkipVerify: true})
		if !w.shows(want) {
			t.Errorf("%q: got the certificate for %v, want that for %v", name, w.state.PeerCertificates[0].DNSNames, want.TLS.Leaf.DNSNames)
		}
	}
	config := &tls.Config{ServerName: webHost, InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}
	if w := s.mustSecure(config); !w.shows(s.rsa) {
		t.Error("a client without ECDSA did not get the RSA certificate")
	}

	// A connection serves the hosts that it is for, and says 421 to all others.
	for _, c := range []struct {
		name, host string
		status     int
	}{
		{webHost, webHost, 200}, {webHost, "a.wild.test", 421}, {webHost, plainHost, 421}, {webHost, "unknown.test", 421},
		{"a.wild.test", "a.wild.test", 200}, {"a.wild.test", "b.wild.test", 200}, {"a.wild.test", webHost, 421},
		{plainHost, plainHost, 200}, {plainHost, webHost, 421}, {"", plainHost, 200},
	} {
		w := s.mustSecure(&tls.Config{ServerName: c.name, InsecureSkipVerify: true})
		if r := w.ask(c.host, "/"); r.Status != c.status {
			t.Errorf("on a connection for %q, host %q: %d, want %d", c.name, c.host, r.Status, c.status)
		}
	}
}

// Sessions are resumed on every worker, and by the proxy that comes after this one.
func TestSessionResumption(t *testing.T) {
	s := newSecureSite(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := s.config(webHost)
		config.MinVersion, config.MaxVersion = version, version
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		// The same ticket every time, so that several workers see it.
		resumed := func() bool {
			w := s.mustSecure(config)
			defer w.Close()     // else the old proxy would wait for it
			w.ask(webHost, "/") // brings the ticket of TLS 1.3
			return w.state.DidResume
		}
		if resumed() {
			t.Fatalf("version %x: the first connection was resumed", version)
		}
		for i := range 20 { // of two workers
			if !resumed() {
				t.Errorf("version %x: connection %d was not resumed", version, i)
			}
		}
		before, err := s.ProxyPIDs()
		must(t, err)
		must(t, s.Agent.Signal(syscall.SIGHUP))
		must(t, lab.Until(15*time.Second, "the new proxy alone", func() error {
			pids, err := s.ProxyPIDs()
			if err == nil && (len(pids) != 1 || pids[0] == before[0]) {
				err = fmt.Errorf("proxies %v, before %v", pids, before)
			}
			return err
		}))
		for i := range 5 {
			if !resumed() {
				t.Errorf("version %x: connection %d to the next proxy was not resumed", version, i)
			}
		}
	}
}

// Hosts with TLS send clear-text requests to https, those without do not.
func TestRedirectAndHSTS(t *testing.T) {
	const hsts = "max-age=31536000; includeSubDomains"
	s := newSecureSite(t, "--hsts="+hsts)
	r, err := s.do(http.MethodPost, "http://"+webHost+"/a%20b?c=d", strings.NewReader("body"))
	must(t, err)
	if r.Status != 308 || r.Header.Get("Location") != "https://"+webHost+"/a%20b?c=d" || r.Header.Get("Strict-Transport-Security") != "" {
		t.Errorf("status %d, %v", r.Status, r.Header)
	}
	if r := s.get("http://" + plainHost + "/"); r.Status != 200 {
		t.Errorf("a host without TLS: %d", r.Status)
	}
	w := s.mustSecure(s.config(webHost))
	for _, path := range []string{"/", "/?status=500"} {
		if r := w.ask(webHost, path); r.Header.Get("Strict-Transport-Security") != hsts {
			t.Errorf("%s over TLS: %v", path, r.Header)
		}
	}
	if r := w.ask(webHost, "/?header=Strict-Transport-Security:max-age=1"); len(r.Header.Values("Strict-Transport-Security")) != 1 {
		t.Errorf("the pod's own: %v", r.Header)
	}
}

// Clients of a host that asks for certificates are let in with a valid one; what pods are
// told of it cannot be made up.
func TestClientCertificates(t *testing.T) {
	s := newSecureSite(t)
	clients, err := lab.NewAuthority("clients")
	must(t, err)
	strangers, err := lab.NewAuthority("strangers")
	must(t, err)
	const strict, lax = "strict.test", "lax.test"
	secret := lab.TLSSecret("strict", s.issue(lab.Request{Names: []string{strict, lax}}))
	ingress := func(host, mode string) lab.Object {
		o := lab.WithTLS(lab.Ingress("client-"+mode, lab.Path{Host: host, Service: "web"}), "strict", host)
		o = lab.Annotate(o, "nginx.ingress.kubernetes.io/auth-tls-secret", "default/clients")
		return lab.Annotate(o, "nginx.ingress.kubernetes.io/auth-tls-verify-client", mode)
	}
	must(t, s.Manifests.Write("clients.yaml", secret, lab.AuthoritySecret("clients", clients), ingress(strict, "on"), ingress(lax, "optional")))
	must(t, lab.Until(10*time.Second, "the host with client certificates", func() error {
		if c, err := s.secure(s.config(strict)); err != nil || !c.ConnectionState().PeerCertificates[0].NotAfter.After(time.Now()) {
			return fmt.Errorf("handshake: %w", err)
		}
		return nil
	}))
	valid := s.issueFrom(clients, lab.Request{Subject: "alice"})
	foreign := s.issueFrom(strangers, lab.Request{Subject: "mallory"})
	expired := s.issueFrom(clients, lab.Request{Subject: "bob", Expires: time.Now().Add(-time.Hour)})
	for _, c := range []struct {
		name, host      string
		certificate     *lab.Certificate
		status          int
		verify, subject string
	}{
		{"required, valid", strict, valid, 200, "SUCCESS", "CN=alice"},
		{"required, none", strict, nil, 400, "", ""},
		{"required, of another authority", strict, foreign, 400, "", ""},
		{"required, expired", strict, expired, 400, "", ""},
		{"optional, valid", lax, valid, 200, "SUCCESS", "CN=alice"},
		{"optional, none", lax, nil, 200, "NONE", ""},
		{"optional, of another authority", lax, foreign, 400, "", ""},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			config := s.config(c.host)
			config.MaxVersion = version
			if c.certificate != nil {
				// Whatever the server says about whom it knows.
				config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c.certificate.TLS, nil }
			}
			w := s.mustSecure(config)
			r := w.ask(c.host, "/", "ssl-client-verify: SUCCESS", "ssl-client-subject-dn: CN=root", "ssl_client_verify: SUCCESS")
			if r.Status != c.status {
				t.Errorf("%s, version %x: status %d %s, want %d", c.name, version, r.Status, r.Body, c.status)
			}
			if r.Status == 200 && (strings.Join(r.Pod.Headers.Values("Ssl-Client-Verify"), ",") != c.verify ||
				strings.Join(r.Pod.Headers.Values("Ssl-Client-Subject-Dn"), ",") != c.subject) {
				t.Errorf("%s, version %x: the pod saw %v", c.name, version, r.Pod.Headers)
			}
		}
	}
	// A connection without certificate, for another host, is no way in.
	w := s.mustSecure(s.config(webHost))
	if r := w.ask(strict, "/"); r.Status != 421 {
		t.Errorf("by another host's connection: %d, want 421", r.Status)
	}
	// Nor is a made-up header where nobody is asked.
	if r := w.ask(webHost, "/", "ssl-client-verify: SUCCESS", "ssl-client-cert: forged"); r.Pod.Headers.Get("Ssl-Client-Verify") != "" || r.Pod.Headers.Get("Ssl-Client-Cert") != "" {
		t.Errorf("the pod saw %v", r.Pod.Headers)
	}
}

// A renewed certificate is used from then on, for new connections; open ones go on. A broken
// Secret means the default certificate, for its hosts alone.
func TestCertificateChange(t *testing.T) {
	s := newSecureSite(t)
	open := s.mustSecure(s.config(webHost))
	open.ask(webHost, "/before")
	insecure := func(name string) *tls.Config { return &tls.Config{ServerName: name, InsecureSkipVerify: true} }
	eventually := func(what string, want *lab.Certificate) {
		t.Helper()
		must(t, lab.Until(10*time.Second, what, func() error {
			if w := s.mustSecure(insecure(webHost)); !w.shows(want) {
				return fmt.Errorf("the certificate is for %v", w.state.PeerCertificates[0].DNSNames)
			}
			return nil
		}))
	}
	renewed := s.issue(lab.Request{Names: []string{webHost}})
	secrets := func(ecdsa, rsa lab.Object) {
		t.Helper()
		must(t, s.Manifests.Write("secrets.yaml", ecdsa, rsa, lab.TLSSecret("wild", s.wild), lab.TLSSecret("fallback", s.fallback)))
	}
	secrets(lab.TLSSecret("ecdsa", renewed), lab.TLSSecret("rsa", s.rsa))
	eventually("the renewed certificate", renewed)
	if r := open.ask(webHost, "/after"); r.Pod.Path != "/after" {
		t.Errorf("the open connection: %d %s", r.Status, r.Body)
	}

	broken := func(name string) lab.Object {
		o := lab.TLSSecret(name, renewed)
		o["data"].(lab.Object)["tls.key"] = "bm90IGEga2V5"
		return o
	}
	secrets(broken("ecdsa"), broken("rsa"))
	eventually("the default certificate in place of a broken one", s.fallback)
	s.waitProblem("default/secure", "default certificate")
	if w := s.mustSecure(insecure("a.wild.test")); !w.shows(s.wild) {
		t.Error("a broken Secret has changed another host's certificate")
	}
	if r := open.ask(webHost, "/still"); r.Pod.Path != "/still" {
		t.Errorf("the open connection after that: %d %s", r.Status, r.Body)
	}
	for name, log := range map[string]string{"agent and proxy": s.Agent.Log()} {
		if strings.Contains(log, "PRIVATE KEY") || strings.Contains(log, "not a key") {
			t.Errorf("the log of %s shows a key", name)
		}
	}
	secrets(lab.TLSSecret("ecdsa", s.ecdsa), lab.TLSSecret("rsa", s.rsa))
	eventually("the mended certificate", s.ecdsa)
}
