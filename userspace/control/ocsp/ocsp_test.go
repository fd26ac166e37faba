package ocsp

import (
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/crypto/ocsp"

	"github.com/kerngate/kerngate/userspace/control/cert/certtest"
	"github.com/kerngate/kerngate/userspace/model"
)

var authority = certtest.NewAuthorityOf(certtest.ECDSA, "OCSP CA")

// responder answers for the authority on loopback.
type responder struct {
	*httptest.Server
	asked  atomic.Int32
	answer func(w http.ResponseWriter, serial *ocsp.Request)
}

func newResponder(t *testing.T) *responder {
	t.Helper()
	r := &responder{}
	r.answer = func(w http.ResponseWriter, q *ocsp.Request) { r.say(w, q, ocsp.Good, time.Hour) }
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, h *http.Request) {
		r.asked.Add(1)
		body, _ := io.ReadAll(h.Body)
		q, err := ocsp.ParseRequest(body)
		if err != nil || h.Header.Get("Content-Type") != "application/ocsp-request" {
			t.Errorf("request: %v", err)
		}
		r.answer(w, q)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *responder) say(w http.ResponseWriter, q *ocsp.Request, status int, life time.Duration) {
	now := time.Now()
	response, err := ocsp.CreateResponse(authority.Certificate, authority.Certificate, ocsp.Response{
		Status: status, SerialNumber: q.SerialNumber, ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(life), RevokedAt: now,
	}, authority.Key)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Write(response)
}

// certificate names the responder; its chain holds the issuer.
func (r *responder) certificate(id string) model.Certificate {
	chain, _ := authority.Make(certtest.ECDSA, func(c *x509.Certificate) {
		c.DNSNames, c.OCSPServer = []string{id}, []string{r.URL}
	})
	return model.Certificate{ID: id, Chain: append(chain, authority.PEM()...)}
}

// running is a stapler at work, and its metrics.
type running struct {
	*Stapler
	registry *prometheus.Registry
}

// count returns how many fetches have ended so.
func (r running) count(result string) (n float64) {
	families, err := r.registry.Gather()
	if err != nil {
		panic(err)
	}
	for _, metric := range families[0].Metric {
		if metric.Label[0].GetValue() == result {
			n += metric.Counter.GetValue()
		}
	}
	return n
}

