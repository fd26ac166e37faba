package kube

import (
	"crypto/x509"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/kerngate/kerngate/userspace/cert"
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

// secrets looks Secrets up and reads what is in them.
type secrets struct {
	all        map[name]*corev1.Secret
	unreadable map[string]string // why the Secrets of a namespace cannot be read
	read       *secretMemory     // nil: every Secret is read anew
	used       map[name]struct{} // that something names, there or not
}

// secretMemory keeps what was read of Secrets, which are never changed in place, from one
// translation to the next: checking a thousand keys takes longer than all the rest.
type secretMemory struct {
	certificates map[*corev1.Secret]readCertificate
	authorities  map[*corev1.Secret]readAuthority
}

type readCertificate struct {
	certificate certificate
	err         error
}

type readAuthority struct {
	authority model.Authority
	err       error
}

func newSecretMemory() *secretMemory {
	return &secretMemory{map[*corev1.Secret]readCertificate{}, map[*corev1.Secret]readAuthority{}}
}

// keepOnly forgets Secrets that are not in use any more.
func (m *secretMemory) keepOnly(s *secrets) {
	alive := make(map[*corev1.Secret]bool, len(s.used))
	for n := range s.used {
		alive[s.all[n]] = true
	}
	for secret := range m.certificates {
		if !alive[secret] {
			delete(m.certificates, secret)
		}
	}
	for secret := range m.authorities {
		if !alive[secret] {
			delete(m.authorities, secret)
		}
	}
}

// missing says why there is no such Secret, nil if there is.
func (s *secrets) missing(n name) error {
	s.used[n] = struct{}{}
	if s.all[n] != nil {
		return nil
	}
	if why := s.unreadable[n.namespace]; why != "" {
		return &secretError{"SecretUnreadable", fmt.Sprintf("Secret %s cannot be read: %s", n, why)}
	}
	return &secretError{"SecretNotFound", fmt.Sprintf("Secret %s does not exist", n)}
}

// hasPair reports whether the Secret is meant to hold a certificate and its key.
func (s *secrets) hasPair(n name) bool {
	secret := s.all[n]
	return secret != nil && len(secret.Data[corev1.TLSCertKey])+len(secret.Data[corev1.TLSPrivateKeyKey]) > 0
}

// certificate reads tls.crt and tls.key.
func (s *secrets) certificate(n name) (certificate, error) {
	if err := s.missing(n); err != nil {
		return certificate{}, err
	}
	secret := s.all[n]
	if s.read != nil {
		if known, ok := s.read.certificates[secret]; ok {
			return known.certificate, known.err
		}
	}
	var c certificate
	var err error
	if !s.hasPair(n) {
		err = errors.New("has neither tls.crt nor tls.key: it must be of type kubernetes.io/tls")
	} else if c.Certificate, err = cert.Pair(n.String(), secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]); err == nil {
		c.leaf, err = c.Leaf()
	}
	if err != nil {
		err = &secretError{"SecretInvalid", fmt.Sprintf("Secret %s: %v", n, err)}
	}
	if s.read != nil {
		s.read.certificates[secret] = readCertificate{c, err}
	}
	return c, err
}

// authority reads ca.crt and ca.crl.
func (s *secrets) authority(n name) (model.Authority, error) {
	if err := s.missing(n); err != nil {
		return model.Authority{}, err
	}
	secret := s.all[n]
	if s.read != nil {
		if known, ok := s.read.authorities[secret]; ok {
			return known.authority, known.err
		}
	}
	a, err := cert.Authority(n.String(), secret.Data[corev1.ServiceAccountRootCAKey], secret.Data[keyRevoked])
	if err != nil {
		err = &secretError{"SecretInvalid", fmt.Sprintf("Secret %s: %v", n, err)}
	}
	if s.read != nil {
		s.read.authorities[secret] = readAuthority{a, err}
	}
	return a, err
}
