package config

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/model"
)

// certificate is a parsed chain with its key, and a hash of what it was parsed from.
type certificate struct {
	parsed *tls.Certificate
	sum    [32]byte
}

// Authority is a set of certificates that sign others.
type Authority struct {
	// Pool holds them, nil if there is none that can be read.
	Pool                  *x509.CertPool
	certificates, revoked []byte // PEM
}

// Certificate returns a certificate with its key, nil if there is none of that id. It is the
// same pointer as long as nothing of it changes, like that of Authority.
func (t *TLS) Certificate(id string) *tls.Certificate {
	if c := t.certificates[id]; c != nil {
		return c.parsed
	}
	return nil
}

// Authority returns an authority, nil if there is none of that id.
func (t *TLS) Authority(id string) *Authority { return t.authorities[id] }

// readCertificates takes the certificates and authorities of a Config. What is as it was is
// not parsed again.
func (t *TLS) readCertificates(c *feedpb.Config, before *TLS) error {
	for _, p := range c.Certificates {
		sum := sumOf(p)
		if old := before.certificates[p.Id]; old != nil && old.sum == sum {
			t.certificates[p.Id] = old
			continue
		}
		parsed, err := tls.X509KeyPair(p.Chain, p.Key)
		if err != nil {
			return &RefusedError{t.user(p.Id, c.Hosts), fmt.Errorf("certificate of Secret %s: %w", p.Id, err)}
		}
		if len(p.Ocsp) > 0 {
			parsed.OCSPStaple = p.Ocsp
		}
		t.certificates[p.Id] = &certificate{&parsed, sum}
	}
	for _, p := range c.Authorities {
		old := before.authorities[p.Id]
		if old == nil || !bytes.Equal(old.certificates, p.Certificates) || !bytes.Equal(old.revoked, p.Revoked) {
			old = &Authority{certificates: p.Certificates, revoked: p.Revoked}
			if pool := x509.NewCertPool(); pool.AppendCertsFromPEM(p.Certificates) {
				old.Pool = pool
			}
		}
		t.authorities[p.Id] = old
	}
	return nil
}

// user returns an object that a certificate is for, to clients or to pods, zero if there is none.
func (t *TLS) user(id string, hosts []*feedpb.Host) model.ObjectRef {
	for _, rule := range t.rules {
		if slices.Contains(rule.Certificates, id) {
			return objectOf(rule.SourceKind, rule.Source)
		}
	}
	for _, h := range hosts {
		for _, r := range h.Routes {
			if r.Upstream.GetTls().GetCertificate() == id {
				return objectOf(r.SourceKind, r.Source)
			}
		}
	}
	return model.ObjectRef{}
}

func sumOf(p *feedpb.Certificate) (sum [32]byte) {
	h := sha256.New()
	for _, part := range [][]byte{p.Chain, p.Key, p.Ocsp} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	h.Sum(sum[:0])
	return sum
}

// defaultCertificate returns the certificate for names that nobody has one for. Without one
// of the configuration it is one that the proxy has made and signed itself, which no client
// trusts: an error in the browser tells people more than a connection that fails.
func (t *TLS) defaultCertificate(id string) (*tls.Certificate, error) {
	if c := t.certificates[id]; c != nil {
		return c.parsed, nil
	}
	if t.selfSigned == nil {
		c, err := signOurselves()
		if err != nil {
			return nil, &RefusedError{Err: fmt.Errorf("make a default certificate: %w", err)}
		}
		t.selfSigned = c
	}
	return t.selfSigned, nil
}

func signOurselves() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{"Kerngate"}, CommonName: "Kerngate default certificate"},
		DNSNames:     []string{"ingress.local"},
		NotBefore:    now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0), // longer than a process lives
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// readTickets takes the keys of session tickets. Until there are any, the process has one of
// its own: its workers resume each other's sessions, nobody else does.
func (t *TLS) readTickets(c *feedpb.Config) error {
	if c.TicketKeys != nil && len(c.TicketKeys.Keys) > 0 {
		t.tickets = nil
		for _, k := range c.TicketKeys.Keys {
			if len(k) != 32 {
				return &RefusedError{Err: errors.New("a session ticket key is not 32 bytes long")}
			}
			t.tickets = append(t.tickets, [32]byte(k))
		}
	}
	if len(t.tickets) == 0 {
		var key [32]byte
		rand.Read(key[:]) // never fails
		t.tickets = [][32]byte{key}
	}
	return nil
}