// start runs a stapler that may dial loopback.
func start(t *testing.T) running {
	t.Helper()
	registry := prometheus.NewRegistry()
	s := running{New((&net.Dialer{}).DialContext, registry, zerolog.New(zerolog.NewTestWriter(t))), registry}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

func TestStaple(t *testing.T) {
	r := newResponder(t)
	s := start(t)
	list := []model.Certificate{r.certificate("a"), r.certificate("b")}
	if s.Staple(list); list[0].OCSP != nil {
		t.Fatal("a staple before the responder was asked")
	}
	await(t, "responses", func() bool { return s.count("good") == 2 })
	<-s.Changed()
	s.Staple(list)
	leaf, issuer := chainOf(list[1].Chain)
	parsed, err := ocsp.ParseResponseForCert(list[1].OCSP, leaf, issuer)
	if err != nil || parsed.Status != ocsp.Good {
		t.Fatalf("%+v, %v", parsed, err)
	}
	for range 5 { // the cache answers
		s.Staple(list)
	}
	time.Sleep(20 * time.Millisecond)
	if n := r.asked.Load(); n != 2 {
		t.Errorf("asked %d times for 2 certificates", n)
	}
	if s.Staple(list[:1]); len(s.entries) != 1 {
		t.Errorf("%d certificates are kept, of which 1 is in use", len(s.entries))
	}
}

func TestRevoked(t *testing.T) {
	r := newResponder(t)
	r.answer = func(w http.ResponseWriter, q *ocsp.Request) { r.say(w, q, ocsp.Revoked, time.Hour) }
	s := start(t)
	list := []model.Certificate{r.certificate("a")}
	s.Staple(list)
	<-s.Changed()
	if revoked := s.Staple(list); len(revoked) != 1 || revoked[0] != "a" || list[0].OCSP != nil {
		t.Errorf("revoked %v, staple %x", revoked, list[0].OCSP)
	}
}

// TestFailures: whatever the responder does, there is no staple, it is counted, and it is
// not asked again at once.
func TestFailures(t *testing.T) {
	for what, answer := range map[string]func(*responder, http.ResponseWriter, *ocsp.Request){
		"error":   func(_ *responder, w http.ResponseWriter, _ *ocsp.Request) { http.Error(w, "no", 500) },
		"garbage": func(_ *responder, w http.ResponseWriter, _ *ocsp.Request) { io.WriteString(w, "garbage") },
		"too big": func(_ *responder, w http.ResponseWriter, _ *ocsp.Request) { w.Write(make([]byte, maxResponse+10)) },
		"old":     func(r *responder, w http.ResponseWriter, q *ocsp.Request) { r.say(w, q, ocsp.Good, -time.Second) },
		"unknown": func(r *responder, w http.ResponseWriter, q *ocsp.Request) { r.say(w, q, ocsp.Unknown, time.Hour) },
		"redirect": func(r *responder, w http.ResponseWriter, _ *ocsp.Request) {
			w.Header().Set("Location", r.URL)
			w.WriteHeader(307)
		},
		"another's": func(r *responder, w http.ResponseWriter, q *ocsp.Request) {
			q.SerialNumber.Add(q.SerialNumber, q.SerialNumber)
			r.say(w, q, ocsp.Good, time.Hour)
		},
	} {
		t.Run(what, func(t *testing.T) {
			r := newResponder(t)
			r.answer = func(w http.ResponseWriter, q *ocsp.Request) { answer(r, w, q) }
			s := start(t)
			list := []model.Certificate{r.certificate("a")}
			s.Staple(list)
			await(t, "failure", func() bool { return s.count("failed") == 1 })
			s.Staple(list)
			time.Sleep(20 * time.Millisecond)
			if list[0].OCSP != nil || r.asked.Load() != 1 {
				t.Errorf("staple %x, asked %d times", list[0].OCSP, r.asked.Load())
			}
		})
	}
}

// TestSlowResponder: nobody waits for it.
func TestSlowResponder(t *testing.T) {
	r := newResponder(t)
	release := make(chan struct{})
	r.answer = func(w http.ResponseWriter, q *ocsp.Request) { <-release; r.say(w, q, ocsp.Good, time.Hour) }
	defer close(release)
	s := start(t)
	list := []model.Certificate{r.certificate("a")}
	begin := time.Now()
	for range 10 {
		s.Staple(list)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("Staple took %v", took)
	}
}

func TestRefresh(t *testing.T) {
	leaf, issuer := chainOf(newResponder(t).certificate("a").Chain)
	e := &entry{leaf: leaf, issuer: issuer}
	now := time.Now()
	der, err := ocsp.CreateResponse(issuer, issuer, ocsp.Response{Status: ocsp.Good, SerialNumber: leaf.SerialNumber, ThisUpdate: now, NextUpdate: now.Add(10 * time.Hour)}, authority.Key)
	if err != nil {
		t.Fatal(err)
	}
	a, err := judge(der, e, now)
	if err != nil || a.refresh < 5*time.Hour-time.Minute || a.refresh > 5*time.Hour+time.Minute {
		t.Errorf("asked again in %v, %v; want half of its life", a.refresh, err)
	}
	if a, err = judge(der, e, now.Add(9*time.Hour)); err != nil || a.refresh != retryFirst {
		t.Errorf("past half of its life: asked again in %v, %v", a.refresh, err)
	}
}

// TestDial: a certificate cannot make the agent talk to its own node.
func TestDial(t *testing.T) {
	r := newResponder(t)
	g := Guard{
		Ingress: []netip.Addr{netip.MustParseAddr("192.0.2.10")},
		Node: func() ([]net.Addr, error) {
			return []net.Addr{&net.IPNet{IP: net.ParseIP("203.0.113.5"), Mask: net.CIDRMask(24, 32)}, &net.IPNet{IP: net.ParseIP("2001:db8::5"), Mask: net.CIDRMask(64, 128)}}, nil
		},
	}
	for address, want := range map[string]string{
		r.Listener.Addr().String(): "127.0.0.1 is an address of the node",
		"169.254.169.254:80":       "169.254.169.254 is an address of the node",
		"192.0.2.10:80":            "192.0.2.10 is an address of this node or of the ingress",
		"203.0.113.5:10250":        "203.0.113.5 is an address of this node or of the ingress",
		"[2001:db8::5]:80":         "2001:db8::5 is an address of this node or of the ingress",
	} {
		if _, err := g.Dial(t.Context(), "tcp", address); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
	g.Allowed = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	conn, err := g.Dial(t.Context(), "tcp", r.Listener.Addr().String())
	if err != nil {
		t.Fatalf("an allowed address: %v", err)
	}
	conn.Close()
}
