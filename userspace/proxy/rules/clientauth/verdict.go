package clientauth

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"time"
)

// Verdicts other than these are "FAILED:" and the reason, in OpenSSL's words where it has
// any, because that is what programs behind nginx compare with.
const (
	Success = "SUCCESS"
	None    = "NONE"
	failed  = "FAILED:"
)

// maxCertificate bounds the certificate that is judged, in bytes: pods get it in a field.
const maxCertificate = 8 << 10

// Verdict is what a policy thinks of a client.
type Verdict struct {
	Text        string            // Success, None or "FAILED:" and a reason
	Certificate *x509.Certificate // nil: none, or one that nobody should read
	// Fields are what pods are told. Clients cannot forge them: what they send under
	// these names is dropped, with or without a policy.
	Fields []Field
}

// Field is a field of a request to a pod.
type Field struct {
	Name  string
	Value []byte
}

// The fields' names are those of ingress-nginx.
const (
	fieldVerify  = "ssl-client-verify"
	fieldSubject = "ssl-client-subject-dn"
	fieldIssuer  = "ssl-client-issuer-dn"
	fieldCert    = "ssl-client-cert"
)

// Judge judges the certificates of a client, its own first, as the handshake has left them.
func (p *Policy) Judge(chain []*x509.Certificate, now time.Time) *Verdict {
	v := &Verdict{Text: p.judge(chain, now)}
	v.Fields = append(v.Fields, Field{fieldVerify, []byte(v.Text)})
	if len(chain) == 0 || len(chain[0].Raw) > maxCertificate {
		return v
	}
	v.Certificate = chain[0]
	v.Fields = append(v.Fields,
		Field{fieldSubject, DistinguishedName(chain[0].RawSubject)},
		Field{fieldIssuer, DistinguishedName(chain[0].RawIssuer)})
	if p.passChain {
		v.Fields = append(v.Fields, Field{fieldCert, v.EscapedCertificate()})
	}
	return v
}

func (p *Policy) judge(chain []*x509.Certificate, now time.Time) string {
	if len(chain) == 0 {
		return None
	}
	leaf := chain[0]
	if len(leaf.Raw) > maxCertificate {
		return failed + "certificate too large"
	}
	others := x509.NewCertPool()
	for _, c := range chain[1:] {
		others.AddCert(c)
	}
	ways, err := leaf.Verify(x509.VerifyOptions{
		Roots: p.roots, Intermediates: others, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return failed + reason(leaf, err, now)
	}
	verdict := failed + "certificate chain too long"
	for _, way := range ways {
		if len(way)-1 > p.depth {
			continue
		}
		if verdict = p.revocation(way, now); verdict == Success {
			return Success
		}
	}
	return verdict
}

// revocation looks a chain up in the revocation lists, if there are any.
func (p *Policy) revocation(way []*x509.Certificate, now time.Time) string {
	if len(p.lists) == 0 {
		return Success
	}
	for i, c := range way[:len(way)-1] {
		verdict := failed + "unable to get certificate CRL"
		for _, l := range p.lists {
			if string(l.RawIssuer) != string(c.RawIssuer) || l.CheckSignatureFrom(way[i+1]) != nil {
				continue
			}
			if lists(l, c) {
				return failed + "certificate revoked"
			}
			switch {
			case now.Before(l.ThisUpdate):
				verdict = failed + "CRL is not yet valid"
			case !l.NextUpdate.IsZero() && now.After(l.NextUpdate):
				verdict = failed + "CRL has expired"
			default:
				verdict = Success
			}
			if verdict == Success {
				break
			}
		}
		if verdict != Success {
			return verdict
		}
	}
	return Success
}

func lists(l *x509.RevocationList, c *x509.Certificate) bool {
	for i := range l.RevokedCertificateEntries {
		if l.RevokedCertificateEntries[i].SerialNumber.Cmp(c.SerialNumber) == 0 {
			return true
		}
	}
	return false
}

// reason says why a certificate was not valid.
func reason(leaf *x509.Certificate, err error, now time.Time) string {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil && now.Before(invalid.Cert.NotBefore):
		return "certificate is not yet valid"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "certificate has expired"
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return "unsuitable certificate purpose"
	case errors.As(err, &invalid) && invalid.Reason == x509.TooManyIntermediates:
		return "path length constraint exceeded"
	case errors.As(err, &unknown) && string(leaf.RawSubject) == string(leaf.RawIssuer):
		return "self-signed certificate"
	case errors.As(err, &unknown):
		return "unable to get local issuer certificate"
	}
	return "certificate is not valid"
}

// EscapedCertificate returns the certificate as PEM in which every reserved character is
// escaped, nil if there is none.
func (v *Verdict) EscapedCertificate() []byte {
	if v.Certificate == nil {
		return nil
	}
	return escape(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: v.Certificate.Raw}))
}
