//go:build linux && applications

package applications

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/kerngate/kerngate/test/lab"
)

// The hosts that get certificates: one of clear text and TLS, one whose requests in clear text are
// redirected, and one whose clients must show a certificate.
const (
	acmeHost         = "acme.test"
	acmeRedirectHost = "redirect.acme.test"
	acmeClientHost   = "client.acme.test"
)

// pebble is Let's Encrypt's ACME server for tests. The client does what cert-manager does: an Ingress
// for the path of the challenge, whose pod has the answer; it asks for that itself before the
// authority does; and the certificate goes into the Secret of the host's Ingress.
var pebble = application{
	name: "Pebble (ACME, HTTP-01)", source: "github.com/letsencrypt/pebble/v2; client golang.org/x/crypto/acme, with an Ingress for each challenge as cert-manager makes it",
	built: []string{"pebble"},
	version: func(t *testing.T) string {
		return "Pebble " + moduleVersion(t, "pebble", "github.com/letsencrypt/pebble/v2")
	},
	publish: publishACME,
	conversations: []conversation{
		{does: "certificate issued and renewed", talk: acmeTalk(acmeHost), want: acmeGot(acmeHost) +
			"application over http 200, over https 200"},
		{does: "certificate issued and renewed on a host with ssl-redirect", talk: acmeTalk(acmeRedirectHost), want: acmeGot(acmeRedirectHost) +
			"application over http 308, over https 200"},
		{does: "certificate issued and renewed on a host with auth-tls-secret", talk: acmeTalk(acmeClientHost), want: acmeGot(acmeClientHost) +
			"application over http 308, over https 200\nwithout the client's certificate 400"},
	},
}

func TestPebble(t *testing.T) { run(t, &pebble) }

func acmeGot(host string) string {
	text := ""
	for _, what := range []string{"issued", "renewed"} {
		text += what + ": the challenge is answered with 200, the authorization is valid, the certificate is for " + host + ", it is served\n"
	}
	return text
}

// acmeSite is what the pods and the client of a site share.
type acmeSite struct {
	solver  *lab.Pod
	answers sync.Map // path of a challenge -> answer
	client  *lab.Certificate
}

// acmeSites are these by site.
var acmeSites sync.Map

const acmePath = "/.well-known/acme-challenge/"

func publishACME(s *site) {
	a := &acmeSite{solver: s.addPod("solver-1")}
	acmeSites.Store(s, a)
	solver := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := a.answers.Load(r.URL.Path)
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, answer.(string))
	})}
	go solver.Serve(s.listen(a.solver, 80))
	s.t.Cleanup(func() { solver.Close() })

	pod := s.addPod("acme-1")
	server := &http.Server{Handler: http.HandlerFunc(receive)}
	go server.Serve(s.listen(pod, 80))
	s.t.Cleanup(func() { server.Close() })

	clients, err := lab.NewAuthority("clients")
	must(s.t, err)
	a.client, err = clients.Issue(lab.Request{Subject: "a client"})
	must(s.t, err)
	must(s.t, s.Manifests.Write("secret-clients.yaml", lab.AuthoritySecret("clients", clients)))

	const redirect = "if ($scheme = http) { return 308 https://$host$request_uri; }"
	challenge := fmt.Sprintf("location %s { proxy_pass http://%s; }", acmePath, a.solver.IPv4)
	s.add(publication{host: acmeHost, pod: pod, port: 80, secret: "acme", nginxServer: challenge})
	s.add(publication{host: acmeRedirectHost, pod: pod, port: 80, secret: "redirect",
		annotations: map[string]string{"ssl-redirect": "true"},
		nginx:       redirect, nginxServer: challenge})
	s.add(publication{host: acmeClientHost, pod: pod, port: 80, secret: "client",
		annotations: map[string]string{"ssl-redirect": "true", "auth-tls-secret": "default/clients"},
		nginx:       redirect,
		nginxServer: challenge + " ssl_client_certificate " + s.file("clients.pem", string(clients.PEM)) + "; ssl_verify_client on; ssl_verify_depth 1;"})
}

