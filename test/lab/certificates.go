//go:build linux

package lab

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// Authority signs certificates for one run; its key is nowhere but in memory.
type Authority struct {
	Certificate *x509.Certificate
	PEM         []byte

	key crypto.Signer
}

// NewAuthority makes an authority with a self-signed certificate.
func NewAuthority(name string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make authority %s: %w", name, err)
	}
	a := &Authority{PEM: pemBlock("CERTIFICATE", der), key: key}
	a.Certificate, err = x509.ParseCertificate(der)
	return a, err
}

// Pool holds the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Certificate)
	return pool
}

// KeyKind is a kind of key.
type KeyKind int

const (
	ECDSA KeyKind = iota // P-256
	RSA                  // 2048 bits
)

// Request says what a certificate is to be for.
type Request struct {
	Subject string   // common name
	Names   []string // DNS names, or IP addresses
	Kind    KeyKind
	Expires time.Time // zero: in 30 days
}

// Certificate is a certificate with its key.
type Certificate struct {
	Chain, Key []byte // PEM
	TLS        tls.Certificate
}

// Issue makes a key and a certificate for servers and clients.
func (a *Authority) Issue(r Request) (*Certificate, error) {
	var key crypto.Signer
	var err error
	if r.Kind == RSA {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: r.Subject},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: r.Expires,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if r.Expires.IsZero() {
		template.NotAfter = time.Now().Add(30 * 24 * time.Hour)
	}
	for _, name := range r.Names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Certificate, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for %v: %w", r.Names, err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	c := &Certificate{Chain: pemBlock("CERTIFICATE", der), Key: pemBlock("PRIVATE KEY", private)}
	c.TLS, err = tls.X509KeyPair(c.Chain, c.Key)
	return c, err
}

// TLSSecret describes the Secret of a certificate.
func TLSSecret(name string, c *Certificate) Object {
	return Object{
		"apiVersion": "v1", "kind": "Secret", "metadata": metadata(name), "type": "kubernetes.io/tls",
		"data": Object{"tls.crt": base64.StdEncoding.EncodeToString(c.Chain), "tls.key": base64.StdEncoding.EncodeToString(c.Key)},
	}
}

// AuthoritySecret describes the Secret with an authority's certificate.
func AuthoritySecret(name string, a *Authority) Object {
	return Object{
		"apiVersion": "v1", "kind": "Secret", "metadata": metadata(name), "type": "Opaque",
		"data": Object{"ca.crt": base64.StdEncoding.EncodeToString(a.PEM)},
	}
}

// WithTLS adds a Secret for these hosts to an Ingress; none: for every host without one.
func WithTLS(ingress Object, secret string, hosts ...string) Object {
	spec := ingress["spec"].(Object)
	list, _ := spec["tls"].([]Object)
	entry := Object{"secretName": secret}
	if len(hosts) > 0 {
		entry["hosts"] = hosts
	}
	spec["tls"] = append(list, entry)
	return ingress
}

// Annotate adds an annotation to an object.
func Annotate(object Object, key, value string) Object {
	meta := object["metadata"].(Object)
	annotations, _ := meta["annotations"].(Object)
	if annotations == nil {
		annotations = Object{}
		meta["annotations"] = annotations
	}
	annotations[key] = value
	return object
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return n
}

func pemBlock(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
