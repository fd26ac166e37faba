// Package clientauth judges the certificates that clients show, and says what pods are told
// of them.
//
// The handshake only asks for a certificate and proves that the client has its key. Whether
// it is good is decided here, after every handshake, the resumed ones too: a ticket carries
// the certificate, so that one that was revoked, or an authority that is no longer trusted,
// does not live on in tickets. The verdict takes effect on requests, which can be answered
// with a status or a page; a refused handshake tells people nothing.
package clientauth

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/kerngate/kerngate/userspace/text/rule"
)

// Mode is what is asked of clients.
type Mode uint8

const (
	Required     Mode = iota // a valid certificate
	Optional                 // none, or a valid one
	OptionalNoCA             // anything; the pod is told the verdict
)

// Rules are what a Policy is made of.
type Rules struct {
	Mode Mode
	// Certificates are the authorities', PEM. Empty: no certificate is valid.
	Certificates []byte
	// Revoked are revocation lists, PEM. If there are any, there must be a current one of
	// each authority on the way to a certificate, or this is not valid.
	Revoked   []byte
	Depth     int    // signatures between the client's certificate and the authority's, at most
	ErrorPage string // URL for clients that are not admitted, "": 400
	PassChain bool   // pass the client's certificate on to pods
	// Subject is an RE2 expression, of which there must be a match within the
	// certificate's subject as DistinguishedName writes it; "": any. Who shows no
	// certificate then is not admitted in any mode.
	Subject string
}

// Policy is how the clients of a host authenticate. It is immutable.
type Policy struct {
	Mode      Mode
	ErrorPage string
	// Fingerprint is the same for policies that judge alike: a connection that was judged
	// by one may carry requests for hosts of the other.
	Fingerprint [32]byte

	passChain bool
	depth     int
	roots     *x509.CertPool
	lists     []*x509.RevocationList
	subject   *rule.Regexp // nil: any
}

// New makes a policy. An error names what is wrong with the authority's Secret.
func New(r Rules) (*Policy, error) {
	p := &Policy{Mode: r.Mode, ErrorPage: r.ErrorPage, passChain: r.PassChain, depth: max(r.Depth, 1), roots: x509.NewCertPool()}
	if r.Subject != "" {
		var err error
		if p.subject, err = rule.Subject(r.Subject); err != nil {
			return nil, fmt.Errorf("expression for subjects: %w", err)
		}
	}
	if r.ErrorPage != "" && !rule.AbsoluteURL(r.ErrorPage) {
		return nil, fmt.Errorf("%q is no URL that clients can be sent to", rule.Shorten(r.ErrorPage))
	}
	count, err := p.readCertificates(r.Certificates)
	if err != nil {
		return nil, err
	}
	if count == 0 && len(r.Certificates) > 0 {
		return nil, errors.New("no certificate in ca.crt; it must hold PEM blocks of type CERTIFICATE")
	}
	if err := p.readLists(r.Revoked); err != nil {
		return nil, err
	}
	p.Fingerprint = r.Fingerprint()
	return p, nil
}

// Fingerprint hashes everything that makes a difference: it is that of the Policy.
func (r *Rules) Fingerprint() (sum [32]byte) {
	h := sha256.New()
	part := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	flags := byte(r.Mode) << 1
	if r.PassChain {
		flags |= 1
	}
	part([]byte{flags})
	part(binary.BigEndian.AppendUint64(nil, uint64(r.Depth)))
	part(r.Certificates)
	part(r.Revoked)
	part([]byte(r.ErrorPage))
	part([]byte(r.Subject))
	h.Sum(sum[:0])
	return sum
}

func (p *Policy) readCertificates(text []byte) (count int, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return 0, fmt.Errorf("certificate %d of ca.crt: %w", count+1, err)
		}
		p.roots.AddCert(c)
		count++
	}
	return count, nil
}

func (p *Policy) readLists(text []byte) error {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		l, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return fmt.Errorf("revocation list %d of ca.crl: %w", len(p.lists)+1, err)
		}
		p.lists = append(p.lists, l)
	}
	if len(p.lists) == 0 && len(text) > 0 {
		return errors.New("no revocation list in ca.crl; it must hold PEM blocks of type X509 CRL")
	}
	return nil
}

// Authorities are named to clients, so that they can choose a certificate.
func (p *Policy) Authorities() *x509.CertPool { return p.roots }

// Admits reports whether requests of a client with this verdict are carried out.
func (p *Policy) Admits(v *Verdict) bool {
	if p.subject != nil && (v.Certificate == nil || !p.subject.Match(DistinguishedName(v.Certificate.RawSubject))) {
		return false
	}
	switch p.Mode {
	case Required:
		return v.Text == Success
	case Optional:
		return v.Text == Success || v.Text == None
	}
	return true
}