// acmeTalk has a certificate issued for a host, and another, and asks the application at last.
func acmeTalk(host string) func(*way) string {
	return func(w *way) string {
		shared, _ := acmeSites.Load(w.site)
		c := &acmeClient{way: w, acmeSite: shared.(*acmeSite), host: host, ctx: w.t.Context()}
		stop := c.startPebble()
		defer stop()
		var text strings.Builder
		for _, what := range []string{"issued", "renewed"} {
			fmt.Fprintf(&text, "%s: %s\n", what, c.issue())
		}
		fmt.Fprintf(&text, "application over http %s, over https %s", c.status("http", true), c.status("https", true))
		if host == acmeClientHost {
			fmt.Fprintf(&text, "\nwithout the client's certificate %s", c.status("https", false))
		}
		return text.String()
	}
}

// acmeClient gets certificates for a host of a way.
type acmeClient struct {
	*way
	*acmeSite
	host   string
	ctx    context.Context
	acme   *acme.Client
	roots  *x509.CertPool // of Pebble
	issued int
}

const pebbleConfiguration = `{"pebble": {
	"listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000",
	"certificate": "DIR/pebble.chain.pem", "privateKey": "DIR/pebble.key.pem",
	"httpPort": 80, "tlsPort": 443, "keyAlgorithm": "ecdsa",
	"retryAfter": {"authz": 1, "order": 1},
	"profiles": {"default": {"description": "90 days", "validityPeriod": 7776000}}
}}`

// startPebble starts an authority on the client's host, where the names lead to this way, and an
// account there.
func (c *acmeClient) startPebble() (stop func()) {
	c.t.Helper()
	own, err := c.authority.Issue(lab.Request{Names: []string{"127.0.0.1"}})
	must(c.t, err)
	c.file("pebble.chain.pem", string(own.Chain))
	c.file("pebble.key.pem", string(own.Key))
	configuration := c.file("pebble.json", strings.ReplaceAll(pebbleConfiguration, "DIR", c.lab.Dir))
	p, err := c.lab.Client.Start(lab.Command{
		Path: "unshare",
		Name: fmt.Sprintf("pebble.%d", time.Now().UnixNano()),
		Args: []string{"--mount", "--propagation", "private", "sh", "-c", inHosts, c.path("pebble.out"), c.hosts, c.lab.Dir,
			c.program("pebble"), "-strict", "-config", configuration},
		// Every order is validated again, and not after a pause.
		Env: []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0"},
	})
	must(c.t, err)

	pool := c.authority.Pool()
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool},
		DialContext:     c.lab.Client.Dial,
	}}
	c.roots = x509.NewCertPool()
	must(c.t, lab.Until(20*time.Second, "Pebble's root certificate", func() error {
		response, err := client.Get("https://127.0.0.1:15000/roots/0")
		if err != nil {
			return fmt.Errorf("%w\n%s", err, p.LogTail(5))
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err == nil && !c.roots.AppendCertsFromPEM(text) {
			err = fmt.Errorf("no certificate: %.200s", text)
		}
		return err
	}))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(c.t, err)
	c.acme = &acme.Client{Key: key, HTTPClient: client, DirectoryURL: "https://127.0.0.1:14000/dir"}
	_, err = c.acme.Register(c.ctx, &acme.Account{}, acme.AcceptTOS)
	must(c.t, err)
	return func() {
		p.Kill()
		client.CloseIdleConnections()
	}
}

// issue gets a certificate and says how far that went.
func (c *acmeClient) issue() (done string) {
	ctx, cancel := context.WithTimeout(c.ctx, 2*time.Minute)
	defer cancel()
	c.issued++
	order, err := c.acme.AuthorizeOrder(ctx, acme.DomainIDs(c.host))
	if err != nil {
		return "order: " + err.Error()
	}
	for _, url := range order.AuthzURLs {
		if done, err = c.authorize(ctx, url); err != nil {
			return done + err.Error()
		}
	}
	if order, err = c.acme.WaitOrder(ctx, order.URI); err != nil {
		return done + "order: " + err.Error()
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(c.t, err)
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{c.host}}, key)
	must(c.t, err)
	chain, _, err := c.acme.CreateCertFromOrder(ctx, order, request, true)
	if err != nil {
		return done + "certificate: " + err.Error()
	}
	leaf, err := x509.ParseCertificate(chain[0])
	must(c.t, err)
	done += "the certificate is for " + strings.Join(leaf.DNSNames, " ") + ", "
	c.install(chain, key)
	if err := lab.Until(30*time.Second, "the new certificate of "+c.host, func() error { return c.serves(leaf) }); err != nil {
		return done + err.Error()
	}
	return done + "it is served"
}

