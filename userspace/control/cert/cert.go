// Package cert reads certificate chains, private keys and authorities from PEM, as they
// stand in Secrets and files. In: bytes that anybody may have written. Out: the same with
// everything that is not needed left out, or an error that says what is wrong and never
// holds a byte of what was read.
package cert

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/kerngate/kerngate/userspace/model"
)

const (
	// maxChain bounds the certificates of a chain or an authority.
	maxChain = 64
	// maxPEM is the size in bytes of the largest PEM text that is read.
	maxPEM = 1 << 20
	// minRSA is the size in bits of the smallest RSA key that clients accept.
	minRSA = 1024
)

// Pair reads a chain, leaf first, and the leaf's key.
func Pair(id string, chain, key []byte) (model.Certificate, error) {
	c := model.Certificate{ID: id}
	parsed, text, err := certificates(chain)
	if err != nil {
		return c, fmt.Errorf("tls.crt: %w", err)
	}
	c.Chain = text
	private, block, err := privateKey(key)
	if err != nil {
		return c, fmt.Errorf("tls.key: %w", err)
	}
	public, ok := private.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(parsed[0].PublicKey) {
		return c, errors.New("tls.key is not the key of the first certificate in tls.crt: put the leaf first, and its own key beside it")
	}
	if k, ok := private.(*rsa.PrivateKey); ok && k.N.BitLen() < minRSA {
		return c, fmt.Errorf("tls.key: an RSA key of %d bits is not accepted by clients: use 2048 or more", k.N.BitLen())
	}
	c.Key = pem.EncodeToMemory(block)
	return c, nil
}

// Authority reads the certificates that sign others, and a revocation list, which may be
// empty.
func Authority(id string, signers, revoked []byte) (model.Authority, error) {
	a := model.Authority{ID: id}
	_, text, err := certificates(signers)
	if err != nil {
		return a, fmt.Errorf("ca.crt: %w", err)
	}
	a.Certificates = text
	if len(bytes.TrimSpace(revoked)) == 0 {
		return a, nil
	}
	block, _ := pem.Decode(revoked)
	if block == nil || block.Type != "X509 CRL" {
		return a, errors.New("ca.crl: holds no X509 CRL in PEM")
	}
	if _, err := x509.ParseRevocationList(block.Bytes); err != nil {
		return a, errors.New("ca.crl: the revocation list cannot be read")
	}
	a.Revoked = revoked
	return a, nil
}

// certificates reads every certificate of a PEM text, and returns the text with nothing
// else in it.
func certificates(text []byte) (parsed []*x509.Certificate, clean []byte, err error) {
	if len(text) > maxPEM {
		return nil, nil, fmt.Errorf("is larger than %d KiB", maxPEM>>10)
	}
	var key bool
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			key = key || bytes.HasSuffix([]byte(block.Type), []byte("PRIVATE KEY"))
			continue
		}
		if len(parsed) == maxChain {
			return nil, nil, fmt.Errorf("holds more than %d certificates", maxChain)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, fmt.Errorf("certificate %d cannot be read: %w", len(parsed)+1, err)
		}
		parsed = append(parsed, c)
		clean = append(clean, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
	}
	switch {
	case len(parsed) > 0:
		return parsed, clean, nil
	case key:
		return nil, nil, errors.New("holds a private key where a certificate should be")
	}
	return nil, nil, errors.New("holds no certificate in PEM")
}

// privateKey reads the first private key of a PEM text. Its errors are fixed texts: what
// a parser says of a key may quote it.
func privateKey(text []byte) (crypto.Signer, *pem.Block, error) {
	if len(text) > maxPEM {
		return nil, nil, fmt.Errorf("is larger than %d KiB", maxPEM>>10)
	}
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, nil, errors.New("holds no private key in PEM")
		}
		switch block.Type {
		case "EC PARAMETERS", "CERTIFICATE":
			continue
		case "ENCRYPTED PRIVATE KEY":
			return nil, nil, errors.New("the private key is encrypted: store it decrypted")
		}
		if block.Headers["DEK-Info"] != "" {
			return nil, nil, errors.New("the private key is encrypted: store it decrypted")
		}
		key, ok := parseKey(block.Bytes)
		if !ok {
			return nil, nil, errors.New("the private key is none of PKCS #8, PKCS #1 and SEC 1, or is damaged")
		}
		return key, &pem.Block{Type: block.Type, Bytes: block.Bytes}, nil
	}
}

func parseKey(der []byte) (crypto.Signer, bool) {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		switch key := key.(type) {
		case *rsa.PrivateKey:
			return key, true
		case *ecdsa.PrivateKey:
			return key, true
		case ed25519.PrivateKey:
			return key, true
		}
		return nil, false // a key that cannot sign
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, true
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, true
	}
	return nil, false
}

// Covers reports whether a client that asked for the host accepts the certificate's
// names. A wildcard host needs that very name.
func Covers(c *x509.Certificate, host string) bool {
	if len(host) > 2 && host[:2] == "*." {
		for _, name := range c.DNSNames {
			if name == host {
				return true
			}
		}
		return false
	}
	return c.VerifyHostname(host) == nil
}
