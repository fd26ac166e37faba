package cert_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/control/cert"
	"github.com/kerngate/kerngate/userspace/control/cert/certtest"
)

var authority = certtest.NewAuthority("Test CA")

func TestPair(t *testing.T) {
	for _, kind := range []string{certtest.ECDSA, certtest.RSA, certtest.Ed25519} {
		chain, key := authority.Pair(kind, "a.example.com", "*.b.example.com")
		text := append([]byte("Subject: something that openssl printed\n"), append(chain, authority.PEM()...)...)
		c, err := cert.Pair("ns/s", text, append([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"), key...))
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if !bytes.Equal(c.Chain, append(chain, authority.PEM()...)) || !bytes.Equal(c.Key, key) {
			t.Errorf("%s: chain or key are not what was given, without the rest", kind)
		}
		leaf, err := c.Leaf()
		if err != nil {
			t.Fatal(err)
		}
		for host, want := range map[string]bool{"a.example.com": true, "x.b.example.com": true, "*.b.example.com": true, "b.example.com": false, "*.example.com": false, "x.y.b.example.com": false} {
			if got := cert.Covers(leaf, host); got != want {
				t.Errorf("%s: covers %s: %t", kind, host, got)
			}
		}
	}
}

func TestPairRefuses(t *testing.T) {
	chain, key := authority.Pair(certtest.ECDSA, "a.example.com")
	_, rsa := authority.Pair(certtest.RSA, "a.example.com")
	long := bytes.Repeat(chain, 65)
	block, _ := pem.Decode(key)
	for want, c := range map[string]struct{ chain, key []byte }{
		"tls.crt: holds no certificate in PEM":              {nil, key},
		"tls.crt: holds a private key where":                {key, key},
		"tls.crt: holds more than 64 certificates":          {long, key},
		"tls.crt: is larger than 1024 KiB":                  {make([]byte, 1<<20+1), key},
		"tls.crt: certificate 1 cannot be read":             {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), key},
		"tls.key: holds no private key in PEM":              {chain, chain},
		"tls.key: the private key is none of":               {chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: block.Bytes[:40]})},
		"tls.key: the private key is encrypted":             {chain, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: block.Bytes})},
		"tls.key is not the key of the first certificate":   {chain, rsa},
		"tls.key is not the key of the first certificate i": {append(authority.PEM(), chain...), key},
	} {
		_, err := cert.Pair("ns/s", c.chain, c.key)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
			continue
		}
		if part := certtest.Leaks(err.Error(), key) + certtest.Leaks(err.Error(), rsa); part != "" {
			t.Errorf("%v holds %q of the key", err, part)
		}
	}
}

func TestAuthority(t *testing.T) {
	a, err := cert.Authority("ns/ca", authority.PEM(), authority.Revocation())
	if err != nil || !bytes.Equal(a.Certificates, authority.PEM()) || len(a.Revoked) == 0 {
		t.Fatalf("%+v, %v", a, err)
	}
	for want, c := range map[string]struct{ signers, revoked []byte }{
		"ca.crt: holds no certificate":             {nil, nil},
		"ca.crl: holds no X509 CRL":                {authority.PEM(), []byte("none")},
		"ca.crl: the revocation list cannot be re": {authority.PEM(), pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte("x")})},
	} {
		if _, err := cert.Authority("ns/ca", c.signers, c.revoked); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestLeaks: what other tests search by finds a key in each form in which it gets printed.
func TestLeaks(t *testing.T) {
	for _, kind := range []string{certtest.ECDSA, certtest.RSA, certtest.Ed25519} {
		chain, key := authority.Pair(kind, "a.example.com")
		block, _ := pem.Decode(key)
		for what, text := range map[string]string{
			"PEM": string(key), "Secret": base64.StdEncoding.EncodeToString(key), "DER in hex": hex.EncodeToString(block.Bytes),
			"DER as numbers": fmt.Sprint(block.Bytes), "PEM as numbers": fmt.Sprint(key), "PEM quoted": fmt.Sprintf("%q", key),
		} {
			if certtest.Leaks("before "+text+" after", key) == "" {
				t.Errorf("%s key as %s is not found", kind, what)
			}
		}
		if part := certtest.Leaks(string(chain), key); part != "" {
			t.Errorf("%s: the chain holds %q", kind, part)
		}
	}
}

// FuzzPair: whatever the text, there is a pair that crypto/tls takes, or an error.
func FuzzPair(f *testing.F) {
	chain, key := authority.Pair(certtest.ECDSA, "a.example.com")
	f.Add(chain, key)
	f.Add(key, chain)
	f.Fuzz(func(t *testing.T, chain, key []byte) {
		c, err := cert.Pair("ns/s", chain, key)
		if err != nil {
			return
		}
		if _, err := c.Leaf(); err != nil {
			t.Errorf("accepted, but the leaf cannot be read: %v", err)
		}
	})
}