// authorize answers a challenge, as cert-manager does.
func (c *acmeClient) authorize(ctx context.Context, url string) (done string, err error) {
	authorization, err := c.acme.GetAuthorization(ctx, url)
	if err != nil {
		return done, err
	}
	for _, challenge := range authorization.Challenges {
		if challenge.Type != "http-01" {
			continue
		}
		path := c.acme.HTTP01ChallengePath(challenge.Token)
		answer, err := c.acme.HTTP01ChallengeResponse(challenge.Token)
		must(c.t, err)
		c.answers.Store(path, answer)
		if c.name == kerngate {
			name := fmt.Sprintf("cm-acme-http-solver-%s-%d", strings.ReplaceAll(c.host, ".", "-"), c.issued)
			ingress := lab.Annotate(lab.Ingress(name, lab.Path{Host: c.host, Path: path, Type: "ImplementationSpecific", Service: name}),
				annotationPrefix+"whitelist-source-range", "0.0.0.0/0,::/0")
			must(c.t, c.Manifests.Write(name+".yaml", append(serviceOf(name, c.solver, 80), ingress)...))
			defer func() { must(c.t, c.Manifests.Remove(name+".yaml")) }()
		}
		if err := lab.Until(30*time.Second, "the answer to the challenge", func() error {
			status, body, err := c.get("http", path, true)
			if err == nil && (status != http.StatusOK || body != answer) {
				err = fmt.Errorf("status %d: %.100s", status, body)
			}
			return err
		}); err != nil {
			return done, err
		}
		done = "the challenge is answered with 200, "
		if _, err := c.acme.Accept(ctx, challenge); err != nil {
			return done, err
		}
		if _, err := c.acme.WaitAuthorization(ctx, url); err != nil {
			return done, err
		}
		return done + "the authorization is valid, ", nil
	}
	return done, fmt.Errorf("Pebble offers no challenge http-01: %+v", authorization)
}

// install gives a certificate to both ingresses.
func (c *acmeClient) install(chain [][]byte, key *ecdsa.PrivateKey) {
	c.t.Helper()
	var encoded bytes.Buffer
	for _, der := range chain {
		must(c.t, pem.Encode(&encoded, &pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(c.t, err)
	c.putCertificate(c.publication(c.host).secret, &lab.Certificate{
		Chain: encoded.Bytes(), Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	})
	if c.name == nginx {
		must(c.t, c.site.nginx.Signal(syscall.SIGHUP))
	}
}

// serves reports, by an error, that a host does not show this certificate, with a chain to Pebble's root.
func (c *acmeClient) serves(leaf *x509.Certificate) error {
	ctx, cancel := context.WithTimeout(c.ctx, 10*time.Second)
	defer cancel()
	raw, err := c.dial(ctx, "tcp", net.JoinHostPort(c.host, "443"))
	if err != nil {
		return err
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{ServerName: c.host, RootCAs: c.roots, Certificates: []tls.Certificate{c.client.TLS}})
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	if shown := conn.ConnectionState().PeerCertificates[0]; !shown.Equal(leaf) {
		return fmt.Errorf("it is still number %x of %s", shown.SerialNumber, shown.Issuer)
	}
	return nil
}

// get asks the host for a path, and follows no redirect.
func (c *acmeClient) get(scheme, path string, certificate bool) (status int, body string, err error) {
	configuration := &tls.Config{RootCAs: c.roots}
	if certificate {
		configuration.Certificates = []tls.Certificate{c.client.TLS}
	}
	client := &http.Client{
		Timeout:       30 * time.Second,
		Transport:     &http.Transport{DialContext: c.dial, TLSClientConfig: configuration, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Get(scheme + "://" + c.host + path)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

// status is what the application's answer, or an error, is.
func (c *acmeClient) status(scheme string, certificate bool) string {
	status, _, err := c.get(scheme, "/", certificate)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(status)
}
