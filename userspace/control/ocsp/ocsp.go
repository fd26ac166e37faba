// Package ocsp fetches what certificates' authorities say of them, for proxies to staple.
// In: certificates with the chain that holds their issuer. Out: responses that have been
// verified, in their DER form.
//
// A responder that does not answer costs nobody anything: the certificate is served
// without a staple, and it is asked again later.
package ocsp

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/kerngate/kerngate/userspace/model"
)

const (
	timeout     = 10 * time.Second // of one request
	maxResponse = 64 << 10         // bytes
	atOnce      = 4                // requests
	retryFirst  = time.Minute      // after a failure, doubled each time
	retryMost   = time.Hour
	refreshMost = 24 * time.Hour // a response that says longer is asked for again all the same
)

// Stapler keeps responses for the certificates it was told of.
type Stapler struct {
	log     zerolog.Logger
	client  *http.Client
	fetches *prometheus.CounterVec // result
	changed chan struct{}          // holds one value if Staples would now return something else
	wake    chan struct{}

	mu      sync.Mutex
	entries map[string]*entry // by fingerprint of the leaf
}

// entry is one certificate.
type entry struct {
	id           string
	leaf, issuer *x509.Certificate
	next         time.Time // when to ask
	asking       bool
	failures     int

	response []byte // nil: none
	until    time.Time
	revoked  bool
}

// New returns a stapler that calls out by dial.
func New(dial func(ctx context.Context, network, address string) (net.Conn, error), registry prometheus.Registerer, log zerolog.Logger) *Stapler {
	s := &Stapler{
		log: log,
		client: &http.Client{
			Timeout:   timeout,
			Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10},
			// The address was in the certificate, which somebody has signed; where a
			// responder sends us is nobody's word.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kerngate_agent_ocsp_fetches_total",
			Help: "Requests to OCSP responders by result: good, revoked, or failed, after which the certificate is served without a staple.",
		}, []string{"result"}),
		changed: make(chan struct{}, 1),
		wake:    make(chan struct{}, 1),
		entries: map[string]*entry{},
	}
	for _, result := range []string{"good", "revoked", "failed"} {
		s.fetches.WithLabelValues(result)
	}
	registry.MustRegister(s.fetches)
	return s
}

// Changed delivers a value when responses have come, or have become too old.
func (s *Stapler) Changed() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.changed
}

// Staple puts the responses into certificates, and takes note of those that have none
// yet. It returns the ids of certificates that are revoked. It does not block.
func (s *Stapler) Staple(certificates []model.Certificate) (revoked []string) {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	current := make(map[string]*entry, len(certificates))
	for i := range certificates {
		c := &certificates[i]
		leaf, issuer := chainOf(c.Chain)
		if leaf == nil || issuer == nil || len(leaf.OCSPServer) == 0 {
			continue
		}
		fingerprint := model.Fingerprint(leaf)
		e := s.entries[fingerprint]
		if e == nil {
			e = &entry{id: c.ID, leaf: leaf, issuer: issuer, next: now}
		}
		current[fingerprint] = e
		if e.revoked {
			revoked = append(revoked, c.ID)
		}
		if e.until.After(now) {
			c.OCSP = e.response
		}
	}
	s.entries = current
	signal(s.wake)
	return revoked
}

// chainOf returns the first certificate and the one that has signed it, nil if that is not
// the second.
func chainOf(chain []byte) (leaf, issuer *x509.Certificate) {
	var both [2]*x509.Certificate
	for i := range both {
		var block *pem.Block
		if block, chain = pem.Decode(chain); block == nil {
			return both[0], nil
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return both[0], nil
		}
		both[i] = c
	}
	if both[0].CheckSignatureFrom(both[1]) != nil {
		return both[0], nil
	}
	return both[0], both[1]
}

// Run asks responders until ctx ends.
func (s *Stapler) Run(ctx context.Context) {
	var asking sync.WaitGroup
	defer asking.Wait()
	slots := make(chan struct{}, atOnce)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		due, next := s.due(time.Now())
		for _, e := range due {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			asking.Go(func() {
				defer func() { <-slots }()
				s.ask(ctx, e)
			})
		}
		timer.Reset(max(next, time.Second))
		select {
		case <-timer.C:
		case <-s.wake:
		case <-ctx.Done():
			return
		}
	}
}

// due returns the certificates to ask for now, and how long there is nothing else to do.
// Responses that have become too old are noticed here.
func (s *Stapler) due(now time.Time) (due []*entry, next time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next = time.Hour
	for _, e := range s.entries {
		if e.response != nil {
			if !e.until.After(now) {
				e.response = nil
				signal(s.changed)
			} else {
				next = min(next, e.until.Sub(now))
			}
		}
		if e.asking {
			continue
		}
		if e.next.After(now) {
			next = min(next, e.next.Sub(now))
			continue
		}
		e.asking = true
		due = append(due, e)
	}
	return due, next
}

func (s *Stapler) ask(ctx context.Context, e *entry) {
	answer, err := s.fetch(ctx, e)
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer signal(s.wake)
	now := time.Now()
	e.asking = false
	if err != nil {
		s.fetches.WithLabelValues("failed").Inc()
		wait := min(retryFirst<<min(e.failures, 10), retryMost)
		if e.failures == 0 {
			s.log.Warn().Err(err).Str("certificate", e.id).Dur("again_in", wait).Msg("no OCSP response; served without, or with the last one while it is valid")
		}
		e.failures++
		e.next = now.Add(wait)
		return
	}
	e.failures = 0
	e.next, e.until = now.Add(answer.refresh), answer.until
	e.revoked = answer.revoked
	if e.revoked {
		s.fetches.WithLabelValues("revoked").Inc()
		s.log.Warn().Str("certificate", e.id).Msg("the certificate is revoked, says its authority")
		e.response = nil
	} else {
		s.fetches.WithLabelValues("good").Inc()
		e.response = answer.der
	}
	signal(s.changed)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it will be looked at anyway
	}
}
