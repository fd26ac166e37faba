// Package certtest makes certificates for tests: the same ones at every run, so that their
// fingerprints can stand in golden files. Nothing that it makes is secret.
package certtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

//go:embed rsa.pem
var rsaPEM []byte

// Kinds of keys.
const (
	ECDSA   = "ecdsa"
	RSA     = "rsa"
	Ed25519 = "ed25519"
)

// What certificates are valid for unless they are told otherwise.
var (
	NotBefore = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	NotAfter  = time.Date(2070, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Authority signs certificates.
type Authority struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// NewAuthority returns the authority of that name. Its signatures are the same each time.
func NewAuthority(name string) *Authority { return NewAuthorityOf(Ed25519, name) }

// NewAuthorityOf returns an authority with a key of that kind, for what does not know
// Ed25519. ECDSA signatures differ from run to run.
func NewAuthorityOf(kind, name string) *Authority {
	seed := sha256.Sum256([]byte("authority " + name))
	key, _ := newKey(kind, "authority "+name)
	template := &x509.Certificate{
		SerialNumber: serial("authority " + name), Subject: pkix.Name{CommonName: name},
		NotBefore: NotBefore, NotAfter: NotAfter, SubjectKeyId: seed[:20], // else Go's version decides
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return &Authority{must(x509.ParseCertificate(der)), key}
}

// PEM returns the authority's own certificate.
func (a *Authority) PEM() []byte { return certificatePEM(a.Certificate.Raw) }

// Revocation returns a list, as PEM, that holds the serial numbers.
func (a *Authority) Revocation(serials ...*big.Int) []byte {
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: NotBefore, NextUpdate: NotAfter}
	for _, s := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: NotBefore})
	}
	der := must(x509.CreateRevocationList(rand.Reader, list, a.Certificate, a.Key))
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// Pair returns a chain of one certificate for the names, and its key.
func (a *Authority) Pair(kind string, names ...string) (chain, key []byte) {
	return a.Make(kind, func(c *x509.Certificate) { c.DNSNames = names })
}

// Make is Pair with all of the certificate to choose. The key depends on what is chosen.
func (a *Authority) Make(kind string, change func(*x509.Certificate)) (chain, key []byte) {
	template := &x509.Certificate{
		NotBefore: NotBefore, NotAfter: NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	change(template)
	id := fmt.Sprint(kind, template.Subject, template.DNSNames, template.NotBefore, template.NotAfter)
	if template.SerialNumber == nil {
		template.SerialNumber = serial(id)
	}
	signer, keyPEM := newKey(kind, id)
	der := must(x509.CreateCertificate(rand.Reader, template, a.Certificate, signer.Public(), a.Key))
	return certificatePEM(der), keyPEM
}

// newKey derives a key from the text; there is one RSA key only.
func newKey(kind, text string) (crypto.Signer, []byte) {
	seed := sha256.Sum256([]byte(text))
	switch kind {
	case ECDSA:
		key := must(ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:]))
		return key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: must(x509.MarshalECPrivateKey(key))})
	case Ed25519:
		key := ed25519.NewKeyFromSeed(seed[:])
		return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))})
	case RSA:
		block, _ := pem.Decode(rsaPEM)
		return must(x509.ParsePKCS1PrivateKey(block.Bytes)), slices.Clone(rsaPEM)
	}
	panic("certtest: no kind of key " + kind)
}

// Leaks returns what of a key stands in a text: a line of its PEM, which is also part of
// its base64 once more encoded, or its bytes in hex. It is "" if nothing does.
func Leaks(text string, key []byte) string {
	block, _ := pem.Decode(key)
	for line := range strings.Lines(string(key)) {
		if line = strings.TrimSpace(line); len(line) >= 16 && !strings.HasPrefix(line, "-----") && strings.Contains(text, line) {
			return line
		}
	}
	for _, part := range forms(block.Bytes, key) {
		if strings.Contains(text, part) {
			return part
		}
	}
	return ""
}

func serial(text string) *big.Int {
	sum := sha256.Sum256([]byte(text))
	return new(big.Int).SetBytes(sum[:8])
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("certtest: %v", err))
	}
	return v
}
