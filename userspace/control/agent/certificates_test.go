package agent

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
	xocsp "golang.org/x/crypto/ocsp"

	"github.com/kerngate/kerngate/userspace/control/cert"
	"github.com/kerngate/kerngate/userspace/control/cert/certtest"
	"github.com/kerngate/kerngate/userspace/control/ocsp"
	"github.com/kerngate/kerngate/userspace/control/tickets"
	"github.com/kerngate/kerngate/userspace/feed"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/look/status"
	"github.com/kerngate/kerngate/userspace/model"
)

var testCA = certtest.NewAuthority("Agent CA")

// pair returns a certificate that ends in life from now.
func pair(t *testing.T, id string, life time.Duration) model.Certificate {
	t.Helper()
	chain, key := testCA.Make(certtest.ECDSA, func(c *x509.Certificate) {
		c.DNSNames, c.NotAfter = []string{id}, time.Now().Add(life)
	})
	c, err := cert.Pair(id, chain, key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// withCertificates is an update whose host x, of Ingress ns/x, has the certificates.
func withCertificates(list ...model.Certificate) model.Update {
	u := update("x")
	u.Model.Hosts[0].TLS = &model.TLS{Source: u.Model.Hosts[0].Routes[0].Source}
	for _, c := range list {
		u.Model.Hosts[0].TLS.Certificates = append(u.Model.Hosts[0].TLS.Certificates, c.ID)
	}
	u.Model.Certificates = list
	return u
}

// TestExpiry: certificates that come to their end are a problem of the Ingress that uses
// them, a metric and a row of kerngatectl; no output holds a key.
func TestExpiry(t *testing.T) {
	registry := prometheus.NewRegistry()
	var logged bytes.Buffer
	var mu sync.Mutex
	s := newStageWith(t, nil, func(o *Options) {
		o.Metrics = NewMetrics(registry)
		o.Log = zerolog.New(lockedWriter{&mu, &logged}).Level(zerolog.DebugLevel)
	})
	good, soon, over := pair(t, "ns/a", 90*24*time.Hour), pair(t, "ns/b", 13*24*time.Hour), pair(t, "ns/c", -time.Hour)
	s.source.updates <- withCertificates(good, soon, over)
	s.until("problems", func() bool {
		return s.heard.has("Warning Ingress ns/x CertificateExpiring: certificate ns/b expires on ") &&
			s.heard.has("Warning Ingress ns/x CertificateExpired: certificate ns/c has expired on ")
	})
	if s.heard.has("ns/a") {
		t.Errorf("the good certificate is a problem: %v", s.heard.problems)
	}

	var said strings.Builder
	for _, what := range []string{status.QueryStatus, status.QueryRoutes, status.QueryServices, status.QueryCertificates, status.QueryProblems} {
		answer, err := feed.Ask(t.Context(), s.socket, what)
		if err != nil {
			t.Fatal(err)
		}
		said.Write(answer)
		if what != status.QueryCertificates {
			continue
		}
		var list status.Certificates
		if err := json.Unmarshal(answer, &list); err != nil || len(list.Certificates) != 3 {
			t.Fatalf("%s, %v", answer, err)
		}
		leaf, _ := good.Leaf()
		if c := list.Certificates[0]; c.ID != "ns/a" || c.Type != "ECDSA P-256" || c.Fingerprint != model.Fingerprint(leaf) || !c.NotAfter.Equal(leaf.NotAfter) ||
			len(c.UsedBy) != 1 || c.UsedBy[0] != "ns/x" || len(c.Hosts) != 1 || c.Hosts[0] != "x" {
			t.Errorf("%+v", c)
		}
	}
	metrics := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(metrics, httptest.NewRequest("GET", "/metrics", nil))
	said.WriteString(metrics.Body.String())
	leaf, _ := over.Leaf()
	if want := fmt.Sprintf("kerngate_agent_certificate_expiry_timestamp_seconds{certificate=\"ns/c\"} %v\n", float64(leaf.NotAfter.Unix())); !strings.Contains(said.String(), want) {
		t.Errorf("no metric %s", want)
	}

	s.source.updates <- withCertificates(good) // the others are gone
	s.until("no problems", func() bool { return !s.heard.has("Certificate") })
	mu.Lock()
	said.Write(logged.Bytes())
	mu.Unlock()
	for _, c := range []model.Certificate{good, soon, over} {
		if part := certtest.Leaks(said.String(), c.Key); part != "" {
			t.Errorf("%q of a key is in the output", part)
		}
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	to io.Writer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}

// TestCertificatesReachProxies: a renewed certificate is a delta of nothing else, and a
// proxy that comes later gets it in its snapshot.
func TestCertificatesReachProxies(t *testing.T) {
	s := newStage(t, nil)
	first, second := pair(t, "ns/a", time.Hour*1000), pair(t, "ns/a", time.Hour*2000)
	s.source.updates <- withCertificates(first)
	client, _ := s.mustJoin()
	c := config(t, client)
	if len(c.Certificates) != 1 || !bytes.Equal(c.Certificates[0].Key, first.Key) || c.Hosts[0].Tls.GetCertificates()[0] != "ns/a" {
		t.Fatal("the snapshot is without the certificate")
	}
	ack(client, c.Version)
	receive(t, client, (*feedpb.FromAgent).GetServing)
	s.source.updates <- withCertificates(second)
	c = config(t, client)
	if c.Snapshot || len(c.Hosts) != 0 || len(c.Certificates) != 1 || !bytes.Equal(c.Certificates[0].Chain, second.Chain) {
		t.Error("the renewed certificate is not what the delta holds")
	}
}

// TestTickets: keys reach proxies that are there and those that come later; a restart of
// the loop's source does not make them change.
func TestTickets(t *testing.T) {
	rings := make(chan tickets.Ring)
	s := newStageWith(t, nil, func(o *Options) { o.Tickets = rings })
	ring := tickets.New(time.Now())
	rings <- ring
	s.source.updates <- update("x")
	client, _ := s.mustJoin()
	c := config(t, client)
	if got := c.TicketKeys.GetKeys(); len(got) != 3 || !bytes.Equal(got[0], ring.Current[:]) || !bytes.Equal(got[1], ring.Next[:]) {
		t.Fatal("the snapshot is without the keys")
	}
	ack(client, c.Version)
	receive(t, client, (*feedpb.FromAgent).GetServing)
	ring = ring.Rotate(time.Now())
	rings <- ring
	c = config(t, client)
	if got := c.TicketKeys.GetKeys(); c.Snapshot || len(c.Hosts) != 0 || len(got) != 3 || !bytes.Equal(got[0], ring.Current[:]) {
		t.Error("the delta is not the new keys")
	}
	ack(client, c.Version)
	s.source.updates <- update("x", "y")
	if c = config(t, client); c.TicketKeys != nil || len(c.Hosts) != 1 {
		t.Error("keys are sent again although they are the same")
	}
}

func writeFile(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestCertificateFiles: files are read again when both have changed; until then, and if
// they are broken, what was read stays.
func TestCertificateFiles(t *testing.T) {
	dir := t.TempDir()
	chain, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	first, second := pair(t, "a", time.Hour), pair(t, "b", 2*time.Hour)
	writeFile(t, chain, first.Chain)
	writeFile(t, key, first.Key)
	f, err := OpenCertificateFiles(chain, key)
	if err != nil || f.certificate.ID != "file:"+chain {
		t.Fatalf("%v", err)
	}
	now := time.Now()
	later := func() time.Time { now = now.Add(filesInterval); return now }
	if f.refresh(later()) {
		t.Error("changed although nothing has")
	}
	writeFile(t, chain, second.Chain)
	if !f.refresh(later()) || !bytes.Equal(f.certificate.Chain, first.Chain) || !strings.Contains(f.problem, key+" is not the key of the first certificate in "+chain) {
		t.Errorf("half of a change: problem %q", f.problem)
	}
	writeFile(t, key, second.Key)
	if !f.refresh(later()) || !bytes.Equal(f.certificate.Chain, second.Chain) || f.problem != "" {
		t.Errorf("the other half: problem %q", f.problem)
	}
	if f.refresh(now.Add(time.Millisecond)) {
		t.Error("looked at again at once")
	}
	os.Remove(key)
	if !f.refresh(later()) || !bytes.Equal(f.certificate.Key, second.Key) || !strings.Contains(f.problem, "no such file") {
		t.Errorf("removed: problem %q", f.problem)
	}
	if certtest.Leaks(f.problem, second.Key) != "" {
		t.Error("a key is in the problem")
	}

	s := newStageWith(t, nil, func(o *Options) { o.DefaultFiles = f })
	s.source.updates <- update("x")
	client, _ := s.mustJoin()
	if c := config(t, client); c.DefaultCertificate != "file:"+chain || len(c.Certificates) != 1 {
		t.Errorf("default %q, %d certificates", c.DefaultCertificate, len(c.Certificates))
	}
	s.until("the problem", func() bool { return s.heard.has("CertificateUnreadable: --default-certificate: ") })
}

// TestStaples: a response of the responder reaches a proxy that already serves.
func TestStaples(t *testing.T) {
	authority := certtest.NewAuthorityOf(certtest.ECDSA, "OCSP CA")
	answer := make(chan struct{})
	responder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-answer
		body, _ := io.ReadAll(r.Body)
		q, err := xocsp.ParseRequest(body)
		if err != nil {
			t.Error(err)
			return
		}
		now := time.Now()
		der, err := xocsp.CreateResponse(authority.Certificate, authority.Certificate, xocsp.Response{SerialNumber: q.SerialNumber, ThisUpdate: now, NextUpdate: now.Add(time.Hour)}, authority.Key)
		if err != nil {
			t.Error(err)
		}
		w.Write(der)
	}))
	t.Cleanup(responder.Close)
	stapler := ocsp.New((&net.Dialer{}).DialContext, prometheus.NewRegistry(), zerolog.Nop())
	s := newStageWith(t, nil, func(o *Options) { o.Stapler = stapler })
	chain, key := authority.Make(certtest.ECDSA, func(c *x509.Certificate) { c.DNSNames, c.OCSPServer = []string{"x"}, []string{responder.URL} })
	certificate, err := cert.Pair("ns/a", append(chain, authority.PEM()...), key)
	if err != nil {
		t.Fatal(err)
	}
	s.source.updates <- withCertificates(certificate)
	client, _ := s.mustJoin()
	c := config(t, client)
	if len(c.Certificates[0].Ocsp) != 0 {
		t.Error("a staple before the responder has answered")
	}
	ack(client, c.Version)
	receive(t, client, (*feedpb.FromAgent).GetServing)
	close(answer)
	if c = config(t, client); c.Snapshot || len(c.Certificates) != 1 || len(c.Certificates[0].Ocsp) == 0 {
		t.Error("the staple is not what the delta holds")
	}
}

// TestRefusedCertificate: an Ingress whose certificate a proxy refused gets another chance
// when the certificate changes.
func TestRefusedCertificate(t *testing.T) {
	s := newStage(t, nil)
	s.source.updates <- withCertificates(pair(t, "ns/a", time.Hour*1000))
	client, _ := s.mustJoin()
	c := config(t, client)
	client.Send(&feedpb.ToAgent{Message: &feedpb.ToAgent_Refuse{Refuse: &feedpb.Refuse{Version: c.Version, Source: "ns/x", Reason: "no curve"}}})
	if c = config(t, client); !c.Snapshot || c.Hosts[0].Tls != nil || closed(c.Hosts[0]) == "" || len(c.Certificates) != 0 {
		t.Fatalf("what was refused is sent again")
	}
	s.until("the problem", func() bool { return s.heard.has("ProxyRefused") })
	ack(client, c.Version)
	receive(t, client, (*feedpb.FromAgent).GetServing)
	s.source.updates <- withCertificates(pair(t, "ns/a", time.Hour*2000))
	if c = config(t, client); len(c.Hosts) != 1 || c.Hosts[0].Tls == nil {
		t.Error("the Ingress does not get another chance")
	}
}

// TestTicketKeysAreNotLogged: nothing that the agent writes holds one.
func TestTicketKeysAreNotLogged(t *testing.T) {
	var logged bytes.Buffer
	var mu sync.Mutex
	rings := make(chan tickets.Ring)
	s := newStageWith(t, nil, func(o *Options) {
		o.Tickets = rings
		o.Log = zerolog.New(lockedWriter{&mu, &logged}).Level(zerolog.DebugLevel)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	ring := tickets.New(time.Now())
	select {
	case rings <- ring:
	case <-ctx.Done():
		t.Fatal("the agent does not take keys")
	}
	s.source.updates <- update("x")
	s.until("a log line", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(logged.String(), "session ticket keys")
	})
	mu.Lock()
	defer mu.Unlock()
	for _, key := range ring.Keys() {
		for _, form := range []string{hex.EncodeToString(key[:8]), strings.Trim(fmt.Sprint(key[:8]), "[]"), string(key[:8])} {
			if strings.Contains(logged.String(), form) {
				t.Errorf("%q of a key is in the log", form)
			}
		}
	}
}
