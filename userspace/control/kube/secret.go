package kube

import (
	"crypto/x509"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/kerngate/kerngate/userspace/control/cert"
	"github.com/kerngate/kerngate/userspace/model"
)

// keyRevoked is the key of a Secret that holds a revocation list beside ca.crt.
const keyRevoked = "ca.crl"

// keyPasswords is the key of a Secret that holds a file of names and password hashes.
const keyPasswords = "auth"

// usedKeys are the keys of Secrets that anything here reads.
var usedKeys = []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey, corev1.ServiceAccountRootCAKey, keyRevoked, keyPasswords}

// certificate is a pair as it stands in a Secret.
type certificate struct {
	model.Certificate
	leaf *x509.Certificate
}

// secretError says why a Secret cannot be used.
type secretError struct {
	reason  string // of the Problem
	message string // never holds a byte of the Secret
}

func (e *secretError) Error() string { return e.message }

func reasonOf(err error) string {
	if e := (*secretError)(nil); errors.As(err, &e) {
		return e.reason
	}
	return "SecretInvalid"
}

// secretMemory keeps what was read of Secrets, which are never changed in place, from one
// translation to the next: checking a thousand keys takes longer than all the rest.
type secretMemory struct {
	certificates map[name]readCertificate
	authorities  map[name]readAuthority
}

type readCertificate struct {
	secret      *corev1.Secret
	certificate certificate
	err         error
}

type readAuthority struct {
	secret    *corev1.Secret
	authority model.Authority
	err       error
}

func newSecretMemory() *secretMemory {
	return &secretMemory{map[name]readCertificate{}, map[name]readAuthority{}}
}

func (m *secretMemory) forget(n name) {
	delete(m.certificates, n)
	delete(m.authorities, n)
}

// hasPair reports whether the Secret is meant to hold a certificate and its key.
func hasPair(s *corev1.Secret) bool {
	return len(s.Data[corev1.TLSCertKey])+len(s.Data[corev1.TLSPrivateKeyKey]) > 0
}

// certificate reads tls.crt and tls.key.
func (t *translation) certificate(n name) (certificate, error) {
	secret, err := t.lookup.secret(n)
	if err != nil {
		return certificate{}, err
	}
	if known := t.read.certificates[n]; known.secret == secret {
		return known.certificate, known.err
	}
	var c certificate
	if !hasPair(secret) {
		err = errors.New("has neither tls.crt nor tls.key: it must be of type kubernetes.io/tls")
	} else if c.Certificate, err = cert.Pair(n.String(), secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]); err == nil {
		c.leaf, err = c.Leaf()
	}
	if err != nil {
		err = &secretError{"SecretInvalid", fmt.Sprintf("Secret %s: %v", n, err)}
	}
	t.read.certificates[n] = readCertificate{secret, c, err}
	return c, err
}

// authority reads ca.crt and ca.crl.
func (t *translation) authority(n name) (model.Authority, error) {
	secret, err := t.lookup.secret(n)
	if err != nil {
		return model.Authority{}, err
	}
	if known := t.read.authorities[n]; known.secret == secret {
		return known.authority, known.err
	}
	a, err := cert.Authority(n.String(), secret.Data[corev1.ServiceAccountRootCAKey], secret.Data[keyRevoked])
	if err != nil {
		err = &secretError{"SecretInvalid", fmt.Sprintf("Secret %s: %v", n, err)}
	}
	t.read.authorities[n] = readAuthority{secret, a, err}
	return a, err
}
